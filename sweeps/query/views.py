"""The predefined views, used in SQL like tables. `docs/query.md` lists their columns.

Trials that repeat the configuration of another are left out of all views but `curves_last`. The value of a trial is
that of `ranking`: the quantile of the objective over its replicates, where a failed one counts as infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from ..states import COMPLETE, FAIL, PRUNED
from ..storage.schema import SECOND
from .ranking import Kind, Ranking, front, ranked_trials_sql, ranking_of, swept_columns

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


def view_context(files: Mapping[str, Mapping[str, Any]], columns: Mapping[str, Sequence[str]]) -> ViewContext:
    """Return the context of views, from the study files by study and the columns by table."""
    swept = dict.fromkeys(name for file in files.values() for name in swept_columns(file))
    return ViewContext({name: ranking_of(file) for name, file in files.items()}, list(swept), columns)


def create(connection: duckdb.DuckDBPyConnection, view: str, context: ViewContext, *, filled: bool = True) -> None:
    """Create a view over the registered tables; with `filled=False` it may be empty, if only its columns matter."""
    if view == "pareto":
        connection.register("pareto", _pareto(connection, context, filled=filled))
    else:
        connection.execute(f"CREATE VIEW {view} AS {_STATEMENTS[view](context)}")


def _best(context: ViewContext) -> str:
    """Return the statement for the rows of the best trial of each study, of all trials with an equal value."""
    worth = [
        f"SELECT study, trial, {_name(objectives[0])} AS worth FROM "
        f"({ranked_trials_sql(studies, objectives[:1], {}, ranked_only=True)}) WHERE study IN ({_texts(studies)})"
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
    numbers = [f"{_value(name)} AS {_name('value ' + name)}" for name in metrics]
    spread = [part for name in metrics for part in _spread(name)]
    settings = [f"any_value({_name(name)}) AS {_name(name)}" for name in context.settings(metrics)]
    order = f"ORDER BY {_name(metrics[0] + '_median')}, configuration" if metrics else "ORDER BY configuration"
    shown = ", ".join(["count(*) AS n", *_counts(), *spread, *settings])
    return (
        f"WITH rows AS (SELECT {', '.join(['*', *numbers])}, "
        "coalesce(data_hash, any_value(data_hash) OVER (PARTITION BY study, config_hash), '') AS data_trained_on, "
        "coalesce(config_hash, study || '/' || trial) AS configuration FROM trials WHERE duplicate_of IS NULL AND "
        "(study, trial) NOT IN (SELECT (study, retry_of) FROM trials WHERE retry_of IS NOT NULL)), "
        "once AS (FROM rows QUALIFY row_number() OVER (PARTITION BY configuration, data_trained_on, "
        "coalesce(seed::VARCHAR, study || '/' || trial || '/' || replicate) ORDER BY "
        f"CASE state WHEN '{COMPLETE}' THEN 0 WHEN '{PRUNED}' THEN 1 ELSE 2 END, study, trial, replicate) = 1) "
        "SELECT string_agg(DISTINCT study, ', ' ORDER BY study) AS studies, count(DISTINCT (study, trial)) AS trials, "
        f"{shown}, configuration AS config_hash FROM once GROUP BY configuration, data_trained_on {order}"
    )


def _counts() -> list[str]:
    return [f"count(*) FILTER (state = '{state}') AS {name}" for state, name in ((FAIL, "failed"), (PRUNED, "pruned"))]


def _value(name: str) -> str:
    """Return the expression for the value of a row in the spread of a metric, null where it is unknown."""
    finite = f"CASE WHEN isfinite({_name(name)}::DOUBLE) THEN {_name(name)}::DOUBLE ELSE 'inf' END"
    return f"CASE state WHEN '{COMPLETE}' THEN {finite} WHEN '{FAIL}' THEN 'inf'::DOUBLE END"


def _spread(name: str) -> list[str]:
    """Return expressions for quartiles and range, null where not finite; the maximum stays infinite."""
    value = _name("value " + name)
    parts = {"min": f"min({value})", "max": f"max({value})"}
    parts |= {end: f"quantile_cont({value}, {at})" for end, at in (("q1", 0.25), ("median", 0.5), ("q3", 0.75))}
    columns = {
        end: part if end == "max" else f"CASE WHEN isfinite({part}) THEN {part} END" for end, part in parts.items()
    }
    return [f"{columns[end]} AS {_name(f'{name}_{end}')}" for end in ("median", "min", "q1", "q3", "max")]


def _curves_last(context: ViewContext) -> str:
    """Return the statement for the last row of each trial and replicate.

    Rows with the most evaluations are selected first, because that is fast and leaves few rows to sort. There may be
    two: the first row of the second stage has the same evaluations as the row before.
    """
    columns, keys = context.columns["curves"], "study, trial, replicate"
    order = f"(phase = '{SECOND}', step)"
    others = [
        f"arg_max_null({_name(name)}, {order}) AS {_name(name)}" for name in columns if name not in keys.split(", ")
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
        f"SELECT study, trial, replicate, {', '.join(map(_name, columns))} FROM trials LEFT JOIN ({retries}) "
        f"USING (study, trial) WHERE state = '{FAIL}' AND duplicate_of IS NULL ORDER BY study, trial, replicate"
    )


def _pareto(connection: duckdb.DuckDBPyConnection, context: ViewContext, *, filled: bool) -> pa.Table:
    """Return the trials of each study for which no other is as good in all columns and better in one.

    They are computed here, because SQL would compare all pairs of trials for more than two objectives.
    """
    parts = [_front_of(connection, context, *group, filled=filled) for group in context.ranked().items()]
    keys = pa.schema([("study", pa.string()), ("trial", pa.int32())])
    return pa.concat_tables([keys.empty_table(), *parts], promote_options="permissive")


def _front_of(
    connection: duckdb.DuckDBPyConnection,
    context: ViewContext,
    objectives: tuple[str, ...],
    studies: Mapping[str, Ranking],
    *,
    filled: bool,
) -> pa.Table:
    metrics = list(objectives) if len(objectives) > 1 else list(dict.fromkeys([*objectives, _COST]))
    settings = context.settings(metrics)
    kinds: dict[str, Kind] = dict.fromkeys(metrics[1:], "number")
    kinds |= dict.fromkeys(settings, "setting")
    ranked = ranked_trials_sql(studies, metrics[:1], kinds, ranked_only=True, limit=None if filled else 1)
    # of a trial taken from another study the time is null, because that study spent it
    columns = f"* REPLACE (CASE WHEN taken_from IS NULL THEN {_COST} END AS {_COST})"
    shown = ", ".join(map(_name, ["study", "trial", *metrics, *settings]))
    trials = connection.sql(
        f"WITH trials AS (SELECT {columns} FROM main.trials WHERE study IN ({_texts(studies)})) "
        f"SELECT {shown} FROM ({ranked}) ORDER BY study, {_name(metrics[0])}, trial"
    ).to_arrow_table()
    values = np.stack([trials[name].cast(pa.float64()).to_numpy() for name in metrics], axis=1)
    names = trials["study"].to_numpy()
    finite, is_first = np.isfinite(values).all(axis=1), np.zeros(len(values), dtype=bool)
    for study in studies:
        study_rows = np.flatnonzero(finite & (names == study))
        is_first[study_rows[front(values[study_rows])]] = True
    return trials.filter(pa.array(is_first & filled))


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _texts(values: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


_STATEMENTS: Final[dict[str, Callable[[ViewContext], str]]] = {
    "best": _best,
    "by_config": _by_config,
    "curves_last": _curves_last,
    "failures": _failures,
}
