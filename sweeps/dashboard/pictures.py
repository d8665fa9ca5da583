"""Pictures of one trial as PNG files on a white ground, each by its name, made when somebody asks for one."""

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

from ..figures import courses
from ..figures import fields as fieldfigures
from ..figures.drawing import STYLE, drawn
from ..storage.tables import StudyTables, of_member

FIELDS: Final = ("predicted", "reference", "error")
TRAINING: Final = "training"
REPLICATES: Final = "replicates"
PICTURES: Final = (*FIELDS, TRAINING, REPLICATES)


def trial_picture(tables: StudyTables, name: str, trial: int, replicate: int) -> bytes:
    """One of `PICTURES` of a replicate, as a PNG; where what it shows was not kept, a picture that says so.

    `predicted` and `reference` share a colour scale; `replicates` shows all of the trial.
    Raises `StudyError` for a damaged table.
    """
    if name in FIELDS:
        png = _field(tables, name, trial, replicate)
    elif name == TRAINING:
        png = _training(tables, trial, replicate)
    else:
        png = _replicates(tables, trial)
    return _on_white(png or _nothing(f"The {name} of trial {trial} cannot be drawn:\nwhat it shows was not kept."))


def _field(tables: StudyTables, name: str, trial: int, replicate: int) -> bytes | None:
    columns = ("x_mm", "y_mm", "predicted", "reference")
    found = _rows(tables, "fields", columns, trial, replicate)
    x_mm, y_mm, predicted, reference = (found[column].to_numpy() for column in columns)
    is_known = bool(np.isfinite(reference).all())
    if len(x_mm) < 3 or (name != "predicted" and not is_known):
        return None
    title = f"{name.capitalize()}, {_named(trial, replicate)}"
    if name == "error":
        return fieldfigures.strain_error(x_mm, y_mm, predicted - reference, title=title, format="png")
    scale = reference if is_known else predicted
    limits = (min(0.0, float(scale.min())), float(scale.max()))
    strain = predicted if name == "predicted" else reference
    return fieldfigures.strain_field(x_mm, y_mm, strain, title=title, limits=limits, format="png")


def _training(tables: StudyTables, trial: int, replicate: int) -> bytes | None:
    curve = _rows(tables, "curves", None, trial, replicate)
    if not curve.num_rows:
        return None
    (row,) = _rows(tables, "trials", ("first_stage", "second_stage"), trial, replicate).to_pylist()
    columns = curve.to_pydict()
    columns["phase"] = [row[f"{phase}_stage"] for phase in columns["phase"]]
    return courses.training_curves(columns, title=f"Training, {_named(trial, replicate)}", format="png")


def _replicates(tables: StudyTables, trial: int) -> bytes | None:
    columns = ("replicate", "evaluations", "rel_l2")
    found = tables.read("curves", columns=columns, where=ds.field("trial") == trial).drop_null()
    number, evaluations, error = (found[column].to_numpy() for column in columns)
    if not np.isfinite(error).any():
        return None
    curves: dict[Hashable, tuple[Any, Any]] = {
        int(each): (evaluations[number == each], error[number == each]) for each in np.unique(number)
    }
    return courses.error_curves(curves, best=None, title=f"Replicates of trial {trial}", format="png")


def _rows(tables: StudyTables, table: str, columns: tuple[str, ...] | None, trial: int, replicate: int) -> pa.Table:
    return tables.read(table, columns=columns, where=of_member(trial, replicate))


def _named(trial: int, replicate: int) -> str:
    return f"trial {trial}" + (f" replicate {replicate}" if replicate else "")


@matplotlib.rc_context(STYLE)
def _nothing(text: str) -> bytes:
    figure = Figure(figsize=(4.0, 3.35))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return drawn(figure, "png")


def _on_white(png: bytes) -> bytes:
    """The same picture without transparency: the page it is shown on may be dark."""
    pixels: Any = imread(io.BytesIO(png), format="png")  # [height, width, 4], from 0 to 1
    alpha = pixels[..., 3:]
    stream = io.BytesIO()
    imsave(stream, pixels[..., :3] * alpha + (1 - alpha), format="png", metadata={"Software": ""})
    return stream.getvalue()
