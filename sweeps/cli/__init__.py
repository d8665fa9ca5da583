"""The command `pinnsweep`: it reads arguments and prints text or JSON."""

from .app import main as main
