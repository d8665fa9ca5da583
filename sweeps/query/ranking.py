"""The ranking of trials: one row per trial, its replicates taken together, as SQL over the table `trials`.

The value of a trial is a quantile over its replicates; a failed replicate counts as infinite, as in
`trials.StudyTrials.outcome`. Trials that repeat the configuration of another are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.problems import PROBLEMS

from ..errors import QueryError
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.schema import all_settings
from .statement import did_you_mean

Kind = Literal["setting", "number", "text"]  # shown over replicates as the common value, quantile, all texts

_NUMBERS: Final = ("DOUBLE", "INTEGER", "BIGINT")
_INFINITE: Final = "'inf'::DOUBLE"


@dataclass(frozen=True)
class Ranking:
    """The rules by which a study ranks its trials; the first objective decides."""

    objectives: tuple[str, ...] = ("rel_l2",)
    replicates: int = 1
    quantile: float = 0.5


def key_metrics() -> dict[str, Kind]:
    """Return the columns that short lists of trials show: the key metrics of all problems, loss, time, stop reason."""
    metrics = [metric.name for problem in PROBLEMS.values() for metric in problem.metrics if metric.is_key]
    numbers = [*metrics[:1], "loss", *metrics[1:], "seconds"]
    return {**dict.fromkeys(numbers, "number"), "stop_reason": "text"}


def ranking_of(study_file: Mapping[str, Any]) -> Ranking:
    """Return the rules by which a study ranks its trials, from its study file."""
    search = study_file.get("search") or {}
    objective = search.get("objective", "rel_l2")
    objectives = tuple(map(str, objective)) if isinstance(objective, list) else (str(objective),)
    return Ranking(objectives, int(search.get("replicates") or 1), float(search.get("quantile", 0.5)))


def common_objectives(ranking: Mapping[str, Ranking]) -> tuple[str, ...]:
    """Return the objectives of the studies. Raises `QueryError` where these differ."""
    different = sorted({rules.objectives for rules in ranking.values()})
    if len(different) > 1:
        names = ", ".join(" and ".join(objectives) for objectives in different)
        raise QueryError(f"the studies have different objectives ({names}): name the one to rank by")
    return different[0]


def check_numbers(metrics: Sequence[str], kinds: Mapping[str, str]) -> None:
    """Raise `QueryError` where trials cannot be ranked by `metrics`; `kinds` holds DuckDB's types of the columns."""
    numbers = [name for name, kind in kinds.items() if kind in _NUMBERS and name not in ("trial", "replicate")]
    for metric in metrics:
        if metric not in numbers:
            raise QueryError(
                f"trials are ranked by a numeric column of the table trials other than its keys, got {metric!r}."
                + did_you_mean(metric, numbers)
            )


def dimensions(study_file: Mapping[str, Any]) -> dict[str, str]:
    """Return the swept fields of a study with their kinds (choice, int, ...), in the order of its file."""
    space = study_file.get("space") or {}
    kinds = {name: next((kind for kind in dimension if kind != "when"), "") for name, dimension in space.items()}
    rows = (study_file.get("search") or {}).get("list")
    return kinds | {name: "choice" for row in rows or () if isinstance(row, dict) for name in row}


def swept_columns(study_file: Mapping[str, Any]) -> list[str]:
    """Return the columns of `trials` that hold the swept fields of a study, in the order of its file."""
    columns = {setting.name: setting.column for setting in all_settings(problem_name(study_file))}
    return [columns.get(name, name) for name in dimensions(study_file)]


def problem_name(study_file: Mapping[str, Any]) -> str:
    """Return the problem of a study, the first one where its file names none that is known."""
    name = (study_file.get("problem") or {}).get("name")
    return name if name in PROBLEMS else next(iter(PROBLEMS))


