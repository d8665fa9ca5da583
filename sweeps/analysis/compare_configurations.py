"""The comparison of two configurations: their settings, their metrics over the seeds, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pinncore.problems.record import ProblemRecord

from ..errors import QueryError
from ..query.query import OpenStudies
from ..query.ranking import Ranking
from ..states import COMPLETE
from ..storage.object_store import Remote
from ..storage.schema import all_settings
from ..study.replicates import finite, quantile
from . import bootstrap
from .bootstrap import Contrast
from .comparability import obstacles, versions_differ
from .leaderboard import SEED_SPREAD, Seeds, is_result

_COSTS: Final = ("loss", "seconds", "evaluations", "parameters")


@dataclass(frozen=True)
class Difference:
    """A setting whose values differ between the two."""

    setting: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Side:
    """A metric of one configuration: the quantile over its seeds, its 95 % interval, the range; None is infinite."""

    value: float | None
    low: float | None
    high: float | None
    smallest: float | None
    largest: float | None


@dataclass(frozen=True)
class MetricComparison:
    """A metric of two configurations, which people may see in per cent.

    `contrast` is first over second, None where there are `obstacles` to it.
    """

    metric: str
    first: Side
    second: Side
    contrast: Contrast | None
    obstacles: tuple[str, ...]
    is_percent: bool = False


@dataclass(frozen=True)
class ConfigurationComparison:
    """Two configurations: the `settings` that differ, each metric over the seeds, the verdict by the first metric."""

    first: str
    second: str
    seeds: tuple[int, int]
    settings: tuple[Difference, ...]
    metrics: tuple[MetricComparison, ...]
    verdict: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """One trial of a study, with its seeds, and the problem and the ranking rules of the study."""

    name: str
    problem: ProblemRecord
    ranking: Ranking
    seeds: Seeds

    @property
    def settings(self) -> dict[str, Any]:
        """Return every setting that is a column of `trials`, by column."""
        row = self.seeds.rows[0]
        names = ("problem", *(setting.column for setting in all_settings(self.problem)))
        return {name: row[name] for name in names if name in row}


def configuration(study_dir: Path | Remote, trial: int) -> Configuration:
    """Read a trial; where it repeats another, read that one. Raises `QueryError` where the trial does not exist."""
    studies = OpenStudies([study_dir])
    ((name, ranking),) = studies.ranking.items()
    rows = studies.answer(f"FROM trials WHERE trial = {int(trial)} ORDER BY replicate").to_pylist()
    if not rows:
        ends = studies.answer("SELECT min(trial) AS first, max(trial) AS last FROM trials").to_pylist()[0]
        finished = (
            f"it has trials {ends['first']} to {ends['last']}" if ends["last"] is not None else "none has finished yet"
        )
        raise QueryError(f"{name} has no finished trial {trial}; {finished}. pinnsweep top lists the best.")
    if rows[0].get("duplicate_of") is not None:
        return configuration(study_dir, rows[0]["duplicate_of"])
    return Configuration(f"{name}/{trial}", studies.problems[name], ranking, Seeds(tuple(rows), ranking.quantile))


def compare_configurations(first: Configuration, second: Configuration) -> ConfigurationComparison:
    """Compare two trials by the objectives of the first one's study, and by the other usual metrics."""
    objectives = first.ranking.objectives
    rows = (*first.seeds.rows, *second.seeds.rows)
    problems = (first.problem, second.problem)
    known = [metric.name for problem in problems for metric in problem.metrics if metric.is_objective]
    names = [name for name in dict.fromkeys((*objectives, *known, *_COSTS)) if all(name in row for row in rows)]
    metrics = tuple(_of_metric(name, first, second) for name in names)
    return ConfigurationComparison(
        first=first.name,
        second=second.name,
        seeds=(len(first.seeds.rows), len(second.seeds.rows)),
        settings=tuple(differences(first.settings, second.settings)),
        metrics=metrics,
        verdict=_verdict(metrics[0], first, second),
        notes=tuple(_notes(first, second)),
    )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the entries in which two mappings differ, in the order of the first."""
    for name in dict.fromkeys((*first, *second)):
        one, other = first.get(name), second.get(name)
        if one != other:
            yield Difference(name, one, other)


def _of_metric(metric: str, one: Configuration, other: Configuration) -> MetricComparison:
    first, second, problems = one.seeds, other.seeds, (one.problem, other.problem)
    why_not = tuple(obstacles(metric, [*first.rows, *second.rows], problems))
    values, others, generator = first.values(metric), second.values(metric), np.random.default_rng(0)
    sides = [_side(numbers, seeds.share) for numbers, seeds in ((values, first), (others, second))]
    finite = all(side.value is not None for side in sides)
    contrast = bootstrap.contrast(values, others, first.share, generator) if finite and not why_not else None
    is_percent = any(metric in problem.in_per_cent for problem in problems)
    return MetricComparison(metric, sides[0], sides[1], contrast, why_not, is_percent)


def _side(values: Sequence[float], share: float) -> Side:
    low, high = bootstrap.interval(values, share, np.random.default_rng(0)) or (math.inf, math.inf)
    return Side(*map(finite, (quantile(values, share), low, high, min(values), max(values))))


# ---- text ----------------------------------------------------------------------------------------------------------


def _verdict(comparison: MetricComparison, first: Configuration, second: Configuration) -> str:
    """Return which of the two is better, or why that cannot be decided, as a sentence."""
    if comparison.obstacles:
        return f"{comparison.metric} cannot be compared: {'; '.join(comparison.obstacles)}."
    for side, name in ((comparison.first, first.name), (comparison.second, second.name)):
        if side.value is None:
            return f"{name} has no {comparison.metric} to compare: too many of its seeds failed or were pruned."
    contrast, seeds = comparison.contrast, seeds_text(len(first.seeds.rows), len(second.seeds.rows))
    ratio = f"{comparison.metric} {ratio_text(contrast)}" if ratio_text(contrast) else ""
    if contrast is None or contrast.told_apart is None:
        known = f" {first.name} over {second.name}: {ratio}." if ratio else ""
        return (
            f"Not decided: {seeds}.{known} To tell them apart needs at least {bootstrap.FEWEST_SEEDS} seeds each, "
            f"better 10.{_spread(comparison, first.problem)}"
        )
    ratio = f": {ratio}" if ratio else ""
    if not contrast.told_apart:
        return f"{first.name} and {second.name} cannot be told apart with {seeds}{ratio}."
    is_first = (comparison.first.value or 0.0) < (comparison.second.value or 0.0)
    return f"{(first if is_first else second).name} is better with {seeds}{ratio}."


def _spread(comparison: MetricComparison, problem: ProblemRecord) -> str:
    """Return how much the seed alone changes results, beside the difference of two; empty for other metrics."""
    ratio = comparison.contrast and comparison.contrast.ratio
    if not is_result(comparison.metric, [problem]) or not ratio:
        return ""
    which = "more" if max(ratio, 1 / ratio) <= SEED_SPREAD else "less"
    return f" The seed alone changes results of this problem by up to {SEED_SPREAD:g}x, {which} than this difference."


def ratio_text(contrast: Contrast | None) -> str:
    """Return a ratio with its interval as text: `0.87x, interval 0.8 to 0.95`; empty where it is not known."""
    if contrast is None or contrast.ratio is None:
        return ""
    if contrast.low is None or contrast.high is None:
        return f"{contrast.ratio:.3g}x"
    high = "infinity" if math.isinf(contrast.high) else f"{contrast.high:.3g}"
    return f"{contrast.ratio:.3g}x, interval {contrast.low:.3g} to {high}"


def seeds_text(one: int, other: int) -> str:
    """Return the numbers of seeds on both sides as text."""
    if one == other:
        return "one seed each" if one == 1 else f"{one} seeds each"
    return f"{one} and {other} seeds"


def _notes(first: Configuration, second: Configuration) -> Iterator[str]:
    for side in (first, second):
        states = [row["state"] for row in side.seeds.rows if row["state"] != COMPLETE]
        if states:
            names, number = ", ".join(sorted(set(states))), len(side.seeds.rows)
            yield f"{side.name}: {len(states)} of {number} seeds have no result ({names}) and count as infinitely bad."
    if first.ranking.quantile != second.ranking.quantile:
        quantiles = f"{first.ranking.quantile:g} and {second.ranking.quantile:g}"
        yield f"The studies rank by different quantiles over the seeds: {quantiles}."
    if versions := versions_differ([*first.seeds.rows, *second.seeds.rows]):
        yield f"Trained with different software or on different machines: {versions}."
    if not any(differences(first.settings, second.settings)):
        same = {row["seed"] for row in first.seeds.rows} & {row["seed"] for row in second.seeds.rows}
        yield f"The configurations are equal and have {len(same)} equal {'seed' if len(same) == 1 else 'seeds'}."
