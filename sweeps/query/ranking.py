"""Which trials are best: one line a trial, its replicates drawn together, as SQL over the table `trials`.

The value of a trial is a quantile over its replicates in which a failed one counts as infinitely bad, as in
`trials.Book.outcome`. Trials that repeat another's configuration are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.settings import TrainSettings

from ..errors import QueryError
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.schema import Section, column_of
from .statement import did_you_mean

Kind = Literal["setting", "number", "text"]  # equal in all replicates; their quantile; each different text

KEY_METRICS: Final[dict[str, Kind]] = {
    "rel_l2": "number",
    "loss": "number",
    "heldout_residual": "number",
    "seconds": "number",
    "stop_reason": "text",
}
_NUMBERS: Final = ("DOUBLE", "INTEGER", "BIGINT")
_INFINITE: Final = "'inf'::DOUBLE"


@dataclass(frozen=True)
class Ranking:
    """How a study values its trials; the first of its objectives ranks."""

    objectives: tuple[str, ...] = ("rel_l2",)
    replicates: int = 1
    quantile: float = 0.5


def ranking_of(study_file: Mapping[str, Any]) -> Ranking:
    """Return how the study of a study file values its trials."""
    search = study_file.get("search") or {}
    objective = search.get("objective", "rel_l2")
    objectives = tuple(map(str, objective)) if isinstance(objective, list) else (str(objective),)
    return Ranking(objectives, int(search.get("replicates") or 1), float(search.get("quantile", 0.5)))


def common_objectives(ranking: Mapping[str, Ranking]) -> tuple[str, ...]:
    """Return the objectives that studies share. Raises `QueryError` where they have different ones."""
    found = sorted({each.objectives for each in ranking.values()})
    if len(found) > 1:
        told = ", ".join(" and ".join(objectives) for objectives in found)
        raise QueryError(f"the studies have different objectives ({told}): say by which to rank")
    return found[0]


def check_numbers(metrics: Sequence[str], kinds: Mapping[str, str]) -> None:
    """Raise `QueryError` unless trials can be ranked by `metrics`, `kinds` being DuckDB's types of their columns."""
    numbers = [name for name, kind in kinds.items() if kind in _NUMBERS and name not in ("trial", "replicate")]
    for metric in metrics:
        if metric not in numbers:
            raise QueryError(
                f"trials are ranked by a number in the table trials that is no key, got {metric!r}."
                + did_you_mean(metric, numbers)
            )


def dimensions(study_file: Mapping[str, Any]) -> dict[str, str]:
    """Return the swept fields of a study with the kind of each (choice, int, ...), in the order of its file."""
    space = study_file.get("space") or {}
    kinds = {name: next((kind for kind in dimension if kind != "when"), "") for name, dimension in space.items()}
    rows = (study_file.get("search") or {}).get("list")
    return kinds | {name: "choice" for row in rows or () if isinstance(row, dict) for name in row}


def swept_columns(study_file: Mapping[str, Any]) -> list[str]:
    """Return the trials columns of the swept fields of a study, in the order of its file."""
    return [column_of(section_of(name), name) for name in dimensions(study_file)]


def section_of(field: str) -> Section:
    """Return the section of the study file that a field belongs to."""
    return "train" if any(field == known.name for known in fields(TrainSettings)) else "problem"


def ranked_trials_sql(
    studies: Mapping[str, Ranking],
    metrics: Sequence[str],
    others: Mapping[str, Kind],
    *,
    ranked_only: bool = False,
    limit: int | None = None,
) -> str:
    """Return the statement for the columns study, trial, state, `metrics` and `others`, one line a whole trial.

    Trials that are COMPLETE and have a finite value of the first metric are ranked by it, and come before the others,
    which stand in the order of their numbers. Where a study has replicates, numbers are its quantile over them, null
    where that is not finite, and METRIC_min, METRIC_max and `replicates` say how far they spread and how many they are.
    """
    several = any(ranking.replicates > 1 for ranking in studies.values())
    lines = _over_replicates(studies, metrics, others) if several else _one_each(metrics, others)
    ranked = f"(state = '{COMPLETE}' AND {_name(metrics[0])} IS NOT NULL)"
    chosen = f" WHERE {ranked}" if ranked_only else ""
    order = f" ORDER BY {ranked} DESC, CASE WHEN {ranked} THEN {_name(metrics[0])} END, study, trial"
    return f"WITH standing AS ({lines}) FROM standing{chosen}{order}" + (f" LIMIT {limit}" if limit else "")


