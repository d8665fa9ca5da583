"""The error budget: where the error of a trained network comes from."""
