"""Runs in Weights & Biases: settings as config, results as summary, curves as history by evaluations."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..states import FAIL
from .member_runs import STEPS, MemberRun
from .tracker import CURVES

if TYPE_CHECKING:
    from ..spec.sections import WandbSettings

OFFLINE: Final = "offline"


class Wandb:
    """The runs of a study in a project, grouped by the study; offline they are in the folder `wandb` of the study."""

    def __init__(self, settings: WandbSettings, study_dir: Path) -> None:
        self._settings, self._folder = settings, study_dir.absolute()
        self._mode: Any = settings.mode or os.environ.get("WANDB_MODE") or "online"

    @property
    def place(self) -> str:
        """Return the project, or the folder that `wandb sync` sends to it."""
        project = (
            f"{self._settings.entity}/{self._settings.project}" if self._settings.entity else self._settings.project
        )
        return f"{project}, offline in {self._folder / 'wandb'}" if self._mode == OFFLINE else project

    def log(self, run: MemberRun) -> None:
        """Create the run in the project. Raises `wandb.Error`."""
        import wandb

        for earlier in self._folder.glob(f"wandb/offline-run-*-{run.key}"):
            shutil.rmtree(earlier)
        created = wandb.init(
            project=self._settings.project,
            entity=self._settings.entity,
            mode=self._mode,
            dir=self._folder,
            id=run.key,  # online, a run of the same id is replaced
            name=run.name,
            group=run.study,
            tags=[run.state],
            config=dict(run.settings),
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,  # of this process, which trains nothing
                x_disable_meta=True,
            ),
        )
        created.define_metric(STEPS)
        created.define_metric(f"{CURVES}/*", step_metric=STEPS)
        for row in _history(run):
            created.log(row)
        created.summary.update({**run.words, **run.metrics})
        created.finish(exit_code=1 if run.state == FAIL else 0)

    def close(self) -> None:
        """End the library's own process."""
        if (wandb := sys.modules.get("wandb")) is not None:
            wandb.teardown()


def _history(run: MemberRun) -> list[dict[str, float]]:
    """Return one row for each number of evaluations, with all curves that were taken there."""
    rows: dict[int, dict[str, float]] = {}
    for name, curve in run.curves.items():
        for step, value in zip(curve.evaluations, curve.values, strict=True):
            rows.setdefault(step, {STEPS: step})[f"{CURVES}/{name}"] = value
    return [rows[step] for step in sorted(rows)]
