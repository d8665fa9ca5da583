"""The ranking of trials: one row per trial, its replicates taken together, as SQL over the table `trials`.

Trials that repeat the configuration of another are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.problems.columns import REL_L2
from pinncore.problems.record import ProblemRecord

from ..errors import QueryError
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.schema import all_settings
from ..study.replicates import finite_sql, quantile_sql, values_sql
from .statement import column_hint, quoted, sql_text
from .values import is_number

Kind = Literal["setting", "number", "text"]  # shown over replicates as the common value, quantile, all texts
LAST_ATTEMPTS: Final = (  # condition on trials: neither repeating another, nor trained again
    "duplicate_of IS NULL AND (study, trial) NOT IN (SELECT (study, retry_of) FROM trials WHERE retry_of IS NOT NULL)"
)


@dataclass(frozen=True)
class Ranking:
    """The rules by which a study ranks its trials; the first objective decides."""

    objectives: tuple[str, ...] = (REL_L2.name,)
    replicates: int = 1
    quantile: float = 0.5


def key_metrics(problems: Iterable[ProblemRecord]) -> dict[str, Kind]:
    """Return the columns that short lists of trials show: loss, the key metrics of problems, time, stop reason."""
    metrics = [metric.name for problem in problems for metric in problem.metrics if metric.is_key]
    numbers = [*metrics[:1], "loss", *metrics[1:], "seconds"]
    return {**dict.fromkeys(numbers, "number"), "stop_reason": "text"}


def ranking_of(study_file: Mapping[str, Any]) -> Ranking:
    """Return the rules by which a study ranks its trials, from its study file."""
    search = study_file.get("search") or {}
    objective = search.get("objective", REL_L2.name)
    objectives = tuple(map(str, objective)) if isinstance(objective, list) else (str(objective),)
    return Ranking(objectives, int(search.get("replicates") or 1), float(search.get("quantile", 0.5)))


def common_objectives(ranking: Mapping[str, Ranking]) -> tuple[str, ...]:
    """Return the objectives of the studies. Raises `QueryError` where these differ."""
    different = sorted({rules.objectives for rules in ranking.values()})
    if len(different) > 1:
        names = ", ".join(" and ".join(objectives) for objectives in different)
        raise QueryError(f"the studies have different objectives ({names}): name the one to rank by")
    return different[0]


def check_numbers(metrics: Sequence[str], trials: pa.Schema) -> None:
    """Raise `QueryError` where trials cannot be ranked by `metrics`."""
    numbers = [field.name for field in trials if is_number(field.type) and field.name not in ("trial", "replicate")]
    for metric in metrics:
        if metric not in numbers:
            raise QueryError(
                f"trials are ranked by a numeric column of the table trials other than its keys, got {metric!r}."
                + column_hint(metric, numbers, "trials")
            )


def dimensions(study_file: Mapping[str, Any]) -> dict[str, str]:
    """Return the swept fields of a study with their kinds (choice, int, ...), in the order of its file."""
    space = study_file.get("space") or {}
    kinds = {name: next((kind for kind in dimension if kind != "when"), "") for name, dimension in space.items()}
    rows = (study_file.get("search") or {}).get("list")
    return kinds | {name: "choice" for row in rows or () if isinstance(row, dict) for name in row}


def swept_columns(study_file: Mapping[str, Any], problem: ProblemRecord) -> list[str]:
    """Return the columns of `trials` that hold the swept fields of a study, in the order of its file."""
    columns = {setting.name: setting.column for setting in all_settings(problem)}
    return [columns.get(name, name) for name in dimensions(study_file)]


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
    order of their numbers. Where a study has replicates, a trial counts once all of these are published, and numbers
    are the quantile over them, null where that is not finite. METRIC_min and METRIC_max are then their range and
    `replicates` is their number.
    """
    share, wanted = _rules_sql(studies)
    several = any(ranking.replicates > 1 for ranking in studies.values())
    columns, groups = ["state"], ""
    if several:
        columns = [
            f"CASE WHEN count(*) FILTER (state = '{PRUNED}') > 0 THEN '{PRUNED}' WHEN count(*) FILTER "
            f"(state = '{COMPLETE}') > ceil({share} * (count(*) - 1)) THEN '{COMPLETE}' ELSE '{FAIL}' END AS state"
        ]
        groups = f" GROUP BY study, trial HAVING count(*) >= {wanted}"
    for name in metrics:
        columns.append(_column(name, "number", share if several else None))
        if several:
            values = values_sql(quoted(name))
            columns.append(f"{finite_sql(f'{values}[1]')} AS {quoted(f'{name}_min')}")
            columns.append(f"{values}[-1] AS {quoted(f'{name}_max')}")
    columns += ["count(*) AS replicates"] if several else []
    columns += [_column(name, kind, share if several else None) for name, kind in others.items()]
    rows = f"SELECT study, trial, {', '.join(columns)} FROM trials WHERE duplicate_of IS NULL{groups}"
    ranked = f"(state = '{COMPLETE}' AND {quoted(metrics[0])} IS NOT NULL)"
    chosen = f" WHERE {ranked}" if ranked_only else ""
    order = f" ORDER BY {ranked} DESC, CASE WHEN {ranked} THEN {quoted(metrics[0])} END, study, trial"
    return f"WITH all_trials AS ({rows}) FROM all_trials{chosen}{order}" + (f" LIMIT {limit}" if limit else "")


