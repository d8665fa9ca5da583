"""One trial: shown, trained again, evaluated, written into a file."""
