"""The owner of a study: which trials train next, in which packs, and what becomes of their results."""
