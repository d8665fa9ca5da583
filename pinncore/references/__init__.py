"""Solutions of shipped problems that have no formula, to about 1e-8, computed in seconds without any network."""
