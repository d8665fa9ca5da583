"""Runs as event files, which TensorBoard shows: a folder STUDY/TRIAL each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .member_runs import MemberRun
from .tracker import CURVES

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

    from ..spec.sections import TensorBoardSettings

FOLDER = "tensorboard"  # in the folder of a study


class TensorBoard:
    """The event files of a study. A run is written beside them and moved into its place, so that none is torn."""

    def __init__(self, settings: TensorBoardSettings, study_dir: Path) -> None:
        self._folder = Path(settings.folder) if settings.folder else study_dir.absolute() / FOLDER

    @property
    def place(self) -> str:
        """Return the folder for `tensorboard --logdir`."""
        return str(self._folder)

    def log(self, run: MemberRun) -> None:
        """Write the event file of a run. Raises `OSError`."""
        from tensorboardX import SummaryWriter

        final, beside = self._folder / run.name, self._folder.with_name(f".{self._folder.name}-{run.key}.new")
        shutil.rmtree(beside, ignore_errors=True)
        with SummaryWriter(str(beside)) as writer:
            _write(run, writer)
        shutil.rmtree(final, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(beside, final)

    def close(self) -> None:
        """Do nothing: every file is closed."""


def _write(run: MemberRun, writer: SummaryWriter) -> None:
    from tensorboardX.summary import hparams

    start_s = run.started_at.timestamp() if run.started_at else 0.0
    for name, curve in run.curves.items():
        for step, value, seconds in zip(curve.evaluations, curve.values, curve.seconds, strict=True):
            writer.add_scalar(f"{CURVES}/{name}", value, step, walltime=start_s + (seconds or 0.0))
    end_s = run.finished_at.timestamp() if run.finished_at else start_s
    last = int(run.metrics.get("evaluations", 0))
    for name, value in run.metrics.items():
        writer.add_scalar(name, value, last, walltime=end_s)
    for summary in hparams(dict(run.settings), dict(run.metrics)):  # the page HPARAMS, a row for each run
        writer.file_writer.add_summary(summary)
    rows = "\n".join(f"| {name} | {_cell(text)} |" for name, text in run.words.items())
    writer.add_text("trial", f"| | |\n|---|---|\n{rows}", last, walltime=end_s)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
