"""Rules that find hopeless trials: functions of logged numbers only, so that the same log gives the same decision.

A rung is a share of a trial's planned steps, in per mille, at which trials are compared; lower values are better. The
rules use only the order of values. Trial numbers do not count: trials with equal values are treated alike.

Sources: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (asha; here it stops trials and
does not pause them); Li et al., "Hyperband", JMLR 18 (2018); Golovin et al., "Google Vizier", KDD 2017 (median); Deb et
al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6 (2002) (crowding).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.search_checks import IN_CURVES
from ..spec.sections import PrunerSettings
from ..spec.study_spec import StudySpec

Array = NDArray[Any]


def rungs_of(settings: PrunerSettings, trial: int) -> tuple[int, ...]:
    """Return the rungs at which a trial is compared, in per mille of its planned steps, ascending.

    asha and hyperband: reduction^-k for k = rungs..1, rounded, without 0 and repetitions. Bracket b of hyperband holds
    the trials with `trial % brackets == b` and leaves out the b lowest rungs. median: i / (rungs + 1).
    """
    numbers = range(1, settings.rungs + 1)
    match settings.kind:
        case "asha" | "hyperband":
            halvings = sorted({round(1000 * settings.reduction**-k) for k in numbers} - {0})
            return tuple(halvings[_bracket(settings, trial) :])
        case "median":
            return tuple(round(1000 * i / (settings.rungs + 1)) for i in numbers)
        case _:
            return ()


def is_hopeless(
    settings: PrunerSettings,
    trial: int,
    rung: int,
    value: tuple[float, ...],
    others: Mapping[int, tuple[float, ...]],
) -> bool:
    """Return whether a trial with `value` at a rung should stop; `others` are the values there by trial.

    asha and hyperband: where it is not among the best ceil(n / reduction) of the n values, its own included. median:
    where more than half of the others are better. Never before `startup_trials` others have reached the rung, but at
    once where a number is not finite. Hyperband compares within a bracket.
    """
    if not all(map(math.isfinite, value)):
        return True
    if rung not in rungs_of(settings, trial):
        return False
    bracket = _bracket(settings, trial)
    rivals = [other for number, other in others.items() if number != trial and _bracket(settings, number) == bracket]
    if len(rivals) < max(settings.startup_trials, 1):
        return False
    if settings.kind == "median":
        return 2 * _better(value, rivals) > len(rivals)
    return _better(value, rivals) >= math.ceil((len(rivals) + 1) / settings.reduction)


def has_stalled(settings: PrunerSettings, steps: Sequence[int], values: Sequence[float], planned: int) -> bool:
    """Return whether a member's curve has not improved enough over the last `patience` share of its planned steps.

    `steps` ascend and are counted over both stages; `values` are those of the metric. The best value within that share
    must be lower than the best before it by more than `min_improvement` of the latter. Without a row before that share
    nothing has stalled. A number that is not finite is no improvement.
    """
    if not settings.traits.watches_curve or not steps:
        return False
    split = bisect_right(steps, steps[-1] - math.ceil(settings.patience * planned))
    if split == 0:
        return False
    before, since = (min(filter(math.isfinite, part), default=math.inf) for part in (values[:split], values[split:]))
    if math.isinf(before):
        return math.isinf(since)
    return since >= before - settings.min_improvement * abs(before)


def _bracket(settings: PrunerSettings, trial: int) -> int:
    return trial % settings.brackets if settings.kind == "hyperband" else 0


def _better(value: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> int:
    """Return how many of `others` are better than a finite `value`.

    With one objective, lower values are better. With several, those are better that fewer others dominate and, where
    these are equally many, those in less crowded places. A value that is not finite is worse than all finite ones.
    """
    mine, table = np.array([value]).T, np.array(others, dtype=float).T  # [objectives, 1], [objectives, others]
    table[:, ~np.isfinite(table).all(axis=0)] = np.inf
    # values that are lower in no objective are neither better nor dominate a rival
    table = np.ascontiguousarray(table[:, (table < mine).any(axis=0)])
    dominating = (table <= mine).all(axis=0)
    rivals, copies = np.unique(table[:, ~dominating], axis=1, return_counts=True)
    not_above = (np.count_nonzero((table <= rival[:, None]).all(axis=0)) for rival in rivals.T)
    counts = np.fromiter(not_above, int, len(copies)) - copies
    number = np.count_nonzero(dominating)
    before = counts < number
    level = counts == number
    distances = _crowding(np.hstack([mine, rivals[:, level]]))
    before[level] = distances[1:] > distances[0]
    return int(number + copies[before].sum())


def _crowding(points: Array) -> Array:
    """Return the crowding distance of each of `points`, shape [objectives, points], none of which dominates another."""
    distances = np.zeros(points.shape[1])
    for row in points:
        order = np.lexsort([*points, row])  # the order of equal entries depends only on the values
        spread = np.ptp(row)
        if spread > 0:
            distances[order[[0, -1]]] = np.inf
            distances[order[1:-1]] += (row[order[2:]] - row[order[:-2]]) / spread
    return distances


def pruning_metrics(spec: StudySpec) -> tuple[str, ...]:
    """Return the columns of the table curves that a pruner uses: its metric, or the objectives among the columns."""
    if spec.search.pruner.metric is not None:
        return (spec.search.pruner.metric,)
    in_curves = tuple(name for name in spec.objectives if name in IN_CURVES)
    return in_curves or (("rel_l2",) if any(map(spec.needs_reference, spec.objectives)) else ("loss",))
