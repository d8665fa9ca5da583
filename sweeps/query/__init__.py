"""Tables as SQL, rows, files and text."""
