"""Two trainings of one configuration, compared bit for bit, and where in their course they part."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pinncore import MemberResult

from ..study.other_studies import FOLDER as WEIGHTS_FOLDER

Array = NDArray[np.float64]

TIMES: Final = ("time_s",)  # columns of curves that differ between any two runs


class Stored(NamedTuple):
    """What a study's tables have of a training beside its row: curves by column with the running epoch of each of their
    rows, kept weights by epoch, predicted field [points]."""

    curves: Mapping[str, NDArray[Any]]
    epochs: list[int]
    weights: Mapping[int, Array]
    field: Array


@dataclass(frozen=True)
class Difference:
    """A quantity that is not the same: where, what it is called, what the study has, what came out here."""

    where: str
    quantity: str
    stored: Any
    here: Any

    @property
    def relative(self) -> float | None:
        """Its size over the stored number; None where one of them is no finite number."""
        numbers = [each for each in (self.stored, self.here) if isinstance(each, (int, float))]
        if len(numbers) < 2 or not all(map(math.isfinite, numbers)) or self.stored == 0:
            return None
        return abs(self.here - self.stored) / abs(self.stored)


def compare(
    row: Mapping[str, Any], stored: Stored, result: MemberResult | None, failure: str | None
) -> tuple[dict[str, int], Difference | None, tuple[Difference, ...]]:
    """How much was compared, the first difference in the course of training, the differences of the end.

    `result` is None where it could not begin; `failure` is what made it fail here, if anything did.
    """
    ends = [("failure", _anywhere(row["failure"]), _anywhere(failure))]
    if result is None:
        return {}, None, _different(ends)
    parted = [*_in_weights(stored.weights, result.weights), *_in_curves(stored, result)]
    first = min(parted, key=lambda found: found[0], default=None)  # by running epoch
    ends = [*_numbers_of(row, result), *ends]
    if len(stored.field) and result.field and not _same(stored.field, result.field["predicted"]):
        ends.append(("predicted field, largest", *_largest(stored.field, result.field["predicted"])))
    compared = {
        "curve_rows": len(stored.epochs),
        "kept_epochs": len(stored.weights),
        "field_points": len(stored.field),
        "numbers": len(ends),
    }
    return compared, first and first[1], _different(ends)


def _numbers_of(row: Mapping[str, Any], result: MemberResult) -> list[tuple[str, Any, Any]]:
    """Name, stored and new value of everything in a row that training alone decides."""
    terms = {f"loss_{name}": value for name, value in result.terms.items()}
    here: dict[str, Any] = {"loss": result.loss, **terms, "grad_norm": result.grad_norm, **result.metrics}
    if row["taken_from"] is None:  # such a row says that nothing was spent
        here |= result.counts
    here |= {"stop_reason": result.stop_reason.value}
    if row["stop_reason"] is None:  # given up, with no numbers to compare
        return []
    return [(name, row[name], value) for name, value in here.items() if name in row]


def _anywhere(failure: str | None) -> str | None:
    """A failure without the folder of its study, which may have been moved."""
    return failure and re.sub(rf"\S*/(?={WEIGHTS_FOLDER}/)", "", failure)


def _in_curves(stored: Stored, result: MemberResult) -> Iterator[tuple[int, Difference]]:
    """The first row of the curves that is not the same; of a training that was given up there are none."""
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


def _in_weights(stored: Mapping[int, Array], here: Mapping[int, Array]) -> Iterator[tuple[int, Difference]]:
    """The first kept epoch whose weights are not the same."""
    for epoch in sorted(stored):
        if epoch not in here:
            yield epoch, Difference(f"epoch {epoch}", "weights", "kept", "not reached")
            return
        if not _same(stored[epoch], here[epoch]):
            yield epoch, Difference(f"epoch {epoch}", "weight", *_largest(stored[epoch], here[epoch]))
            return


def _different(ends: list[tuple[str, Any, Any]]) -> tuple[Difference, ...]:
    return tuple(Difference("end", name, before, after) for name, before, after in ends if not _equal(before, after))


def _largest(stored: Array, here: Array) -> tuple[Any, Any]:
    """The two numbers that are farthest apart."""
    if stored.shape != here.shape:
        return f"{stored.size} numbers", f"{here.size} numbers"
    gap = np.abs(here - stored)
    place = int(np.argmax(np.where(np.isfinite(gap), gap, math.inf)))
    return float(stored[place]), float(here[place])


def _same(one: Array, other: Array) -> bool:
    """Whether two arrays are the same to the sign of a zero."""
    if not np.array_equal(one, other, equal_nan=True):
        return False
    return np.array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, nothing and not-a-number among them."""
    one, other = (None if isinstance(each, float) and math.isnan(each) else each for each in (one, other))
    if isinstance(one, float) and isinstance(other, float) and one == 0:
        return other == 0 and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
