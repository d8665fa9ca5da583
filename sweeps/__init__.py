"""Studies: a space of configurations searched by packs of networks that train together, kept as plain tables."""