def ranked_trials_sql(
    studies: Mapping[str, Ranking],
    metrics: Sequence[str],
    others: Mapping[str, Kind],
    *,
    ranked_only: bool = False,
    limit: int | None = None,
) -> str:
    """Return the statement for study, trial, state, `metrics` and `others`, one row per finished trial.

    Trials that are COMPLETE with a finite value of the first metric come first, ranked by it. The others follow in the
    order of their numbers. Where a study has replicates, numbers are the quantile over them, null where that is not
    finite. METRIC_min and METRIC_max are then their range and `replicates` is their number.
    """
    several = any(ranking.replicates > 1 for ranking in studies.values())
    rows = _over_replicates(studies, metrics, others) if several else _single_rows(metrics, others)
    ranked = f"(state = '{COMPLETE}' AND {_name(metrics[0])} IS NOT NULL)"
    chosen = f" WHERE {ranked}" if ranked_only else ""
    order = f" ORDER BY {ranked} DESC, CASE WHEN {ranked} THEN {_name(metrics[0])} END, study, trial"
    return f"WITH all_trials AS ({rows}) FROM all_trials{chosen}{order}" + (f" LIMIT {limit}" if limit else "")


def members_sql(studies: Mapping[str, Ranking], columns: Sequence[str]) -> str:
    """Return the beginning of a statement that defines the table `members`: the replicates of finished trials.

    Its columns are configuration, share, study, trial, replicate, state and `columns`. `share` is the quantile that the
    study ranks by. Rows with the same number `configuration` have the same configuration, data and `share`. Trials that
    were pruned or trained again are left out, and each seed of a configuration counts once.
    """
    share = _by_study({name: f"{ranking.quantile!r}::DOUBLE" for name, ranking in studies.items()})
    wanted = _by_study({name: str(ranking.replicates) for name, ranking in studies.items()})
    named = "".join(f", {_name(column)}" for column in columns)
    once = "QUALIFY row_number() OVER (PARTITION BY configuration, coalesce(seed, replicate) ORDER BY study, trial) = 1"
    return (
        f"WITH finished AS (SELECT study, trial, replicate, state, seed{named}, {share} AS share, {wanted} AS wanted, "
        "CASE WHEN config_hash || data_hash || seed IS NULL THEN hash(study, trial) "
        f"ELSE hash(config_hash, data_hash, {share}) END AS configuration FROM trials WHERE duplicate_of IS NULL "
        "AND (study, trial) NOT IN (SELECT (study, retry_of) FROM trials WHERE retry_of IS NOT NULL)), "
        "complete AS (SELECT study, trial FROM finished GROUP BY study, trial "
        f"HAVING count(*) >= any_value(wanted) AND count(*) FILTER (state = '{PRUNED}') = 0), "
        f"members AS (SELECT configuration, share, study, trial, replicate, state{named} "
        f"FROM finished SEMI JOIN complete USING (study, trial){' ' + once if len(studies) > 1 else ''})"
    )


def configurations_sql(studies: Mapping[str, Ranking], metrics: Sequence[str]) -> str:
    """Return the statement for number and metrics of configurations whose first metric is finite, the best first."""
    collected = ", ".join(f"{_sorted(name)} AS {_name(name)}" for name in metrics)
    shown = ", ".join(f"{_quantile(name)} AS {_name(name)}" for name in metrics)
    return (
        f"{members_sql(studies, metrics)}, gathered AS (SELECT configuration, min(study) AS study, "
        f"min(trial) AS trial, any_value(share) * (count(*) - 1) AS place, {collected} FROM members "
        "GROUP BY configuration) "
        f"SELECT configuration, {shown} FROM gathered WHERE {_quantile(metrics[0])} IS NOT NULL "
        f"ORDER BY {_quantile(metrics[0])}, study, trial"
    )


def with_front(trials: pa.Table, objectives: Sequence[str]) -> pa.Table:
    """Return ranked trials with the column `pareto` after the state; trials where it is true come first.

    `pareto` is true where no other complete trial is as good in all `objectives` and better in one, and null for
    trials that are not complete.
    """
    values = np.stack([trials[name].cast(pa.float64()).to_numpy() for name in objectives], axis=1)
    ranked = (trials["state"].to_numpy() == COMPLETE) & np.isfinite(values).all(axis=1)
    is_first = np.zeros(len(values), dtype=bool)
    is_first[ranked] = front(values[ranked])
    order = np.argsort(np.where(ranked, ~is_first, 2), kind="stable")
    after = trials.column_names.index("state") + 1
    return trials.add_column(after, "pareto", pa.array(is_first, mask=~ranked)).take(order)