def _column(name: str, kind: Kind, share: str | None) -> str:
    """Return a column of a trial: over its replicates by their quantile `share`, without one as it is in its row."""
    column = quoted(name)
    if kind == "number":
        is_finite = f"isfinite({column}::DOUBLE)"
        value = quantile_sql(values_sql(column), share) if share else f"CASE WHEN {is_finite} THEN {column} END"
    elif kind == "text":
        value = f"string_agg(DISTINCT {column}, ', ' ORDER BY {column})" if share else column
    else:
        value = f"any_value({column})" if share else column
    return f"{value} AS {column}"


def members_sql(studies: Mapping[str, Ranking], columns: Sequence[str]) -> str:
    """Return the beginning of a statement that defines the table `members`: the replicates of finished trials.

    Its columns are configuration, share, study, trial, replicate, state and `columns`. `share` is the quantile that the
    study ranks by. Rows with the same number `configuration` have the same configuration, data and `share`. Trials that
    were pruned or trained again are left out, and each seed of a configuration counts once.
    """
    share, wanted = _rules_sql(studies)
    named = "".join(f", {quoted(column)}" for column in columns)
    once = "QUALIFY row_number() OVER (PARTITION BY configuration, coalesce(seed, replicate) ORDER BY study, trial) = 1"
    return (
        f"WITH finished AS (SELECT study, trial, replicate, state, seed{named}, {share} AS share, {wanted} AS wanted, "
        "CASE WHEN config_hash || data_hash || seed IS NULL THEN hash(study, trial) "
        f"ELSE hash(config_hash, data_hash, {share}) END AS configuration FROM trials WHERE {LAST_ATTEMPTS}), "
        "complete AS (SELECT study, trial FROM finished GROUP BY study, trial "
        f"HAVING count(*) >= any_value(wanted) AND count(*) FILTER (state = '{PRUNED}') = 0), "
        f"members AS (SELECT configuration, share, study, trial, replicate, state{named} "
        f"FROM finished SEMI JOIN complete USING (study, trial){' ' + once if len(studies) > 1 else ''})"
    )


def configurations_sql(studies: Mapping[str, Ranking], metrics: Sequence[str]) -> str:
    """Return the statement for number and metrics of configurations whose first metric is finite, the best first."""
    values = {name: quantile_sql(values_sql(quoted(name)), "any_value(share)") for name in metrics}
    shown = ", ".join(f"{value} AS {quoted(name)}" for name, value in values.items())
    return (
        f"{members_sql(studies, metrics)} SELECT configuration, {shown} FROM members GROUP BY configuration "
        f"HAVING {values[metrics[0]]} IS NOT NULL ORDER BY {values[metrics[0]]}, min(study), min(trial)"
    )


def _rules_sql(studies: Mapping[str, Ranking]) -> tuple[str, str]:
    """Return the expressions for the quantile and the number of replicates by which the study of a row ranks."""
    shares = {study: f"{ranking.quantile!r}::DOUBLE" for study, ranking in studies.items()}
    return _by_study(shares), _by_study({study: str(ranking.replicates) for study, ranking in studies.items()})


def _by_study(values: Mapping[str, str]) -> str:
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    cases = " ".join(f"WHEN {sql_text(study)} THEN {value}" for study, value in values.items())
    return f"CASE study {cases} END"


def with_front(trials: pa.Table, objectives: Sequence[str]) -> pa.Table:
    """Return ranked trials with the column `pareto` after the state; trials where it is true come first.

    `pareto` is true where no other complete trial is as good in all `objectives` and better in one, and null for
    trials that are not complete.
    """
    values = numbers(trials, objectives)
    ranked = (trials["state"].to_numpy() == COMPLETE) & np.isfinite(values).all(axis=1)
    is_first = np.zeros(len(values), dtype=bool)
    is_first[ranked] = front(values[ranked])
    order = np.argsort(np.where(ranked, ~is_first, 2), kind="stable")
    after = trials.column_names.index("state") + 1
    return trials.add_column(after, "pareto", pa.array(is_first, mask=~ranked)).take(order)


def numbers(table: pa.Table, columns: Sequence[str]) -> NDArray[np.float64]:
    """Return columns as an array of shape [rows, columns], NaN where null."""
    return np.stack([table[name].cast(pa.float64()).to_numpy() for name in columns], axis=1)


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
