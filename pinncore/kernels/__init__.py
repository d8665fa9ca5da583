"""What compiled kernels are built from, and where they are kept."""
