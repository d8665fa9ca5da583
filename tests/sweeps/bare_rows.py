"""Studies made of rows of `trials` only, without training: columns that are not given are null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.spec.dimensions import dimension
from sweeps.storage.tables import StudyTables

from .problems import of_strain

Row = dict[str, Any]
SPACE = {
    "adam_lr": {"loguniform": [1e-4, 1e-2]},
    "scale_factor": {"uniform": [1.0, 4.0]},
    "depth": {"int": [1, 5]},
    "width": {"choice": [8, 16, 32]},
    "init": {"choice": ["torch", "keras", "tf1"]},
}


def study(folder: Path, search: str, rows: Sequence[Row], more: str = "") -> Path:
    """Return a study with one publication of the given rows and further lines in its study file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(f"study: {folder.name}\nsearch: {{{search}}}\n{more}")
    StudyTables(of_strain(folder)).publish("rows", trials=rows)
    return folder


def row(trial: int, rel_l2: float | None, replicate: int = 0, **columns: Any) -> Row:
    """Return the row of a complete member with this error, or of a failed one if the error is None."""
    state = "FAIL" if rel_l2 is None else "COMPLETE"
    return {"trial": trial, "replicate": replicate, "state": state, "rel_l2": rel_l2, **columns}


def replicates(trial: int, *errors: float | None, **columns: Any) -> list[Row]:
    """Return the rows of the replicates of one trial, by their errors."""
    return [row(trial, error, replicate, **columns) for replicate, error in enumerate(errors)]


def drawn(space: dict[str, Any], number: int, seed: int = 0) -> list[Row]:
    """Return random points of a space without conditional dimensions."""
    kinds = {name: dimension(*next(iter(kind.items()))) for name, kind in space.items()}
    draw = np.random.default_rng(seed)
    return [{name: kind.from_unit(draw.random()) for name, kind in kinds.items()} for _ in range(number)]


def planted(
    folder: Path,
    number: int,
    error: Callable[[Row], float | None],
    *,
    space: dict[str, Any] | None = None,
    search: str = "sampler: random",
    seed: int = 0,
) -> Path:
    """Return a study of random points whose error is a known function of the settings; None makes a trial fail."""
    space = space or SPACE
    points = drawn(space, number, seed)
    rows = [row(trial, error(point), **point) for trial, point in enumerate(points)]
    lines = "".join(f"  {name}: {kind}\n" for name, kind in space.items())
    return study(folder, f"trials: {max(number, 1)}, {search}", rows, f"space:\n{lines}".replace("'", ""))
