"""The comparison of two trainings of one configuration, bit for bit: where they start to differ, and why they may."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pinncore import MemberResult, TrainSettings

from ..study.other_studies import FOLDER as WEIGHTS_FOLDER
from ..study.provenance import versions

Array = NDArray[np.float64]

TIMES: Final = ("time_s",)  # columns of curves that differ between any two runs
NAMES: Final = {
    "host": "machine",
    "cpu": "processor",
    "python_version": "Python",
    "torch_version": "PyTorch",
    "numpy_version": "NumPy",
    "scipy_version": "SciPy",
    "numba_version": "Numba",
    "pinnsweep_version": "pinnsweep",
    "code_version": "pinnsweep's code",
}


class Stored(NamedTuple):
    """What a study's tables have of a training beside its row.

    `curves`: columns by name; `epochs`: the running epoch of each of their rows; `weights`: the kept ones by epoch;
    `field`: predicted, shape [points].
    """

    curves: Mapping[str, NDArray[Any]]
    epochs: list[int]
    weights: Mapping[int, Array]
    field: Array


@dataclass(frozen=True)
class Difference:
    """A quantity that differs: its place, its name, its value in the study and its value here."""

    where: str
    quantity: str
    stored: Any
    here: Any

    @property
    def relative(self) -> float | None:
        """Return the size over the stored number; None where the latter is 0 or one of them is no finite number."""
        numbers = [value for value in (self.stored, self.here) if isinstance(value, (int, float))]
        if len(numbers) < 2 or not all(map(math.isfinite, numbers)) or self.stored == 0:
            return None
        return abs(self.here - self.stored) / abs(self.stored)


def compare(
    row: Mapping[str, Any], stored: Stored, result: MemberResult | None, failure: str | None
) -> tuple[dict[str, int], Difference | None, tuple[Difference, ...]]:
    """Return how much was compared, the first difference in the course of training, and the final differences.

    `result` is None where training could not begin; `failure` is the reason why it failed here, if it did.
    """
    final = [("failure", _without_folder(row["failure"]), _without_folder(failure))]
    if result is None:
        return {}, None, _differences(final)
    differences = [*_weight_difference(stored.weights, result.weights), *_curve_difference(stored, result)]
    first = min(differences, key=lambda difference: difference[0], default=None)  # by running epoch
    final = [*_final_numbers(row, result), *final]
    if len(stored.field) and result.field and not _same(stored.field, result.field["predicted"]):
        final.append(("predicted field, largest", *_largest(stored.field, result.field["predicted"])))
    compared = {
        "curve_rows": len(stored.epochs),
        "kept_epochs": len(stored.weights),
        "field_points": len(stored.field),
        "numbers": len(final),
    }
    return compared, first and first[1], _differences(final)


def _final_numbers(row: Mapping[str, Any], result: MemberResult) -> list[tuple[str, Any, Any]]:
    """Return name, stored and new value of everything in a row that depends on training alone."""
    if row["stop_reason"] is None:  # training was given up, so there are no numbers
        return []
    terms = {f"loss_{name}": value for name, value in result.terms.items()}
    counts = result.counts if row["taken_from"] is None else {}  # a row that was taken over has no counts
    here: dict[str, Any] = {"loss": result.loss, **terms, "grad_norm": result.grad_norm, **result.metrics, **counts}
    here["stop_reason"] = result.stop_reason.value
    return [(name, row[name], value) for name, value in here.items() if name in row]


def _without_folder(failure: str | None) -> str | None:
    """Return a failure without the folder of its study, which may have been moved."""
    return failure and re.sub(rf"\S*/(?={WEIGHTS_FOLDER}/)", "", failure)


def _curve_difference(stored: Stored, result: MemberResult) -> Iterator[tuple[int, Difference]]:
    """Yield the first difference in the curves with its running epoch; a training that was given up has no curves."""
    if not stored.epochs:
        return
    rows = min(len(stored.epochs), len(result.curves["step"]))
    names = [name for name in stored.curves if name in result.curves and name not in TIMES]
    for index in range(rows):
        place = f"step {stored.curves['step'][index]} of the {stored.curves['phase'][index]} stage"
        for name in names:
            before, after = _plain(stored.curves[name][index]), _plain(result.curves[name][index])
            if not _equal(before, after):
                yield stored.epochs[index], Difference(place, name, before, after)
                return
    if len(stored.epochs) != len(result.curves["step"]):
        last = stored.epochs[rows - 1] if rows else -1
        yield last + 1, Difference("curves", "rows", len(stored.epochs), len(result.curves["step"]))


def _weight_difference(stored: Mapping[int, Array], retrained: Mapping[int, Array]) -> Iterator[tuple[int, Difference]]:
    """Yield the first kept epoch whose weights differ, with the difference."""
    for epoch in sorted(stored):
        if epoch not in retrained:
            yield epoch, Difference(f"epoch {epoch}", "weights", "kept", "not reached")
            return
        if not _same(stored[epoch], retrained[epoch]):
            yield epoch, Difference(f"epoch {epoch}", "weight", *_largest(stored[epoch], retrained[epoch]))
            return


def _differences(final: list[tuple[str, Any, Any]]) -> tuple[Difference, ...]:
    return tuple(Difference("end", name, before, after) for name, before, after in final if not _equal(before, after))


def _largest(stored: Array, retrained: Array) -> tuple[Any, Any]:
    """Return the stored and the new number that are farthest apart, or both sizes where these differ."""
    if stored.shape != retrained.shape:
        return f"{stored.size} numbers", f"{retrained.size} numbers"
    gap = np.abs(retrained - stored)
    index = int(np.argmax(np.where(np.isfinite(gap), gap, math.inf)))
    return float(stored[index]), float(retrained[index])


def _same(one: Array, other: Array) -> bool:
    """Return whether two arrays are the same, signs of zeros included."""
    if not np.array_equal(one, other, equal_nan=True):
        return False
    return np.array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are the same; None and NaN count as the same."""
    one, other = (None if isinstance(value, float) and math.isnan(value) else value for value in (one, other))
    if isinstance(one, float) and isinstance(other, float) and one == 0:
        return other == 0 and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