def members_sql(studies: Mapping[str, Ranking], columns: Sequence[str]) -> str:
    """Return the beginning of a statement that defines the table `members`: the replicates of whole trials.

    Its columns are configuration, share, study, trial, replicate, state and `columns`. Equal numbers `configuration`
    mean equal configurations on equal data, in studies that rank by the same quantile, `share`. Trials that were pruned
    or trained again are left out, and of a configuration each seed counts once.
    """
    share = _by_study({name: f"{ranking.quantile!r}::DOUBLE" for name, ranking in studies.items()})
    wanted = _by_study({name: str(ranking.replicates) for name, ranking in studies.items()})
    named = "".join(f", {_name(column)}" for column in columns)
    once = "QUALIFY row_number() OVER (PARTITION BY configuration, coalesce(seed, replicate) ORDER BY study, trial) = 1"
    return (
        f"WITH found AS (SELECT study, trial, replicate, state, seed{named}, {share} AS share, {wanted} AS wanted, "
        "CASE WHEN config_hash || data_hash || seed IS NULL THEN hash(study, trial) "
        f"ELSE hash(config_hash, data_hash, {share}) END AS configuration FROM trials WHERE duplicate_of IS NULL "
        "AND (study, trial) NOT IN (SELECT (study, retry_of) FROM trials WHERE retry_of IS NOT NULL)), "
        "whole AS (SELECT study, trial FROM found GROUP BY study, trial "
        f"HAVING count(*) >= any_value(wanted) AND count(*) FILTER (state = '{PRUNED}') = 0), "
        f"members AS (SELECT configuration, share, study, trial, replicate, state{named} "
        f"FROM found SEMI JOIN whole USING (study, trial){' ' + once if len(studies) > 1 else ''})"
    )


def configurations_sql(studies: Mapping[str, Ranking], metrics: Sequence[str]) -> str:
    """Return the statement for the configurations whose first metric is finite, the best first: number and metrics."""
    gathered = ", ".join(f"{_sorted(name)} AS {_name(name)}" for name in metrics)
    shown = ", ".join(f"{_quantile(name)} AS {_name(name)}" for name in metrics)
    return (
        f"{members_sql(studies, metrics)}, gathered AS (SELECT configuration, min(study) AS study, "
        f"min(trial) AS trial, any_value(share) * (count(*) - 1) AS place, {gathered} FROM members "
        "GROUP BY configuration) "
        f"SELECT configuration, {shown} FROM gathered WHERE {_quantile(metrics[0])} IS NOT NULL "
        f"ORDER BY {_quantile(metrics[0])}, study, trial"
    )


def with_front(standing: pa.Table, objectives: Sequence[str]) -> pa.Table:
    """Return a standing with the column `pareto` after the state, and the trials first for which it is true.

    It says that no other complete trial is as good in all `objectives` and better in one, and is null for what is not
    complete.
    """
    values = np.stack([standing[name].cast(pa.float64()).to_numpy() for name in objectives], axis=1)
    ranked = (standing["state"].to_numpy() == COMPLETE) & np.isfinite(values).all(axis=1)
    is_first = np.zeros(len(values), dtype=bool)
    is_first[ranked] = front(values[ranked])
    order = np.argsort(np.where(ranked, ~is_first, 2), kind="stable")
    after = standing.column_names.index("state") + 1
    return standing.add_column(after, "pareto", pa.array(is_first, mask=~ranked)).take(order)


