"""The fairness of pruning: how well the order of the trials at a rung predicts their order at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ..search.pruners import pruning_metrics, rungs_of
from ..spec.parse import parse_spec
from ..spec.sections import PrunerSettings
from ..states import COMPLETE, PRUNED
from ..storage.object_store import Remote
from ..storage.schema import SECOND
from ..storage.stored_tables import tables_of
from ..study.study_file import whole_text

Array = NDArray[Any]

MOST_JUDGED: Final = 10_000  # trials; of more, so many are drawn, which is enough

_FEWEST: Final = 3  # trials; with fewer, a rank correlation means nothing


@dataclass(frozen=True)
class RungFairness:
    """One rung: `rung` is its share of the planned steps, between 0 and 1.

    `trials`: number of complete trials with a value there; `correlation`: Spearman's rank correlation of that value
    with their final objective, None for fewer than three trials or where all are equal; `pruned`: number of trials
    that were stopped there.
    """

    rung: float
    trials: int
    correlation: float | None
    pruned: int


@dataclass(frozen=True)
class StudyRungs:
    """The rungs of a study: how well `metric` at each predicts `objective` at the end.

    `settings` is the pruner of the study with that metric; `drawn` is the number of trials drawn, None for all.
    """

    settings: PrunerSettings
    metric: str
    objective: str
    rungs: tuple[RungFairness, ...]
    drawn: int | None


def rungs_of_study(place: Path | Remote) -> StudyRungs:
    """Return how fair pruning is, or would be, at each rung of a study, by its first objective.

    Raises `SpecError` where its study file is no longer valid.
    """
    spec = parse_spec(whole_text(place), base=Path(str(place)))
    tables, metric, objective, drawn = tables_of(place), pruning_metrics(spec)[0], spec.objectives[0], None
    settings = spec.search.pruner.model_copy(update={"metric": metric})
    columns = ["trial", "replicate", "state", "epochs", "iterations", objective]
    trials = tables.read("trials", columns=columns, where=ds.field("duplicate_of").is_null())
    numbers = pc.unique(trials.filter(pc.is_in(trials["state"], pa.array([COMPLETE, PRUNED])))["trial"])
    if len(numbers) > MOST_JUDGED:
        drawn = MOST_JUDGED
        chosen = pa.array(np.random.default_rng(0).choice(numbers.to_numpy(), drawn, replace=False))
        trials = trials.filter(pc.is_in(trials["trial"], chosen))
    members = ds.field("trial").isin(trials["trial"].unique()) if drawn else None
    names = ("trial", "replicate", "phase", "step", metric)
    curves = tables.read("curves", columns=names, where=members)
    rungs = rung_correlations(curves, trials, settings, metric, objective)
    return StudyRungs(settings, metric, objective, tuple(rungs), drawn)


def rung_correlations(
    curves: pa.Table, trials: pa.Table, settings: PrunerSettings, metric: str, objective: str
) -> list[RungFairness]:
    """Return the fairness of every rung, ascending. For a pruner without rungs, those of asha are used.

    `curves`: trial, replicate, phase, step and `metric`. `trials`: trial, replicate, state, epochs, iterations and
    the objective. The value of a member at a rung is that of its last row up to the rung, if its rows reach it. Value
    and final objective of a trial are medians over its replicates. Numbers that are not finite are left out. A trial
    with a pruned replicate is pruned, at the last of its own rungs that it reached.
    """
    if settings.kind in ("none", "patience"):
        settings = PrunerSettings(kind="asha")
    trials = trials.sort_by([("trial", "ascending"), ("replicate", "ascending")])
    recorded = _Curves(curves, trials, metric)
    number, state = trials["trial"].to_numpy(), trials["state"].to_numpy()  # [members]
    pruned = state == PRUNED
    # some replicates of a pruned trial may be complete
    complete = (state == COMPLETE) & ~np.isin(number, number[pruned])
    stopped_at = _last_rungs(recorded, settings, number, pruned)
    ended, finals = _medians(number[complete], _floats(trials[objective])[complete])
    rungs = []
    for rung in rungs_of(settings, 0):
        present, values = _medians(number[complete], recorded.values_at(rung)[complete])
        both, there, end = np.intersect1d(present, ended, assume_unique=True, return_indices=True)
        correlation = _rank_correlation(values[there], finals[end])
        rungs.append(RungFairness(rung / 1000, len(both), correlation, int(np.count_nonzero(stopped_at == rung))))
    return rungs


class _Curves:
    """The recorded curves of all members, in the order of `trials`, by trial and replicate."""

    def __init__(self, curves: pa.Table, trials: pa.Table, metric: str) -> None:
        members, rows = _keys(trials), _keys(curves)
        place = np.searchsorted(members, rows)
        has_trial = np.append(members, -1)[place] == rows
        member = place[has_trial]
        epochs = _integers(trials["epochs"])
        second = pc.equal(curves["phase"], SECOND).to_numpy()
        step = _integers(curves["step"])[has_trial] + np.where(second[has_trial], epochs[member], 0)
        self._planned = epochs + _integers(trials["iterations"])  # [members]
        self._first, self._last = np.full(len(members), step.max(initial=0) + 1), np.full(len(members), -1)
        np.minimum.at(self._first, member, step)
        np.maximum.at(self._last, member, step)
        # one ascending axis for all rows, on which every member has its own interval
        length = max(step.max(initial=0), self._planned.max(initial=0)) + 1
        self._starts = np.arange(len(members)) * length
        axis = self._starts[member] + step
        order = np.argsort(axis, kind="stable")
        self._axis = axis[order]
        # the last entry stands for "no row"
        self._values = np.append(_floats(curves[metric])[has_trial][order], np.nan)

    def reached(self, rung: int) -> Array:
        """Return whether the rows of each member begin before a rung, in per mille, and reach it. Shape [members]."""
        return (1000 * self._first <= self._planned * rung) & (self._planned * rung <= 1000 * self._last)

    def values_at(self, rung: int) -> Array:
        """Return the metric in each member's last row up to a rung, NaN if it did not reach it. Shape [members]."""
        row = np.searchsorted(self._axis, self._starts + self._planned * rung // 1000, side="right") - 1
        return np.where(self.reached(rung), self._values[row], np.nan)


def _last_rungs(recorded: _Curves, settings: PrunerSettings, number: Array, pruned: Array) -> Array:
    """Return the last of its own rungs that each pruned trial reached, 0 for none; a trial may have several members."""
    trials, place = np.unique(number[pruned], return_inverse=True)
    last = np.zeros(len(trials), dtype=int)
    for rung in rungs_of(settings, 0):
        compared = np.array([rung in rungs_of(settings, bracket) for bracket in range(settings.brackets)])
        last[place[recorded.reached(rung)[pruned] & compared[number[pruned] % settings.brackets]]] = rung
    return last


def _medians(groups: Array, values: Array) -> tuple[Array, Array]:
    """Return the groups that have finite values, ascending, and the median of each."""
    finite = np.isfinite(values)
    groups, values = groups[finite], values[finite]
    order = np.lexsort((values, groups))
    present, start, count = np.unique(groups[order], return_index=True, return_counts=True)
    values = values[order]
    return present, (values[start + (count - 1) // 2] + values[start + count // 2]) / 2


def _rank_correlation(values: Array, finals: Array) -> float | None:
    if len(values) < _FEWEST or np.ptp(values) == 0 or np.ptp(finals) == 0:
        return None
    return float(spearmanr(values, finals).statistic)


def _keys(table: pa.Table) -> Array:
    return (_integers(table["trial"]) << 32) + _integers(table["replicate"])


def _integers(column: pa.ChunkedArray) -> Array:
    return pc.fill_null(column, 0).to_numpy().astype(np.int64)


def _floats(column: pa.ChunkedArray) -> Array:
    return column.cast(pa.float64()).to_numpy()
