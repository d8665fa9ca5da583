"""The command `pinnsweep`: it reads arguments and prints text or JSON."""


def main() -> None:
    """Run the command line: the entry point of the console script."""
    from .app import app

    app()
