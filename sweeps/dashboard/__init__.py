"""A study in optuna-dashboard, read-only."""
