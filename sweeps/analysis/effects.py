"""The marginal effect of each hyperparameter: the results at each of its values, over all values of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..states import PRUNED
from .study_axes import Axis, Judged

FEWEST_TRIALS: Final = 4
PER_BIN: Final = 4  # fewest trials in an interval of a range
_MOST_BINS: Final = 5
_MOST_VALUES: Final = 8  # of a whole number that are shown separately; more are put into intervals
_CHANCE: Final = 0.01  # of a false alarm about failures, over all values of a dimension


@dataclass(frozen=True)
class Group:
    """Trials with one value of a dimension, or with values from `low` to `high`.

    `trials` have finished; they are `complete`, `failed` or `pruned`. `median`, `lower` and `upper` quartile and `best`
    are those of the complete ones, None where there are none.
    """

    label: str
    low: float | None
    high: float | None
    trials: int
    complete: int
    failed: int
    pruned: int
    median: float | None
    lower: float | None
    upper: float | None
    best: float | None


@dataclass(frozen=True)
class MarginalEffect:
    """The groups of a dimension, in the order of its values; `is_log` where its scale is logarithmic.

    `failing` is the label of the group whose trials fail significantly more often, None where there is none.
    """

    name: str
    is_log: bool
    groups: tuple[Group, ...]
    failing: str | None


def marginal_effects(study: Judged) -> tuple[MarginalEffect, ...]:
    """Return the effect of every dimension with more than one value; none for fewer than four trials."""
    if len(study.trials) < FEWEST_TRIALS:
        return ()
    return tuple(_effect(study, axis) for axis in study.axes if not axis.is_constant)


def _effect(study: Judged, axis: Axis) -> MarginalEffect:
    groups = tuple(_group(study, *part) for part in _groups(axis))
    return MarginalEffect(axis.name, axis.is_log, groups, _failing(groups))


def _groups(axis: Axis) -> Iterator[tuple[str, float | None, float | None, NDArray[np.bool_]]]:
    """Yield label, both ends and trials of each group."""
    values = np.unique(axis.places[axis.exists])
    if axis.categories is not None or (axis.is_whole and len(values) <= _MOST_VALUES):
        for value in values:
            end = None if axis.categories is not None else float(value)
            yield label(axis.value(value)), end, end, axis.places == value
        return
    bins = int(np.clip(np.count_nonzero(axis.exists) // PER_BIN, 1, _MOST_BINS))
    edges = np.unique(np.quantile(axis.places[axis.exists], np.arange(1, bins) / bins, method="inverted_cdf"))
    number = np.where(axis.exists, np.searchsorted(edges, axis.places, side="left"), -1)
    for interval in np.unique(number[axis.exists]):
        own = axis.places[number == interval]
        low, high = axis.value(own.min()), axis.value(own.max())
        yield f"{label(low)} – {label(high)}", float(low), float(high), number == interval


def _group(study: Judged, name: str, low: float | None, high: float | None, own: NDArray[np.bool_]) -> Group:
    states = study.states[own]
    values = study.values[own & study.complete]
    pruned = int(np.count_nonzero(states == PRUNED))
    counts = (len(states), len(values), len(states) - len(values) - pruned, pruned)
    lower, median, upper, best = np.quantile(values, [0.25, 0.5, 0.75, 0]).tolist() if len(values) else [None] * 4
    return Group(name, low, high, *counts, median, lower, upper, best)


def _failing(groups: tuple[Group, ...]) -> str | None:
    """Return the label of the group with significantly more failures, None where there is none.

    Hypergeometric test, corrected for the number of groups.
    """
    from scipy.stats import hypergeom  # takes long to import

    trials, failed = sum(group.trials for group in groups), sum(group.failed for group in groups)
    if not failed or len(groups) < 2:
        return None
    chances = [float(hypergeom.sf(group.failed - 1, trials, failed, group.trials)) for group in groups]
    least = int(np.argmin(chances))
    return groups[least].label if chances[least] * len(groups) < _CHANCE else None


def label(value: Any) -> str:
    """Return a value as text for people."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return f"{value:.3g}" if isinstance(value, float) else str(value)
