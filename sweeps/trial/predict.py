"""Evaluation of a trained network on a table of points; the prediction is added to the user's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore import Problem, TrainedNetwork

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

    Several outputs have a column `predicted_SYMBOL` each. For several networks, the replicates of one trial,
    `predicted` is the mean, and `predicted_std`, `predicted_min` and `predicted_max` give the spread. Raises
    `StudyError` where a column is missing, or where the points already have a column of the prediction, and `DataError`
    where an input is not a number.
    """
    problem = networks[0].problem
    columns_of = input_columns(points.names, networks[0])
    inputs = {name: points.numbers(column) for name, column in columns_of.items()}
    predictions = _by_output(problem, [network.predict(**inputs) for network in networks])
    gradients = _by_output(problem, [network.gradient(**inputs) for network in networks]) if gradient else {}
    columns, units = dict[str, Any](), dict[str, str]()
    for name, output in zip(predictions, problem.outputs, strict=True):
        values = predictions[name]  # [networks, points]
        own: dict[str, Any] = {name: values.mean(axis=0)}
        if len(networks) > 1:
            own |= {f"{name}_std": values.std(axis=0, ddof=1)}
            own |= {f"{name}_min": values.min(axis=0), f"{name}_max": values.max(axis=0)}
        columns, units = columns | own, units | dict.fromkeys(own, output.unit)
    for name, output in zip(gradients, problem.outputs, strict=False):
        for coordinate, slopes in zip(problem.coordinates, gradients[name].mean(axis=0).T, strict=True):
            slope, unit = f"{name}_{coordinate.symbol}", output.unit
            if coordinate.unit != "1":
                slope, unit = f"{slope}_per_{coordinate.unit}", f"{unit}/{coordinate.unit}"
            columns[slope], units[slope] = slopes, unit
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


def _by_output(problem: Problem, found: Sequence[Any]) -> dict[str, NDArray[np.float64]]:
    """Return values of several networks, each an array or arrays by output, by the names of columns, stacked."""
    if len(problem.outputs) == 1:
        return {"predicted": np.stack(found)}
    return {
        f"predicted_{output.symbol}": np.stack([values[output.symbol] for values in found])
        for output in problem.outputs
    }


def warnings(networks: Sequence[TrainedNetwork], points: Sheet, predicted: pa.Table) -> list[str]:
    """Return a sentence on everything that is allowed but likely to mislead."""
    sentences, network = list(points.notes), networks[0]
    outside = int(np.sum(predicted["extrapolated"].to_numpy()))
    if outside:
        sentences.append(
            f"{outside} of {len(predicted)} points lie outside the region of training (column extrapolated): the "
            "prediction may be wrong there"
        )
    names, trained = input_columns(points.names, network), network.problem.field_points.values
    for column in network.problem.known:
        if column in network.problem.input_columns:
            largest = float(points.numbers(names[column.name]).max())
            largest_trained = float(trained[column.symbol].max())
            if largest > TOO_LARGE * largest_trained:
                advice = f": {network.problem.known_advice}" if network.problem.known_advice else ""
                sentences.append(
                    f"{column.name} reaches {largest:.3g}, {largest / largest_trained:.3g} times the largest value in "
                    f"training{advice}"
                )
    return sentences


def input_columns(names: Sequence[str], network: TrainedNetwork) -> dict[str, str]:
    """Return the user's column for each input of the network. Raises `StudyError` where there is none or several."""
    columns = {}
    for column in network.columns:
        aliases = list(dict.fromkeys((column.name, *column.aliases)))
        present = [alias for alias in aliases if alias in names]
        if not present:
            inputs = ", ".join(f"{known.name} ({known.unit})" for known in network.columns)
            raise StudyError(
                f"the points lack a column {' or '.join(aliases)}: the network's inputs are {inputs}. "
                f"Columns found: {', '.join(names)}"
            )
        if len(present) > 1:
            raise StudyError(f"the points have both {' and '.join(present)}, which mean the same: leave one out")
        columns[column.name] = present[0]
    return columns
