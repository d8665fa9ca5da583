"""Pictures of one trial as PNG files on a white background, made by name on request."""

from __future__ import annotations

import io
from collections.abc import Hashable
from typing import Any, Final

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from pinncore.problems import PROBLEMS

from ..figures import courses
from ..figures import fields as fieldfigures
from ..figures.drawing import STYLE, picture_bytes
from ..storage.tables import StudyTables, of_member

FIELDS: Final = ("predicted", "reference", "error")
TRAINING: Final = "training"
REPLICATES: Final = "replicates"
PICTURES: Final = (*FIELDS, TRAINING, REPLICATES)


def trial_picture(tables: StudyTables, name: str, trial: int, replicate: int) -> bytes:
    """Return one of `PICTURES` of a replicate as a PNG; where its data were not kept, a picture that says so.

    `predicted` and `reference` share a colour scale; `replicates` shows all replicates of the trial. Raises
    `StudyError` where a table is damaged.
    """
    if name in FIELDS:
        png = _field(tables, name, trial, replicate)
    elif name == TRAINING:
        png = _training(tables, trial, replicate)
    else:
        png = _replicates(tables, trial)
    return _on_white(png or _message(f"The picture {name} of trial {trial} cannot be drawn:\nits data were not kept."))


def _field(tables: StudyTables, name: str, trial: int, replicate: int) -> bytes | None:
    rows = _rows(tables, "fields", None, trial, replicate)
    columns = {column: rows[column].to_numpy() for column in rows.column_names}
    predicted, reference = columns["predicted"], columns["reference"]
    is_known = bool(np.isfinite(reference).all())
    if len(predicted) < 3 or (name != "predicted" and not is_known):
        return None
    title = f"{name.capitalize()}, {_title(trial, replicate)}"
    (about,) = _rows(tables, "trials", ("problem",), trial, replicate).to_pylist()
    problem = PROBLEMS[about["problem"]]
    plane = fieldfigures.Plane.of(problem, columns)
    if name == "error":
        return fieldfigures.error_map(plane, predicted - reference, title=title, unit=problem.unit, format="png")
    scale = reference if is_known else predicted
    limits = (min(0.0, float(scale.min())), float(scale.max()))
    return fieldfigures.field_map(
        plane, columns[name], title=title, label=problem.quantity, unit=problem.unit, limits=limits, format="png"
    )


def _training(tables: StudyTables, trial: int, replicate: int) -> bytes | None:
    curve = _rows(tables, "curves", None, trial, replicate)
    if not curve.num_rows:
        return None
    (row,) = _rows(tables, "trials", ("first_stage", "second_stage"), trial, replicate).to_pylist()
    columns = curve.to_pydict()
    columns["phase"] = [row[f"{phase}_stage"] for phase in columns["phase"]]
    return courses.training_curves(columns, title=f"Training, {_title(trial, replicate)}", format="png")


def _replicates(tables: StudyTables, trial: int) -> bytes | None:
    columns = ("replicate", "evaluations", "rel_l2")
    points = tables.read("curves", columns=columns, where=ds.field("trial") == trial).drop_null()
    replicates, evaluations, error = (points[column].to_numpy() for column in columns)
    if not np.isfinite(error).any():
        return None
    curves: dict[Hashable, tuple[Any, Any]] = {
        int(replicate): (evaluations[replicates == replicate], error[replicates == replicate])
        for replicate in np.unique(replicates)
    }
    return courses.error_curves(curves, best=None, title=f"Replicates of trial {trial}", format="png")


def _rows(tables: StudyTables, table: str, columns: tuple[str, ...] | None, trial: int, replicate: int) -> pa.Table:
    return tables.read(table, columns=columns, where=of_member(trial, replicate))


def _title(trial: int, replicate: int) -> str:
    return f"trial {trial}" + (f" replicate {replicate}" if replicate else "")


@matplotlib.rc_context(STYLE)
def _message(text: str) -> bytes:
    figure = Figure(figsize=(4.0, 3.35))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return picture_bytes(figure, "png")


def _on_white(png: bytes) -> bytes:
    """Return the picture on white instead of transparent, because it may be shown on a dark page."""
    pixels: Any = imread(io.BytesIO(png), format="png")  # [height, width, 4], from 0 to 1
    alpha = pixels[..., 3:]
    stream = io.BytesIO()
    imsave(stream, pixels[..., :3] * alpha + (1 - alpha), format="png", metadata={"Software": ""})
    return stream.getvalue()
