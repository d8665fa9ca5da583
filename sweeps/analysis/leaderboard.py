"""The best configurations of studies over their seeds, with intervals and a mark for those that may be the best.

Seeds belong together where the resolved configuration and the data are the same, in one study or in several that rank
by the same quantile over the replicates. Equal seeds of a configuration are one training and count once.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.problems.record import ProblemRecord

from ..errors import QueryError
from ..query.blocks import Block, Listing
from ..query.query import OpenStudies, Schemas
from ..query.ranking import Kind, configurations_sql, front, members_sql, numbers
from ..states import COMPLETE
from ..storage.object_store import Remote
from ..storage.schema import metric_columns
from ..study.replicates import finite, quantile, quantile_name, value_of
from . import bootstrap
from .comparability import deciding, obstacles

SEED_SPREAD: Final = 1.5  # largest over smallest result of 8 x 8 networks that differ only in the seed


@dataclass(frozen=True)
class Leaderboard:
    """The best configurations, one row each, the best first, and notes on how to read them.

    Columns of `table`: study (for several studies), trial, `pareto` (for several objectives), then for each objective
    METRIC, its quantile over the seeds; METRIC_low and METRIC_high, its 95 % interval, null for fewer than five seeds;
    METRIC_min and METRIC_max, infinite where a seed failed; `replicates`, the number of seeds; `may_be_best`, whether
    the configuration cannot be told apart from the first, null where there are too few seeds; the swept settings and
    the key metrics. Where a configuration has several trials, `trial` is the first and `also` names the others. People
    see the metrics `in_per_cent` so.
    """

    table: pa.Table
    notes: tuple[str, ...]
    in_per_cent: frozenset[str]

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

    def blocks(self) -> Iterator[Block]:
        """Yield the table for people, where it has rows, and the notes."""
        if self.table.num_rows:
            yield Listing(self.shown(), self.in_per_cent)
        yield from self.notes


def top(study_dirs: Sequence[Path | Remote], n: int = 10, by: str | None = None) -> Leaderboard:
    """Return the `n` best configurations of studies, the smallest objective, or column `by`, first.

    With several objectives, configurations that no other dominates come first. Raises `QueryError` where `by` is not
    a numeric column of `trials` or the studies have different objectives, and `StudyError` where a folder is not a
    study.
    """
    if n < 1:
        raise QueryError(f"the number of trials must be at least 1, got {n}")
    studies = OpenStudies(study_dirs)
    return studies.read(["trials"], lambda connection, schemas: top_in(studies, connection, schemas, n, by))


def top_in(
    studies: OpenStudies, connection: duckdb.DuckDBPyConnection, schemas: Schemas, n: int, by: str | None = None
) -> Leaderboard:
    """Return what `top` does, from a connection with the table `trials`."""
    metrics, problems = studies.metrics(by), tuple(dict.fromkeys(studies.problems.values()))
    others = studies.columns(schemas["trials"], metrics)
    ranked = connection.sql(configurations_sql(studies.ranking, metrics)).to_arrow_table()
    values = numbers(ranked, metrics)
    is_first = front(np.where(np.isfinite(values), values, np.inf)) if len(metrics) > 1 else np.ones(len(values))
    order = np.argsort(is_first == 0, kind="stable")[:n]
    columns = [
        name for name in dict.fromkeys((*metrics, *others, *deciding(problems))) if name in schemas["trials"].names
    ]
    chosen = pa.table({"configuration": ranked["configuration"].take(order), "place": np.arange(len(order))})
    connection.register("chosen", chosen)
    sql = (
        f"{members_sql(studies.ranking, columns)} SELECT members.*, place FROM members JOIN chosen "
        "USING (configuration) ORDER BY place, study, trial, replicate"
    )
    rows = connection.sql(sql).to_arrow_table().to_pylist()
    groups = (tuple(group) for _, group in itertools.groupby(rows, operator.itemgetter("place")))
    contenders = [Seeds(group, group[0]["share"]) for group in groups]
    table = _table(contenders, metrics, others, is_first[order] == 1, problems, several=len(studies.places) > 1)
    return Leaderboard(table, tuple(_notes(contenders, metrics, table, values[:, 0], problems)), studies.in_per_cent)


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
        return [value_of(row[metric], has_result=row["state"] == COMPLETE) for row in self.rows]

    def value(self, metric: str) -> float:
        """Return the quantile of a metric over the seeds."""
        return quantile(self.values(metric), self.share)


# ---- the table -----------------------------------------------------------------------------------------------------


def _table(
    contenders: Sequence[Seeds],
    metrics: Sequence[str],
    others: Mapping[str, Kind],
    is_first: NDArray[np.bool_],
    problems: Sequence[ProblemRecord],
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
        columns["may_be_best"] = pa.array(_may_be_best(contenders, metrics[0], problems), pa.bool_())
    for name, kind in others.items():
        columns[name] = pa.array([_together(seeds, name, kind) for seeds in contenders])
    return pa.table(columns)


def _spread(contenders: Sequence[Seeds], metric: str) -> dict[str, pa.Array]:
    """Return columns with the quantile of a metric, its interval, its smallest and its largest value."""
    generator, spread = np.random.default_rng(0), []
    for seeds in contenders:
        values = seeds.values(metric)
        low, high = bootstrap.interval(values, seeds.share, generator) or (None, None)
        spread.append((finite(seeds.value(metric)), low, high, finite(min(values)), max(values)))
    ends = ("", "_low", "_high", "_min", "_max")
    return {metric + end: pa.array([row[place] for row in spread], pa.float64()) for place, end in enumerate(ends)}


def _may_be_best(contenders: Sequence[Seeds], metric: str, problems: Sequence[ProblemRecord]) -> list[bool | None]:
    """Return whether each cannot be told apart from the first, None where the two cannot be compared."""
    generator, marks = np.random.default_rng(1), list[bool | None]()
    for seeds in contenders:
        first = contenders[0]
        contrast = bootstrap.contrast(seeds.values(metric), first.values(metric), seeds.share, generator)
        why_not = obstacles(metric, [*first.rows, *seeds.rows], problems)
        is_known = contrast.told_apart is not None and not why_not
        marks.append(seeds is first or not contrast.told_apart if is_known else None)
    return marks


def _together(seeds: Seeds, name: str, kind: Kind) -> Any:
    """Return the value of a column over all seeds."""
    if kind == "number":
        return finite(seeds.value(name))
    own = [row[name] for row in seeds.rows]
    return own[0] if kind == "setting" else ", ".join(sorted({text for text in own if text is not None})) or None


# ---- notes ---------------------------------------------------------------------------------------------------------


def _notes(
    contenders: Sequence[Seeds],
    metrics: Sequence[str],
    table: pa.Table,
    ranked: NDArray[np.float64],
    problems: Sequence[ProblemRecord],
) -> Iterator[str]:
    """Yield sentences on how far the order can be trusted."""
    metric, rows = metrics[0], [row for configuration in contenders for row in configuration.rows]
    if not contenders:
        yield f"No configuration has a finite {metric} yet."
    if len(contenders) < 2:
        return
    for name in metrics:
        yield from (f"{name} cannot be compared between these: {why}." for why in obstacles(name, rows, problems))
    seeds = [len(configuration.rows) for configuration in contenders]
    middle = quantile_name(contenders[0].share)
    if max(seeds) == 1:
        if is_result(metric, problems):
            yield _of_single_seeds(ranked)
    elif max(seeds) < bootstrap.FEWEST_SEEDS:
        yield (
            f"At most {max(seeds)} seeds each: {metric} is their {middle}, min and max their range. Intervals and "
            f"may_be_best need {bootstrap.FEWEST_SEEDS} seeds: write replicates: 10 under search."
        )
    else:
        yield f"{metric} is the {middle} over the seeds; low to high is its 95 % bootstrap interval."
        if "may_be_best" in table.column_names:
            yield (
                f"{_told_apart(table['may_be_best'].to_pylist()[1:])} (bootstrap of both {middle}s, each at 5 %). This "
                "is not corrected for the number of comparisons, nor for luck: the first is the smallest of "
                f"{len(ranked):,}. Train those that may be the best again with new seeds."
            )


def _of_single_seeds(ranked: NDArray[np.float64]) -> str:
    """Return what the order of results with one seed each is worth."""
    near, others = int(np.count_nonzero(ranked <= SEED_SPREAD * ranked[0])) - 1, len(ranked) - 1
    text = f"One seed each, and the seed alone changes results of this problem by up to {SEED_SPREAD:g}x. "
    if near:
        who = f"{near:,} of the other {others:,} {'is' if near == 1 else 'are'}"
        text += f"{who} within that factor of the first, so it is not decided which of these is the best. "
    else:
        text += "The first is ahead of every other by more than that; the order of others that are closer together is "
        text += "not decided. "
    return f"{text}Write replicates: 10 under search."


def _told_apart(may_be_best: Sequence[bool | None]) -> str:
    """Return how many of the others may be the best as well, and of how many that is not known."""
    number, alike, unknown = len(may_be_best), may_be_best.count(True), may_be_best.count(None)
    if not alike and not unknown:
        return "All others are told apart from the first"
    parts = [f"{alike} of the other {number} cannot be told apart from the first"] if alike or not unknown else []
    parts += [f"{unknown} of the other {number} are not decided: too few seeds, or not comparable"] if unknown else []
    return "; ".join(parts)


def is_result(metric: str, problems: Iterable[ProblemRecord]) -> bool:
    """Return whether a metric of problems depends on the seed as the error does: an error, a loss or a residual."""
    return any(metric in metric_columns(problem) for problem in problems)
