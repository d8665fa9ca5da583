"""The predefined views, used in SQL like tables. `docs/query.md` lists their columns.

Trials that repeat the configuration of another are left out of all views but `curves_last`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from ..states import COMPLETE, FAIL, PRUNED
from ..storage.schema import SECOND
from ..study.replicates import finite_sql, quantile_sql, values_sql
from .ranking import LAST_ATTEMPTS, Kind, Ranking, front, numbers, ranked_trials_sql
from .statement import quoted, sql_text

NEEDS: Final = {  # each view, and the table it is built on
    "best": "trials",
    "by_config": "trials",
    "curves_last": "curves",
    "failures": "trials",
    "pareto": "trials",
}
_COST: Final = "seconds"  # compared with the error where there is one objective


@dataclass(frozen=True)
class ViewContext:
    """The data that views of some studies are built from: their ranking rules, swept settings and columns."""

    ranking: Mapping[str, Ranking]
    swept: Sequence[str]
    columns: Mapping[str, Sequence[str]]  # of each table that is present

    def settings(self, besides: Sequence[str] = ()) -> list[str]:
        """Return the swept settings of all studies that are columns, without those in `besides`."""
        return [name for name in self.swept if name in self.columns["trials"] and name not in besides]

    def ranked(self) -> dict[tuple[str, ...], dict[str, Ranking]]:
        """Return the ranking rules by study, grouped by objectives, without studies that have no such column."""
        groups: dict[tuple[str, ...], dict[str, Ranking]] = {}
        for study, ranking in self.ranking.items():
            objectives = tuple(name for name in ranking.objectives if name in self.columns["trials"])
            if objectives:
                groups.setdefault(objectives, {})[study] = ranking
        return groups


def create(connection: duckdb.DuckDBPyConnection, view: str, context: ViewContext, *, filled: bool = True) -> None:
    """Create a view over the registered tables; with `filled=False` it may be empty, if only its columns matter."""
    if view == "pareto":
        connection.register("pareto", _pareto(connection, context, filled=filled))
    else:
        connection.execute(f"CREATE VIEW {view} AS {_STATEMENTS[view](context)}")


def _best(context: ViewContext) -> str:
    """Return the statement for the rows of the best trial of each study, of all trials with an equal value."""
    worth = [
        f"SELECT study, trial, {quoted(objectives[0])} AS worth FROM "
        f"({ranked_trials_sql(studies, objectives[:1], {}, ranked_only=True)}) WHERE study IN ({sql_text(*studies)})"
        for objectives, studies in context.ranked().items()
    ] or ["SELECT study, trial, NULL::DOUBLE AS worth FROM trials WHERE false"]
    return (
        f"WITH worth AS ({' UNION ALL '.join(worth)}), "
        "first AS (FROM worth QUALIFY worth = min(worth) OVER (PARTITION BY study)) "
        "SELECT study, trial, replicate, worth, trials.* EXCLUDE (study, trial, replicate) "
        "FROM trials JOIN first USING (study, trial) ORDER BY study, trial, replicate"
    )


def _by_config(context: ViewContext) -> str:
    """Return the statement for one row per configuration.

    A seed counts once; its value is infinite where it failed, and a pruned one counts in `n` and `pruned` only.
    """
    metrics = list(dict.fromkeys(name for objectives in context.ranked() for name in objectives))
    counts = [
        f"count(*) FILTER (state = '{state}') AS {name}" for state, name in ((FAIL, "failed"), (PRUNED, "pruned"))
    ]
    spread = [part for name in metrics for part in _spread(name)]
    settings = [f"any_value({quoted(name)}) AS {quoted(name)}" for name in context.settings(metrics)]
    order = f"ORDER BY {quoted(metrics[0] + '_median')}, configuration" if metrics else "ORDER BY configuration"
    return (
        "WITH rows AS (SELECT *, "
        "coalesce(data_hash, any_value(data_hash) OVER (PARTITION BY study, config_hash), '') AS data_trained_on, "
        f"coalesce(config_hash, study || '/' || trial) AS configuration FROM trials WHERE {LAST_ATTEMPTS}), "
        "once AS (FROM rows QUALIFY row_number() OVER (PARTITION BY configuration, data_trained_on, "
        "coalesce(seed::VARCHAR, study || '/' || trial || '/' || replicate) ORDER BY "
        f"CASE state WHEN '{COMPLETE}' THEN 0 WHEN '{PRUNED}' THEN 1 ELSE 2 END, study, trial, replicate) = 1) "
        "SELECT string_agg(DISTINCT study, ', ' ORDER BY study) AS studies, count(DISTINCT (study, trial)) AS trials, "
        f"{', '.join(['count(*) AS n', *counts, *spread, *settings])}, configuration AS config_hash "
        f"FROM once GROUP BY configuration, data_trained_on {order}"
    )


def _spread(name: str) -> list[str]:
    """Return expressions for quartiles and range, null where not finite; the maximum stays infinite."""
    values = values_sql(quoted(name), f"state <> '{PRUNED}'")
    parts = {"median": quantile_sql(values, "0.5"), "min": finite_sql(f"{values}[1]")}
    parts |= {"q1": quantile_sql(values, "0.25"), "q3": quantile_sql(values, "0.75"), "max": f"{values}[-1]"}
    return [f"{part} AS {quoted(f'{name}_{end}')}" for end, part in parts.items()]


def _curves_last(context: ViewContext) -> str:
    """Return the statement for the last row of each trial and replicate.

    Rows with the most evaluations are selected first, because that is fast and leaves few rows to sort. There may be
    two: the first row of the second stage has the same evaluations as the row before.
    """
    columns, keys = context.columns["curves"], "study, trial, replicate"
    order = f"(phase = '{SECOND}', step)"
    others = [
        f"arg_max_null({quoted(name)}, {order}) AS {quoted(name)}" for name in columns if name not in keys.split(", ")
    ]
    return (
        f"WITH most AS (SELECT {keys}, max(evaluations) AS most FROM curves GROUP BY {keys}), "
        f"few AS (SELECT curves.* FROM curves JOIN most USING ({keys}) WHERE evaluations IS NOT DISTINCT FROM most) "
        f"SELECT {', '.join([keys, *others])} FROM few GROUP BY {keys} ORDER BY {keys}"
    )


def _failures(context: ViewContext) -> str:
    """Return the statement for failed rows: reason, advice, the trial that retried them, and the settings."""
    retries = (
        "SELECT study, retry_of AS trial, max(trial) AS retried_by FROM trials WHERE retry_of IS NOT NULL GROUP BY ALL"
    )
    reasons = ("stop_reason", "failure", "stop_advice", "retried_by")
    columns = dict.fromkeys([*reasons, *context.settings(), "seed", "device", "host", "finished_at"])
    return (
        f"SELECT study, trial, replicate, {', '.join(map(quoted, columns))} FROM trials LEFT JOIN ({retries}) "
        f"USING (study, trial) WHERE state = '{FAIL}' AND duplicate_of IS NULL ORDER BY study, trial, replicate"
    )


def _pareto(connection: duckdb.DuckDBPyConnection, context: ViewContext, *, filled: bool) -> pa.Table:
    """Return the trials of each study for which no other is as good in all columns and better in one.

    They are computed here, because SQL would compare all pairs of trials for more than two objectives.
    """
    parts = [pa.schema([("study", pa.string()), ("trial", pa.int32())]).empty_table()]
    for objectives, studies in context.ranked().items():
        metrics = list(objectives) if len(objectives) > 1 else list(dict.fromkeys([*objectives, _COST]))
        settings = context.settings(metrics)
        kinds: dict[str, Kind] = {**dict.fromkeys(metrics[1:], "number"), **dict.fromkeys(settings, "setting")}
        ranked = ranked_trials_sql(studies, metrics[:1], kinds, ranked_only=True, limit=None if filled else 1)
        # of a trial taken from another study the time is null, because that study spent it
        columns = f"* REPLACE (CASE WHEN taken_from IS NULL THEN {_COST} END AS {_COST})"
        trials = connection.sql(
            f"WITH trials AS (SELECT {columns} FROM main.trials WHERE study IN ({sql_text(*studies)})) "
            f"SELECT {', '.join(map(quoted, ['study', 'trial', *metrics, *settings]))} FROM ({ranked}) "
            f"ORDER BY study, {quoted(metrics[0])}, trial"
        ).to_arrow_table()
        values = numbers(trials, metrics)
        names = trials["study"].to_numpy()
        finite, is_first = np.isfinite(values).all(axis=1), np.zeros(len(values), dtype=bool)
        for study in studies:
            study_rows = np.flatnonzero(finite & (names == study))
            is_first[study_rows[front(values[study_rows])]] = True
        parts.append(trials.filter(pa.array(is_first & filled)))
    return pa.concat_tables(parts, promote_options="permissive")


_STATEMENTS: Final[dict[str, Callable[[ViewContext], str]]] = {
    "best": _best,
    "by_config": _by_config,
    "curves_last": _curves_last,
    "failures": _failures,
}
