"""The best configurations of studies over their seeds, with intervals and a mark for those that may be the best.

Seeds belong together where the resolved configuration and the data are the same, in one study or in several that rank
by the same quantile over the replicates. Equal seeds of a configuration are one training and count once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pinncore.problems import PROBLEMS

from ..errors import QueryError
from ..query.confined import Limits
from ..query.query import named_studies, read_study_file, run_query
from ..query.ranking import (
    Kind,
    Ranking,
    check_numbers,
    common_objectives,
    configurations_sql,
    front,
    key_metrics,
    members_sql,
    ranking_of,
    swept_columns,
)
from ..states import COMPLETE
from ..storage.object_store import Remote
from ..storage.schema import metric_columns
from ..storage.stored_tables import tables_of
from . import bootstrap
from .comparability import deciding, obstacles

SEED_SPREAD: Final = 1.5  # largest over smallest result of 8 x 8 networks that differ only in the seed
_MOST_NAMED: Final = 1000  # configurations named in a statement; for more, all are read


@dataclass(frozen=True)
class Leaderboard:
    """The best configurations, one row each, the best first, and notes on how to read them.

    Columns of `table`: study (for several studies), trial, `pareto` (for several objectives), then for each objective
    METRIC, its quantile over the seeds; METRIC_low and METRIC_high, its 95 % interval, null for fewer than five seeds;
    METRIC_min and METRIC_max, infinite where a seed failed; `replicates`, the number of seeds; `may_be_best`, whether
    the configuration cannot be told apart from the first, null where there are too few seeds; the swept settings and
    the key metrics. Where a configuration has several trials, `trial` is the first and `also` names the others.
    """

    table: pa.Table
    notes: tuple[str, ...]

    def shown(self) -> pa.Table:
        """Return the table for people, without columns that have no information."""
        names = self.table.column_names
        empty = [name for name in names if self.table[name].null_count == len(self.table)]
        unused = [name for name in empty if name.endswith(("_low", "_high")) or name in ("may_be_best", "also")]
        with_interval = [name.removesuffix("_low") for name in names if name.endswith("_low") and name not in empty]
        unused += [f"{metric}_{end}" for metric in with_interval for end in ("min", "max")]
        if max(self.table["replicates"].to_pylist(), default=1) == 1:
            unused += [name for name in names if name.endswith(("_min", "_max"))] + ["replicates"]
        return self.table.drop_columns(list(dict.fromkeys(name for name in unused if name in names)))


def top(study_dirs: Sequence[Path | Remote], n: int = 10, by: str | None = None) -> Leaderboard:
    """Return the `n` best configurations of studies, the smallest objective, or column `by`, first.

    With several objectives, configurations that no other dominates come first. Raises `QueryError` where `by` is not
    a numeric column of `trials` or the studies have different objectives, and `StudyError` where a folder is not a
    study.
    """
    if n < 1:
        raise QueryError(f"the number of trials must be at least 1, got {n}")
    places = named_studies(study_dirs)
    files = {name: read_study_file(place) for name, place in places.items()}
    studies = {name: tables_of(place) for name, place in places.items()}
    return run_query(studies, ["trials"], Limits(), lambda connection, _: select_top(connection, files, n, by))


def select_top(
    connection: duckdb.DuckDBPyConnection, files: Mapping[str, Mapping[str, Any]], n: int, by: str | None = None
) -> Leaderboard:
    """Return what `top` does, from a connection with the table `trials` and the study files by study."""
    ranking = {name: ranking_of(file) for name, file in files.items()}
    metrics = (by,) if by else common_objectives(ranking)
    swept: dict[str, Kind] = {name: "setting" for file in files.values() for name in swept_columns(file)}
    kinds = {name: kind for name, kind, *_ in connection.execute("DESCRIBE trials").fetchall()}
    check_numbers(metrics, kinds)
    ranked = connection.sql(configurations_sql(ranking, metrics)).to_arrow_table()
    values = np.stack([ranked[name].cast(pa.float64()).to_numpy() for name in metrics], axis=1)
    is_first = front(np.where(np.isfinite(values), values, np.inf)) if len(metrics) > 1 else np.ones(len(values))
    order = np.argsort(is_first == 0, kind="stable")[:n]
    others = {name: kind for name, kind in (swept | key_metrics()).items() if name in kinds and name not in metrics}
    columns = [name for name in dict.fromkeys((*metrics, *others, *deciding())) if name in kinds]
    chosen = ranked["configuration"].take(order).to_pylist()
    contenders = _seeds_of(chosen, connection.sql(_rows_sql(ranking, columns, chosen)).to_arrow_table())
    table = _table(contenders, metrics, others, is_first[order] == 1, several=len(files) > 1)
    return Leaderboard(table, tuple(_notes(contenders, metrics, table, values[:, 0])))


@dataclass(frozen=True)
class Seeds:
    """One configuration: the rows of its seeds, in the order of study, trial and replicate, and their quantile."""

    rows: tuple[dict[str, Any], ...]
    share: float

    @property
    def trials(self) -> list[tuple[str, int]]:
        """Return the trials that the seeds belong to, as (study, trial)."""
        return list(dict.fromkeys((row["study"], row["trial"]) for row in self.rows))

    def values(self, metric: str) -> list[float]:
        """Return a metric of each seed, infinite where it failed."""
        numbers = [row[metric] if row["state"] == COMPLETE else None for row in self.rows]
        return [math.inf if value is None or not math.isfinite(value) else float(value) for value in numbers]

    def value(self, metric: str) -> float:
        """Return the quantile of a metric over the seeds."""
        return float(bootstrap.quantiles(self.values(metric), self.share))


def _rows_sql(ranking: Mapping[str, Ranking], columns: Sequence[str], configurations: Sequence[int]) -> str:
    """Return the statement for the rows of configurations, or for all rows where these are many."""
    named = ", ".join(map(str, configurations)) or "NULL"
    where = f" WHERE configuration IN ({named})" if len(configurations) <= _MOST_NAMED else ""
    return f"{members_sql(ranking, columns)} FROM members{where} ORDER BY study, trial, replicate"


def _seeds_of(configurations: Sequence[int], rows: pa.Table) -> list[Seeds]:
    """Return configurations with their rows, in the given order."""
    groups: dict[int, list[dict[str, Any]]] = {number: [] for number in configurations}
    for row in rows.filter(pc.is_in(rows["configuration"], pa.array(groups, pa.uint64()))).to_pylist():
        groups[row["configuration"]].append(row)
    return [Seeds(tuple(group), group[0]["share"]) for group in groups.values()]


# ---- the table -----------------------------------------------------------------------------------------------------


def _table(
    contenders: Sequence[Seeds],
    metrics: Sequence[str],
    others: Mapping[str, Kind],
    is_first: NDArray[np.bool_],
    *,
    several: bool,
) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    if several:
        columns["study"] = pa.array([seeds.trials[0][0] for seeds in contenders], pa.string())
    columns["trial"] = pa.array([seeds.trials[0][1] for seeds in contenders], pa.int32())
    if several:
        also = [", ".join(f"{study}/{trial}" for study, trial in seeds.trials[1:]) or None for seeds in contenders]
        columns["also"] = pa.array(also, pa.string())
    if len(metrics) > 1:
        columns["pareto"] = pa.array(is_first)
    for metric in metrics:
        columns |= _spread(contenders, metric)
    columns["replicates"] = pa.array([len(seeds.rows) for seeds in contenders], pa.int32())
    if len(metrics) == 1:
        columns["may_be_best"] = pa.array(_may_be_best(contenders, metrics[0]), pa.bool_())
    for name, kind in others.items():
        columns[name] = pa.array([_together(seeds, name, kind) for seeds in contenders])
    return pa.table(columns)


def _spread(contenders: Sequence[Seeds], metric: str) -> dict[str, pa.Array]:
    """Return columns with the quantile of a metric, its interval, its smallest and its largest value."""
    generator = np.random.default_rng(0)
    values = [seeds.values(metric) for seeds in contenders]
    ends = [
        bootstrap.interval(numbers, seeds.share, generator) for numbers, seeds in zip(values, contenders, strict=True)
    ]
    columns: dict[str, list[float | None]] = {
        metric: [_finite(seeds.value(metric)) for seeds in contenders],
        f"{metric}_low": [end[0] if end else None for end in ends],
        f"{metric}_high": [end[1] if end else None for end in ends],
        f"{metric}_min": [_finite(min(numbers)) for numbers in values],
        f"{metric}_max": [max(numbers) for numbers in values],
    }
    return {name: pa.array(column, pa.float64()) for name, column in columns.items()}


def _may_be_best(contenders: Sequence[Seeds], metric: str) -> list[bool | None]:
    """Return whether each cannot be told apart from the first, None where the two cannot be compared."""
    generator, marks = np.random.default_rng(1), list[bool | None]()
    for seeds in contenders:
        first = contenders[0]
        contrast = bootstrap.contrast(seeds.values(metric), first.values(metric), seeds.share, generator)
        is_known = contrast.told_apart is not None and not obstacles(metric, [*first.rows, *seeds.rows])
        marks.append(seeds is first or not contrast.told_apart if is_known else None)
    return marks


def _together(seeds: Seeds, name: str, kind: Kind) -> Any:
    """Return the value of a column over all seeds."""
    if kind == "number":
        return _finite(seeds.value(name))
    own = [row[name] for row in seeds.rows]
    return own[0] if kind == "setting" else ", ".join(sorted({text for text in own if text is not None})) or None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ---- notes ---------------------------------------------------------------------------------------------------------


def _notes(
    contenders: Sequence[Seeds], metrics: Sequence[str], table: pa.Table, ranked: NDArray[np.float64]
) -> Iterator[str]:
    """Yield sentences on how far the order can be trusted."""
    metric, rows = metrics[0], [row for configuration in contenders for row in configuration.rows]
    if not contenders:
        yield f"No configuration has a finite {metric} yet."
    if len(contenders) < 2:
        return
    for name in metrics:
        yield from (f"{name} cannot be compared between these: {why}." for why in obstacles(name, rows))
    seeds = [len(configuration.rows) for configuration in contenders]
    middle = "median" if contenders[0].share == 0.5 else f"{100 * contenders[0].share:g} % quantile"
    if max(seeds) == 1:
        if is_result(metric):
            near = int(np.count_nonzero(ranked <= SEED_SPREAD * ranked[0])) - 1
            who = f"{near:,} of the other {len(ranked) - 1:,} are" if near else "none of the others is"
            yield (
                f"One seed each: the seed alone changes results of this problem by up to {SEED_SPREAD:g}x, and {who} "
                "within that factor of the first. The order within it means nothing. Write replicates: 10 under search."
            )
    elif max(seeds) < bootstrap.FEWEST_SEEDS:
        yield (
            f"At most {max(seeds)} seeds each: {metric} is their {middle}, min and max their range. Intervals and "
            f"may_be_best need {bootstrap.FEWEST_SEEDS} seeds: write replicates: 10 under search."
        )
    else:
        yield f"{metric} is the {middle} over the seeds; low to high is its 95 % bootstrap interval."
        if "may_be_best" in table.column_names:
            others = [value is not False for value in table["may_be_best"].to_pylist()[1:]]
            yield (
                f"{sum(others)} of the other {len(others)} cannot be told apart from the first (bootstrap of both "
                f"{middle}s, each at 5 %). This is not corrected for the number of comparisons, nor for luck: the "
                f"first is the smallest of {len(ranked):,}. Train those that may be the best again with new seeds."
            )


def is_result(metric: str) -> bool:
    """Return whether a metric depends on the seed as the error does: an error, a loss or a residual."""
    return any(metric in metric_columns(problem) for problem in PROBLEMS)