def front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which trials no other dominates, shape [trials].

    `values`: shape [trials, objectives], finite, the smaller the better.
    """
    is_first = np.zeros(len(values), dtype=bool)
    rest = np.lexsort(values.T[::-1])
    while len(rest):  # sorted: no later trial dominates the first one
        best = values[rest[0]]
        is_first[rest[(values[rest] == best).all(axis=1)]] = True
        rest = rest[(values[rest] < best).any(axis=1)]
    return is_first


# ---- the parts of the statement ------------------------------------------------------------------------------------


def _single_rows(metrics: Sequence[str], others: Mapping[str, Kind]) -> str:
    """Return the statement for trials of studies without replicates: one row each."""
    columns = [f"{_finite(name)} AS {_name(name)}" for name in metrics]
    columns += [
        f"{_finite(name) if kind == 'number' else _name(name)} AS {_name(name)}" for name, kind in others.items()
    ]
    return f"SELECT study, trial, state, {', '.join(columns)} FROM trials WHERE duplicate_of IS NULL"


def _over_replicates(studies: Mapping[str, Ranking], metrics: Sequence[str], others: Mapping[str, Kind]) -> str:
    """Return the statement for trials of studies with replicates; a trial counts once all of these are published.

    Numbers are first collected into sorted lists, so that the quantile is bit for bit that of `trials.quantile`.
    """
    share = _by_study({name: f"{ranking.quantile!r}::DOUBLE" for name, ranking in studies.items()})
    wanted = _by_study({name: str(ranking.replicates) for name, ranking in studies.items()})
    collected = [
        "count(*) AS replicates",
        f"{share} * (count(*) - 1) AS place",
        f"CASE WHEN count(*) FILTER (state = '{PRUNED}') > 0 THEN '{PRUNED}' "
        f"WHEN count(*) FILTER (state = '{COMPLETE}') > ceil(place) THEN '{COMPLETE}' ELSE '{FAIL}' END AS state",
    ]
    shown = []
    for name in metrics:
        collected.append(f"{_sorted(name)} AS {_name(name)}")
        shown.append(f"{_quantile(name)} AS {_name(name)}")
        shown.append(f"nullif({_name(name)}[1], {_INFINITE}) AS {_name(name + '_min')}")
        shown.append(f"{_name(name)}[-1] AS {_name(name + '_max')}")
    shown.append("replicates")
    for name, kind in others.items():
        expressions = {
            "number": _sorted(name),
            "text": f"string_agg(DISTINCT {_name(name)}, ', ' ORDER BY {_name(name)})",
            "setting": f"any_value({_name(name)})",
        }
        collected.append(f"{expressions[kind]} AS {_name(name)}")
        shown.append(f"{_quantile(name)} AS {_name(name)}" if kind == "number" else _name(name))
    return (
        f"SELECT study, trial, state, {', '.join(shown)} FROM (SELECT study, trial, {', '.join(collected)} FROM trials "
        f"WHERE duplicate_of IS NULL GROUP BY study, trial HAVING count(*) >= {wanted})"
    )


def _sorted(name: str) -> str:
    """Return the expression for the sorted numbers of all replicates, infinite for a failed or not finite one."""
    value = f"coalesce({_finite(name)}::DOUBLE, {_INFINITE})"
    return f"list_sort(list(CASE WHEN state = '{COMPLETE}' THEN {value} ELSE {_INFINITE} END))"


def _quantile(name: str) -> str:
    """Return the expression for the quantile at `place` of a sorted list, null where that is infinite."""
    low, high = (f"{_name(name)}[{end}(place)::BIGINT + 1]" for end in ("floor", "ceil"))
    between = f"{low} + (place - floor(place)) * ({high} - {low})"
    return f"nullif(CASE WHEN {low} = {high} THEN {low} ELSE {between} END, {_INFINITE})"


def _finite(name: str) -> str:
    return f"CASE WHEN isfinite({_name(name)}::DOUBLE) THEN {_name(name)} END"


def _by_study(values: Mapping[str, str]) -> str:
    """Return the expression for a value that depends on the study."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    cases = " ".join(f"WHEN {_text(study)} THEN {value}" for study, value in values.items())
    return f"CASE study {cases} END"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
