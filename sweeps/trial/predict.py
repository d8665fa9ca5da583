"""Evaluation of a trained network on a table of points; the prediction is added to the user's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pinncore import TrainedNetwork

from ..errors import StudyError
from ..inputs.sheet import Sheet
from ..states import FAIL

TOO_LARGE: Final = 3.0  # times the largest value of the training


def members(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the replicates of an ensemble: those of a trial that did not fail. Raises `StudyError` where all did."""
    replicates = [int(row["replicate"]) for row in rows if row["state"] != FAIL]
    if not replicates:
        raise StudyError(f"every replicate of trial {rows[0]['trial']} failed, so there is no ensemble")
    return replicates


def predict(networks: Sequence[TrainedNetwork], points: Sheet, *, gradient: bool = False) -> pa.Table:
    """Return the points as written, with `predicted`, its derivatives to the coordinates if `gradient`, `extrapolated`.

    For several networks, the replicates of one trial, `predicted` is the mean, and `predicted_std`, `predicted_min` and
    `predicted_max` give the spread. Raises `StudyError` where a column is missing, or where the points already have a
    column of the prediction, and `DataError` where an input is not a number.
    """
    problem = networks[0].problem
    columns_of = input_columns(points.names, networks[0])
    inputs = {name: points.numbers(column) for name, column in columns_of.items()}
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
    existing = [name for name in columns if name in points.names]
    if existing:
        raise StudyError(
            f"the points already have a column {', '.join(existing)}, which the prediction would hide: rename it"
        )
    table = points.as_written()
    for name, values in columns.items():
        field = pa.field(name, pa.array(values).type, metadata={"unit": units[name]} if name in units else None)
        table = table.append_column(field, pa.array(values))
    return table


def warnings(networks: Sequence[TrainedNetwork], points: Sheet, predicted: pa.Table) -> list[str]:
    """Return a sentence on everything that is allowed but likely to mislead."""
    sentences, network = list(points.notes), networks[0]
    outside = int(np.sum(predicted["extrapolated"].to_numpy()))
    if outside:
        sentences.append(
            f"{outside} of {len(predicted)} points lie outside the region of training (column extrapolated): the "
            "prediction may be wrong there"
        )
    names, trained = input_columns(points.names, network), network.problem.point_sets[0].columns
    for column in network.problem.known:
        if column in network.problem.input_columns:
            largest = float(points.numbers(names[column.name]).max())
            largest_trained = float(trained[column.name].max())
            if largest > TOO_LARGE * largest_trained:
                sentences.append(
                    f"{column.name} reaches {largest:.3g}, {largest / largest_trained:.3g} times the largest value in "
                    "training: divide it by 10 if it is ten times the physical value, as in published tables"
                )
    return sentences


def input_columns(names: Sequence[str], network: TrainedNetwork) -> dict[str, str]:
    """Return the user's column for each input of the network. Raises `StudyError` where there is none or several."""
    columns = {}
    for column in network.problem.input_columns:
        aliases = list(dict.fromkeys((column.name, *column.aliases)))
        present = [alias for alias in aliases if alias in names]
        if not present:
            inputs = ", ".join(f"{known.name} ({known.unit})" for known in network.problem.input_columns)
            raise StudyError(
                f"the points lack a column {' or '.join(aliases)}: the network's inputs are {inputs}. "
                f"Columns found: {', '.join(names)}"
            )
        if len(present) > 1:
            raise StudyError(f"the points have both {' and '.join(present)}, which mean the same: leave one out")
        columns[column.name] = present[0]
    return columns
