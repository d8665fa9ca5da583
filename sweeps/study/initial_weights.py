"""Initial weights from a finished trial of another study: `init: trial:STUDY/N`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinncore.networks import Layers

from ..errors import StudyError

_STUDY_FILE: Final = "study.yaml"


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a study."""
    return (folder / _STUDY_FILE).is_file()


def trial_weights(path: Path, trial: int) -> dict[str, NDArray[np.float64]]:
    """Return the last weights of a COMPLETE trial, of its first replicate: W1 [in, out], b1 [out], W2, ...

    `path` is the folder of its study; a trial that repeats another has the other's. Raises `StudyError` where there is
    no such study or trial, where the trial did not complete, kept no weights, or has one that is not finite.
    """
    import pyarrow.compute as pc  # of a study file that names no trial nothing here is needed

    from ..storage.tables import StudyTables, of_member

    if not is_study(path):
        raise StudyError(f"there is no study in {path}")
    tables = StudyTables(path)
    ended = tables.read("trials", columns=["state", "duplicate_of"], where=of_member(trial, 0)).to_pylist()
    if not ended:
        raise StudyError(f"the study {path} has no finished trial {trial}")
    if ended[-1]["state"] != "COMPLETE":
        rule = "only weights of a COMPLETE one can be taken"
        raise StudyError(f"trial {trial} of {path} is {ended[-1]['state']}, and {rule}")
    original = trial if ended[-1]["duplicate_of"] is None else ended[-1]["duplicate_of"]
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
        here = layer == number
        shape = (row[here].max(initial=-1) + 2, column[here].max(initial=0) + 1)  # the bias is row -1
        whole = np.full(shape, np.nan)
        whole[row[here] + 1, column[here]] = value[here]
        before = weights[f"W{number - 1}"].shape[1] if number > 1 else max(1, len(whole) - 1)
        if np.isnan(whole).any() or len(whole) != before + 1:
            raise StudyError(f"the weights of trial {trial} of {path} are not whole")
        weights |= {f"W{number}": whole[1:], f"b{number}": whole[0]}
    return weights


def layers_of(weights: dict[str, NDArray[np.float64]]) -> Layers:
    """Return the layer sizes of a network from its weights."""
    shapes = [weights[f"W{number}"].shape for number in range(1, len(weights) // 2 + 1)]
    return (shapes[0][0], *(after for _, after in shapes))
