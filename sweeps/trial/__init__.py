"""Commands on one trial: show it, train it again, evaluate it, write its weights into a file."""
