"""The tests, in the same folders as what they test."""

from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the checkout