def front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of `values`, shape [trials, objectives], finite and to be made small, no other dominates."""
    found = np.zeros(len(values), dtype=bool)
    left = np.lexsort(values.T[::-1])
    while len(left):  # in this order nothing that follows dominates the first
        best = values[left[0]]
        found[left[(values[left] == best).all(axis=1)]] = True
        left = left[(values[left] < best).any(axis=1)]
    return found


# ---- the parts of the statement ------------------------------------------------------------------------------------


def _one_each(metrics: Sequence[str], others: Mapping[str, Kind]) -> str:
    """The trials of studies without replicates, which are their rows."""
    columns = [f"{_finite(name)} AS {_name(name)}" for name in metrics]
    columns += [
        f"{_finite(name) if kind == 'number' else _name(name)} AS {_name(name)}" for name, kind in others.items()
    ]
    return f"SELECT study, trial, state, {', '.join(columns)} FROM trials WHERE duplicate_of IS NULL"


def _over_replicates(studies: Mapping[str, Ranking], metrics: Sequence[str], others: Mapping[str, Kind]) -> str:
    """The trials of studies with replicates, as far as all of these are published.

    Numbers are gathered into sorted lists first, from which the quantile is taken to the last digit as
    `trials.quantile` takes it.
    """
    share = _by_study({name: f"{ranking.quantile!r}::DOUBLE" for name, ranking in studies.items()})
    wanted = _by_study({name: str(ranking.replicates) for name, ranking in studies.items()})
    gathered = [
        "count(*) AS replicates",
        f"{share} * (count(*) - 1) AS place",
        f"CASE WHEN count(*) FILTER (state = '{PRUNED}') > 0 THEN '{PRUNED}' "
        f"WHEN count(*) FILTER (state = '{COMPLETE}') > ceil(place) THEN '{COMPLETE}' ELSE '{FAIL}' END AS state",
    ]
    shown = []
    for name in metrics:
        gathered.append(f"{_sorted(name)} AS {_name(name)}")
        shown.append(f"{_quantile(name)} AS {_name(name)}")
        shown.append(f"nullif({_name(name)}[1], {_INFINITE}) AS {_name(name + '_min')}")
        shown.append(f"{_name(name)}[-1] AS {_name(name + '_max')}")
    shown.append("replicates")
    for name, kind in others.items():
        together = {
            "number": _sorted(name),
            "text": f"string_agg(DISTINCT {_name(name)}, ', ' ORDER BY {_name(name)})",
            "setting": f"any_value({_name(name)})",
        }
        gathered.append(f"{together[kind]} AS {_name(name)}")
        shown.append(f"{_quantile(name)} AS {_name(name)}" if kind == "number" else _name(name))
    return (
        f"SELECT study, trial, state, {', '.join(shown)} FROM (SELECT study, trial, {', '.join(gathered)} FROM trials "
        f"WHERE duplicate_of IS NULL GROUP BY study, trial HAVING count(*) >= {wanted})"
    )


def _sorted(name: str) -> str:
    """The numbers of all replicates, infinite for one that failed or did not come to a finite one."""
    value = f"coalesce({_finite(name)}::DOUBLE, {_INFINITE})"
    return f"list_sort(list(CASE WHEN state = '{COMPLETE}' THEN {value} ELSE {_INFINITE} END))"


def _quantile(name: str) -> str:
    """The quantile at `place` of a sorted list, null where it is infinite."""
    low, high = (f"{_name(name)}[{end}(place)::BIGINT + 1]" for end in ("floor", "ceil"))
    between = f"{low} + (place - floor(place)) * ({high} - {low})"
    return f"nullif(CASE WHEN {low} = {high} THEN {low} ELSE {between} END, {_INFINITE})"


def _finite(name: str) -> str:
    return f"CASE WHEN isfinite({_name(name)}::DOUBLE) THEN {_name(name)} END"


def _by_study(values: Mapping[str, str]) -> str:
    """An expression that is another in each study."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    cases = " ".join(f"WHEN {_text(study)} THEN {value}" for study, value in values.items())
    return f"CASE study {cases} END"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
