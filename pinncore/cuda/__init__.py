"""Kernels for GPUs: their sources, how these are compiled and launched, on a GPU or, for tests, on the CPU."""
