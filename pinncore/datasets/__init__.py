"""Data sets that come with the package; see docs/data.md for their provenance."""