# ---- reasons -------------------------------------------------------------------------------------------------------


def reasons(row: dict[str, Any], result: MemberResult | None, settings: TrainSettings) -> tuple[str, ...]:
    """Return a sentence on everything that is known to differ or to make a difference; never empty."""
    sentences = [*_differences_of_training(row, result), *_differences_of_machine(row)]
    if sentences and settings.dtype == "float32":
        sentences.append("float32: numbers are rounded at the seventh digit, so small differences show sooner")
    return tuple(sentences) or ("no reason is known: equal code, libraries and machine should give equal numbers",)


def _differences_of_training(row: dict[str, Any], result: MemberResult | None) -> Iterator[str]:
    if row["rebatched"]:
        yield "rebatched: in the study it shared its pack with other members than planned, which changes the rounding"
    if result is None:
        return
    if row["engine_used"] not in (None, result.engine):
        yield f"engine: {row['engine_used']} in the study, {result.engine} here"
    elif result.engine != "fused":
        yield f"engine {result.engine}: its last digits depend on the other members of the pack; here, there are none"
    if row["device"] not in (None, result.device):
        yield f"device: {row['device']} in the study, {result.device} here"
    if row["data_hash"] not in (None, result.data_sha256):
        yield f"data: hash {row['data_hash'][:12]} in the study, {result.data_sha256[:12]} here"


def _differences_of_machine(row: dict[str, Any]) -> Iterator[str]:
    here = versions()
    for name, what in NAMES.items():
        if name in here and row.get(name) not in (None, here[name]):
            yield f"{what}: {row[name]} in the study, {here[name]} here"
