"""Sends finished trials to trackers (TensorBoard, MLflow, Weights & Biases), and tells people about a run."""
