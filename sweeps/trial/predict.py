"""Evaluation of a trained network on a table of points; the prediction is added to the user's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pinncore import TrainedNetwork

from ..errors import StudyError
from ..states import FAIL

TOO_LARGE: Final = 3.0  # times the largest value of the training

Array = NDArray[np.float64]


def read_points(file: Path) -> pa.Table:
    """Read a table of points from CSV or Parquet. Raises `StudyError` where it cannot be read or has no rows."""
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise StudyError(f"{file}: points must be in a .csv or .parquet file")
    if not file.is_file():
        raise StudyError(f"{file} does not exist")
    try:
        table = pq.read_table(str(file)) if file.suffix.lower() == ".parquet" else pyarrow.csv.read_csv(str(file))
    except (pa.ArrowException, OSError) as problem:
        raise StudyError(f"{file} cannot be read: {' '.join(str(problem).split())}") from None
    if not len(table):
        raise StudyError(f"{file} has no rows")
    return table


def members(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the replicates of an ensemble: those of a trial that did not fail. Raises `StudyError` where all did."""
    replicates = [int(row["replicate"]) for row in rows if row["state"] != FAIL]
    if not replicates:
        raise StudyError(f"every replicate of trial {rows[0]['trial']} failed, so there is no ensemble")
    return replicates


def predict(networks: Sequence[TrainedNetwork], points: pa.Table, *, gradient: bool = False) -> pa.Table:
    """Return the points with `predicted`, with its derivatives to the coordinates if `gradient`, and `extrapolated`.

    For several networks, the replicates of one trial, `predicted` is the mean, and `predicted_std`, `predicted_min` and
    `predicted_max` give the spread. Raises `StudyError` where a column is missing or wrong, or where the points already
    have a column of the prediction.
    """
    problem = networks[0].problem
    inputs = {name: _column(points, names) for name, names in _columns(points, networks[0]).items()}
    units = dict.fromkeys(("predicted", "predicted_std", "predicted_min", "predicted_max"), problem.unit)
    predictions = np.stack([network.predict(**inputs) for network in networks])
    columns: dict[str, Any] = {"predicted": predictions.mean(axis=0)}
    if len(networks) > 1:
        columns |= {"predicted_std": predictions.std(axis=0, ddof=1)}
        columns |= {"predicted_min": predictions.min(axis=0), "predicted_max": predictions.max(axis=0)}
    if gradient:
        gradients = np.mean([network.gradient(**inputs) for network in networks], axis=0)
        for coordinate, slopes in zip(problem.coordinates, gradients.T, strict=True):
            name, unit = f"predicted_{coordinate.symbol}", problem.unit
            if coordinate.unit != "1":
                name, unit = f"{name}_per_{coordinate.unit}", f"{unit}/{coordinate.unit}"
            columns[name], units[name] = slopes, unit
    columns["extrapolated"] = ~networks[0].covers(*(inputs[coordinate.name] for coordinate in problem.coordinates))
    existing = [name for name in columns if name in points.column_names]
    if existing:
        raise StudyError(
            f"the points already have a column {', '.join(existing)}, which the prediction would hide: rename it"
        )
    for name, values in columns.items():
        field = pa.field(name, pa.array(values).type, metadata={"unit": units[name]} if name in units else None)
        points = points.append_column(field, pa.array(values))
    return points


def warnings(networks: Sequence[TrainedNetwork], predicted: pa.Table) -> list[str]:
    """Return a sentence on everything that is allowed but likely to mislead."""
    sentences, network = [], networks[0]
    outside = int(np.sum(predicted["extrapolated"].to_numpy()))
    if outside:
        sentences.append(
            f"{outside} of {len(predicted)} points lie outside the region of training (column extrapolated): the "
            "prediction may be wrong there"
        )
    names, trained = _columns(predicted, network), network.problem.point_sets[0].columns
    for column in network.problem.known:
        if column in network.problem.input_columns:
            largest = float(_column(predicted, names[column.name]).max())
            largest_trained = float(trained[column.name].max())
            if largest > TOO_LARGE * largest_trained:
                sentences.append(
                    f"{column.name} reaches {largest:.3g}, {largest / largest_trained:.3g} times the largest value in "
                    "training: divide it by 10 if it is ten times the physical value, as in published tables"
                )
    return sentences


def _columns(points: pa.Table, network: TrainedNetwork) -> dict[str, str]:
    """Return the user's column for each input of the network. Raises `StudyError` where there is none or several."""
    columns = {}
    for column in network.problem.input_columns:
        aliases = list(dict.fromkeys((column.name, *column.aliases)))
        present = [alias for alias in aliases if alias in points.column_names]
        if not present:
            inputs = ", ".join(f"{known.name} ({known.unit})" for known in network.problem.input_columns)
            raise StudyError(
                f"the points lack a column {' or '.join(aliases)}: the network's inputs are {inputs}. "
                f"Columns found: {', '.join(points.column_names)}"
            )
        if len(present) > 1:
            raise StudyError(f"the points have both {' and '.join(present)}, which mean the same: leave one out")
        columns[column.name] = present[0]
    return columns


def _column(points: pa.Table, name: str) -> Array:
    """Return a column of finite numbers, shape [points]. Raises `StudyError` where it holds anything else."""
    try:
        values = points[name].cast(pa.float64()).to_numpy().astype(np.float64)
    except pa.ArrowException:
        raise StudyError(f"the column {name} of the points holds {points[name].type}, and must hold numbers") from None
    not_finite = np.flatnonzero(~np.isfinite(values))
    if len(not_finite):
        raise StudyError(f"the column {name} of the points has no finite number in row {not_finite[0] + 1}")
    return values
