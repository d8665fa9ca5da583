"""Initial weights from a finished trial of another study: `init: trial:STUDY/N`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pinncore.networks import Layers

from ..errors import StudyError
from .home import is_study


def trial_weights(path: Path, trial: int) -> dict[str, NDArray[np.float64]]:
    """Return the last weights of a COMPLETE trial, of its first replicate: W1 [in, out], b1 [out], W2, ...

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
    layer, row, column, value = (rows[name].to_numpy() for name in ("layer", "row", "column", "value"))
    if not np.isfinite(value).all():
        raise StudyError(f"trial {trial} of {path} has a weight that is not finite")
    weights: dict[str, NDArray[np.float64]] = {}
    for number in range(1, int(layer.max()) + 1):
        in_layer = layer == number
        shape = (row[in_layer].max(initial=-1) + 2, column[in_layer].max(initial=0) + 1)  # the bias is row -1
        matrix = np.full(shape, np.nan)
        matrix[row[in_layer] + 1, column[in_layer]] = value[in_layer]
        inputs = weights[f"W{number - 1}"].shape[1] if number > 1 else max(1, len(matrix) - 1)
        if np.isnan(matrix).any() or len(matrix) != inputs + 1:
            raise StudyError(f"the weights of trial {trial} of {path} are incomplete")
        weights |= {f"W{number}": matrix[1:], f"b{number}": matrix[0]}
    return weights


def layers_of(weights: dict[str, NDArray[np.float64]]) -> Layers:
    """Return the layer sizes of a network from its weights."""
    shapes = [weights[f"W{number}"].shape for number in range(1, len(weights) // 2 + 1)]
    return (shapes[0][0], *(after for _, after in shapes))
