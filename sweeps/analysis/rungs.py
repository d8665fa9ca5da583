"""The fairness of pruning: how well the order of the trials at a rung predicts their order at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ..query.statement import quoted
from ..search.pruners import pruning_metrics, rungs_of
from ..spec.sections import PrunerSettings
from ..spec.study_spec import StudySpec
from ..states import COMPLETE, PRUNED
from ..storage.schema import SECOND

Array = NDArray[Any]

MOST_JUDGED: Final = 10_000  # trials; of more, so many are drawn, which is enough

_FEWEST: Final = 3  # trials; with fewer, a rank correlation means nothing

# `reached` has the value of each member at each rung that it reached; `early` and `late` those of the complete trials
# at a rung and at the end, where some replicates of a pruned trial may be complete; `stopped` the pruned trials.
_VIEWS: Final = f"""
CREATE TABLE steps AS SELECT trial, replicate, coalesce(curves.{{metric}}, 'nan') AS value,
    phase = '{SECOND}' AS is_second, step + CASE WHEN is_second THEN coalesce(epochs, 0) ELSE 0 END AS step,
    coalesce(epochs, 0) + coalesce(iterations, 0) AS planned
    FROM rung_curves AS curves JOIN rung_trials USING (trial, replicate);
CREATE TABLE reached AS SELECT rung, trial, replicate, arg_max(value, 2 * step + is_second::INTEGER) AS value
    FROM steps JOIN (SELECT trial, replicate, max(step) AS last FROM steps GROUP BY ALL) USING (trial, replicate)
    JOIN (FROM rungs WHERE bracket = 0) ON 1000 * step <= planned * rung AND planned * rung <= 1000 * last
    GROUP BY ALL;
CREATE VIEW complete AS SELECT trial, replicate, {{objective}} AS final FROM rung_trials
    WHERE state = '{COMPLETE}' AND trial NOT IN (SELECT trial FROM rung_trials WHERE state = '{PRUNED}');
CREATE VIEW early AS SELECT rung, trial, median(value) AS value FROM reached JOIN complete USING (trial, replicate)
    WHERE isfinite(value) GROUP BY ALL;
CREATE VIEW late AS SELECT trial, median(final) AS final FROM complete WHERE isfinite(final) GROUP BY ALL;
CREATE VIEW stopped AS SELECT max(rung) AS rung FROM reached JOIN rung_trials USING (trial, replicate)
    JOIN rungs USING (rung) WHERE state = '{PRUNED}' AND bracket = trial % {{brackets}} GROUP BY trial;
"""


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


def rungs_of_study(spec: StudySpec, read: Callable[..., pa.Table], connection: duckdb.DuckDBPyConnection) -> StudyRungs:
    """Return how fair pruning is, or would be, at each rung of a study, by its first objective.

    `read` reads its tables, as `StudyTables.read` does; `connection` has no rungs yet.
    """
    metric, objective, drawn = pruning_metrics(spec)[0], spec.objectives[0], None
    settings = spec.search.pruner.model_copy(update={"metric": metric})
    columns = ["trial", "replicate", "state", "epochs", "iterations", objective]
    trials = read("trials", columns=columns, where=ds.field("duplicate_of").is_null())
    numbers = pc.unique(trials.filter(pc.is_in(trials["state"], pa.array([COMPLETE, PRUNED])))["trial"])
    if len(numbers) > MOST_JUDGED:
        drawn = MOST_JUDGED
        chosen = pa.array(np.random.default_rng(0).choice(numbers.to_numpy(), drawn, replace=False))
        trials = trials.filter(pc.is_in(trials["trial"], chosen))
    members = ds.field("trial").isin(trials["trial"].unique()) if drawn else None
    names = ("trial", "replicate", "phase", "step", metric)
    curves = read("curves", columns=names, where=members)
    rungs = rung_correlations(connection, curves, trials, settings, metric, objective)
    return StudyRungs(settings, metric, objective, tuple(rungs), drawn)


def rung_correlations(
    connection: duckdb.DuckDBPyConnection,
    curves: pa.Table,
    trials: pa.Table,
    settings: PrunerSettings,
    metric: str,
    objective: str,
) -> list[RungFairness]:
    """Return the fairness of every rung, ascending. For a pruner without rungs, those of asha are used.

    `curves`: trial, replicate, phase, step and `metric`. `trials`: trial, replicate, state, epochs, iterations and
    the objective. The value of a member at a rung is that of its last row up to the rung, if its rows reach it. Value
    and final objective of a trial are medians over its replicates. Numbers that are not finite are left out. A trial
    with a pruned replicate is pruned, at the last of its own rungs that it reached.
    """
    if not settings.traits.compares_at_rungs:
        settings = PrunerSettings(kind="asha")
    own = [(bracket, rung) for bracket in range(settings.brackets) for rung in rungs_of(settings, bracket)]
    brackets = pa.Table.from_pylist([{"bracket": bracket, "rung": rung} for bracket, rung in own])
    for name, table in (("rung_curves", curves), ("rung_trials", trials), ("rungs", brackets)):
        connection.register(name, table)
    columns = {"metric": quoted(metric), "objective": quoted(objective)}
    connection.execute(_VIEWS.format(**columns, brackets=settings.brackets))
    pairs = connection.execute("SELECT rung, value, final FROM early JOIN late USING (trial)").fetchnumpy()
    stopped = connection.execute("FROM stopped").fetchnumpy()["rung"]
    fairness = []
    for rung in rungs_of(settings, 0):
        values, finals = (pairs[name][pairs["rung"] == rung] for name in ("value", "final"))
        correlation, pruned = _rank_correlation(values, finals), int(np.count_nonzero(stopped == rung))
        fairness.append(RungFairness(rung / 1000, len(values), correlation, pruned))
    return fairness


def _rank_correlation(values: Array, finals: Array) -> float | None:
    if len(values) < _FEWEST or np.ptp(values) == 0 or np.ptp(finals) == 0:
        return None
    return float(spearmanr(values, finals).statistic)
