print("my own optuna experiments")
