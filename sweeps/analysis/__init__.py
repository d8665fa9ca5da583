"""What the results of a study say, and how far that can be trusted."""
