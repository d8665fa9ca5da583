"""Benchmarks: the same work by this project and by its alternatives, side by side in one run."""
