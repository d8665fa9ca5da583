"""A trained network evaluated on a table of points, the prediction beside the user's own columns."""

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

# what a column of the user's table may be called, by what it holds; lengths in mm, strains physical
ALIASES: Final = {
    "x_mm": ("x_mm", "xcoord"),
    "y_mm": ("y_mm", "ycoord"),
    "g_mm2": ("g_mm2", "g"),
    "elocal": ("elocal", "local"),
}
INPUTS: Final = {"x": "x_mm", "y": "y_mm", "g": "g_mm2", "elocal": "elocal"}
TOO_LARGE: Final = 3.0  # times the largest local strain that was trained on

Array = NDArray[np.float64]


def read_points(file: Path) -> pa.Table:
    """A table of points from CSV or Parquet. Raises `StudyError`."""
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise StudyError(f"{file}: points are read from .csv and .parquet")
    if not file.is_file():
        raise StudyError(f"{file}: there is no such file")
    try:
        table = pq.read_table(str(file)) if file.suffix.lower() == ".parquet" else pyarrow.csv.read_csv(str(file))
    except (pa.ArrowException, OSError) as problem:
        raise StudyError(f"{file} cannot be read: {' '.join(str(problem).split())}") from None
    if not len(table):
        raise StudyError(f"{file} has no rows")
    return table


def members(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The replicates of an ensemble: those of a trial that did not fail. Raises `StudyError` where all did."""
    found = [int(row["replicate"]) for row in rows if row["state"] != FAIL]
    if not found:
        raise StudyError(f"every replicate of trial {rows[0]['trial']} failed, so there is no ensemble of them")
    return found


def predict(networks: Sequence[TrainedNetwork], points: pa.Table, *, gradient: bool = False) -> pa.Table:
    """The points with the prediction beside them: `predicted`, with `gradient` its derivatives per mm, `extrapolated`.

    Of several networks, replicates of one trial, `predicted` is the mean, and `predicted_std`, `predicted_min` and
    `predicted_max` say how they spread. Raises `StudyError` where a column is missing, wrong or taken.
    """
    given = {name: _column(points, names) for name, names in _columns(points, networks[0]).items()}
    each = np.stack([network.predict(**given) for network in networks])
    found: dict[str, Any] = {"predicted": each.mean(axis=0)}
    if len(networks) > 1:
        found |= {"predicted_std": each.std(axis=0, ddof=1)}
        found |= {"predicted_min": each.min(axis=0), "predicted_max": each.max(axis=0)}
    if gradient:
        slopes = np.mean([network.gradient(**given) for network in networks], axis=0)
        found |= {"predicted_x_per_mm": slopes[:, 0], "predicted_y_per_mm": slopes[:, 1]}
    found["extrapolated"] = ~networks[0].covers(given["x_mm"], given["y_mm"])
    taken = [name for name in found if name in points.column_names]
    if taken:
        raise StudyError(
            f"the points have a column {', '.join(taken)} already, which the prediction would hide: rename it"
        )
    for name, values in found.items():
        unit = "1/mm" if name.endswith("_per_mm") else "1"
        field = pa.field(name, pa.array(values).type, metadata=None if name == "extrapolated" else {"unit": unit})
        points = points.append_column(field, pa.array(values))
    return points


def warnings(networks: Sequence[TrainedNetwork], predicted: pa.Table) -> list[str]:
    """What is allowed and likely to mislead, one sentence each."""
    found, network = [], networks[0]
    outside = int(np.sum(predicted["extrapolated"].to_numpy()))
    if outside:
        found.append(
            f"{outside} of {len(predicted)} points lie where nothing was trained (column extrapolated): the network "
            "says something there, and nothing says that it is right"
        )
    if "elocal" in network.problem.settings.inputs:
        largest = float(_column(predicted, _columns(predicted, network)["elocal"]).max())
        trained = float(network.problem.data.gauss.elocal.max())
        if largest > TOO_LARGE * trained:
            found.append(
                f"elocal reaches {largest:.3g}, {largest / trained:.3g} times what was trained on: is it ten times the "
                "physical strain, as in published tables? Divide it by 10 then"
            )
    return found


def _columns(points: pa.Table, network: TrainedNetwork) -> dict[str, str]:
    """The user's column for each input of the network."""
    found = {}
    for name in (INPUTS[name] for name in network.problem.settings.inputs):
        there = [alias for alias in ALIASES[name] if alias in points.column_names]
        if not there:
            raise StudyError(
                f"the points lack a column {' or '.join(ALIASES[name])}: the network's inputs are "
                f"{', '.join(INPUTS[each] for each in network.problem.settings.inputs)} (mm, mm^2, physical strain). "
                f"Columns there: {', '.join(points.column_names)}"
            )
        if len(there) > 1:
            raise StudyError(f"the points have both {' and '.join(there)}, which mean the same: leave one out")
        found[name] = there[0]
    return found


def _column(points: pa.Table, name: str) -> Array:
    """A column of finite numbers."""
    try:
        values = points[name].cast(pa.float64()).to_numpy().astype(np.float64)
    except pa.ArrowException:
        raise StudyError(f"the column {name} of the points holds {points[name].type}, and must hold numbers") from None
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise StudyError(f"the column {name} of the points has no finite number in row {bad[0] + 1}")
    return values
