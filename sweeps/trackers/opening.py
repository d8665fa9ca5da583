"""The trackers by their names."""

from __future__ import annotations

from pathlib import Path

from ..spec.sections import MLflowSettings, TensorBoardSettings, WandbSettings
from .mlflow import MLflow
from .tensorboard import TensorBoard
from .tracker import Tracker
from .wandb import Wandb


def tracker_of(settings: TensorBoardSettings | MLflowSettings | WandbSettings, study_dir: Path, study: str) -> Tracker:
    """Return the tracker that these settings describe; nothing is imported or written yet."""
    match settings:
        case TensorBoardSettings():
            return TensorBoard(settings, study_dir)
        case MLflowSettings():
            return MLflow(settings, study_dir, study)
        case WandbSettings():
            return Wandb(settings, study_dir)
