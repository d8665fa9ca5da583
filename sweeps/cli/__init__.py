"""The command `pinnsweep`: arguments in, text or JSON out."""

from .app import main as main
