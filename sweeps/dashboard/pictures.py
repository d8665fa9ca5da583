"""Pictures of one trial as PNG files on a white background, made by name on request."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from matplotlib.figure import Figure

from pinncore.problems.record import ProblemRecord

from ..figures import courses
from ..figures.drawing import STYLE, picture_bytes
from ..figures.fields import KeptField
from ..storage.tables import StudyTables, of_member

FIELDS: Final = ("predicted", "reference", "error")
TRAINING: Final = "training"
REPLICATES: Final = "replicates"
_FEWEST: Final = 3  # points of a field
PICTURES: Final = (*FIELDS, TRAINING, REPLICATES)


def fields_of(problem: ProblemRecord, *, has_reference: bool) -> tuple[str, ...]:
    """Return the pictures of the field of a training; over one coordinate, one has prediction, reference and error."""
    return FIELDS if has_reference and len(problem.coordinates) > 1 else FIELDS[:1]


def trial_picture(tables: StudyTables, name: str, trial: int, replicate: int) -> bytes:
    """Return one of `PICTURES` of a replicate as a PNG; where its data were not kept, a picture that says so.

    `predicted` and `reference` share a colour scale; `replicates` shows all replicates of the trial. Raises
    `StudyError` where a table is damaged.
    """
    member, columns = of_member(trial, replicate), ("first_stage", "second_stage")
    (row,) = tables.read("trials", columns=columns, where=member).to_pylist()
    title = f"trial {trial}" + (f" replicate {replicate}" if replicate else "")
    if name == TRAINING:
        figure = _training(tables.read("curves", where=member).to_pydict(), row, title)
    elif name == REPLICATES:
        figure = _replicates(tables, trial)
    else:
        figure = _field(tables.read("fields", where=member), name, tables.problem, title)
    figure = figure or _message(f"The picture {name} of trial {trial} cannot be drawn:\nits data were not kept.")
    return picture_bytes(figure, "png", transparent=False)  # it may be shown on a dark page


def _field(rows: pa.Table, name: str, problem: ProblemRecord, title: str) -> Figure | None:
    if rows.num_rows < _FEWEST:
        return None
    columns = {column: rows[column].to_numpy() for column in rows.column_names}
    kept = KeptField(problem.coordinates, problem.outputs, columns)
    kinds = (name, "lines") if name == FIELDS[0] else (name,)  # lines show the reference and the error too
    pictures = [picture for row in kept.rows for picture in row if picture.kind in kinds and not picture.is_log]
    return kept.figure(*pictures, of=f", {title}") if pictures and kept.is_drawable else None


def _training(curve: dict[str, Any], stages: Mapping[str, str], title: str) -> Figure | None:
    curve["phase"] = [stages[f"{phase}_stage"] for phase in curve["phase"]]
    return courses.training_curves(curve, title=f"Training, {title}") if curve["phase"] else None


def _replicates(tables: StudyTables, trial: int) -> Figure | None:
    columns = ("replicate", "evaluations", "rel_l2")
    points = tables.read("curves", columns=columns, where=ds.field("trial") == trial).drop_null()
    replicates, evaluations, error = (points[column].to_numpy() for column in columns)
    if not np.isfinite(error).any():
        return None
    curves: dict[Hashable, tuple[Any, Any]] = {
        int(replicate): (evaluations[replicates == replicate], error[replicates == replicate])
        for replicate in np.unique(replicates)
    }
    return courses.error_curves(curves, best=None, title=f"Replicates of trial {trial}")


@matplotlib.rc_context(STYLE)
def _message(text: str) -> Figure:
    figure = Figure(figsize=(4.0, 3.35))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
