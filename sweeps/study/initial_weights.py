"""Initial weights from a finished trial of another study: `init: trial:STUDY/N`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pinncore.networks import Layers

from ..errors import StudyError
from .home import is_study


def trial_weights(path: Path, trial: int) -> dict[str, NDArray[np.float64]]:
    """Return the final weights of a COMPLETE trial, of its first replicate: W1 [in, out], b1 [out], W2, ...

    `path` is the folder of its study; a duplicate has the weights of the trial it repeats. Raises `StudyError` where
    there is no such study or trial, where the trial did not complete, kept no weights, or has one that is not finite.
    """
    import pyarrow.compute as pc  # imported only for study files that name a trial

    from ..storage.tables import StudyTables, of_member

    if not is_study(path):
        raise StudyError(f"there is no study in {path}")
    tables = StudyTables(path)
    published = tables.read("trials", columns=["state", "duplicate_of"], where=of_member(trial, 0)).to_pylist()
    if not published:
        raise StudyError(f"the study {path} has no finished trial {trial}")
    state, original = published[-1]["state"], published[-1]["duplicate_of"]
    if state != "COMPLETE":
        raise StudyError(f"trial {trial} of {path} is {state}, and only weights of a COMPLETE one can be used")
    original = trial if original is None else original
    columns = ["epoch", "layer", "row", "column", "value"]
    rows = tables.read("weights", columns=columns, where=of_member(original, 0))
    if not len(rows):
        raise StudyError(f"trial {trial} of {path} kept no weights")
    rows = rows.filter(pc.equal(rows["epoch"], pc.max(rows["epoch"])))
    if not np.isfinite(rows["value"].to_numpy()).all():
        raise StudyError(f"trial {trial} of {path} has a weight that is not finite")
    layers = weight_layers({name: rows[name].to_numpy() for name in columns})
    if layers is None:
        raise StudyError(f"the weights of trial {trial} of {path} are incomplete")
    named = [{f"W{number}": w, f"b{number}": b} for number, (w, b) in enumerate(layers, start=1)]
    return {name: values for layer in named for name, values in layer.items()}


def weight_layers(rows: Mapping[str, NDArray[Any]]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]] | None:
    """Return W [in, out] and b [out] of each layer, from the rows of one epoch; None where they are incomplete."""
    layers: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for number in range(1, int(rows["layer"].max()) + 1):
        row, column, value = (rows[name][rows["layer"] == number] for name in ("row", "column", "value"))
        matrix = np.full((row.max(initial=-1) + 2, column.max(initial=0) + 1), np.nan)
        is_known = np.zeros(matrix.shape, dtype=bool)
        matrix[row + 1, column], is_known[row + 1, column] = value, True  # the bias is row -1
        inputs = layers[-1][0].shape[1] if layers else max(1, len(matrix) - 1)
        if not is_known.all() or len(matrix) != inputs + 1:
            return None
        layers.append((matrix[1:], matrix[0]))
    return layers


def layers_of(weights: dict[str, NDArray[np.float64]]) -> Layers:
    """Return the layer sizes of a network from its weights."""
    shapes = [weights[f"W{number}"].shape for number in range(1, len(weights) // 2 + 1)]
    return (shapes[0][0], *(after for _, after in shapes))
