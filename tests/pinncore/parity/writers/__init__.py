"""Programs that train and record, and know nothing of pinncore: plain NumPy, PyTorch, JAX."""
