"""Two configurations or two studies beside each other: what differs, which is better, and whether that can be said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pinncore.problems import PROBLEMS

from ..errors import QueryError
from ..query.query import named_studies, query, read_study_file
from ..query.ranking import Ranking, ranking_of
from ..states import COMPLETE
from ..storage.object_store import Remote
from ..storage.schema import all_settings
from . import bootstrap
from .bootstrap import Contrast
from .comparability import obstacles, versions_differ
from .leaderboard import SEED_SPREAD, Seeds, is_result

_METRICS: Final = ("rel_l2", "process_zone_error", "heldout_residual", "loss", "seconds", "evaluations", "parameters")


@dataclass(frozen=True)
class Difference:
    """A setting that two have otherwise."""

    setting: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Side:
    """A metric of one configuration: the quantile over its seeds, its 95 % interval, and the range; None: infinite."""

    value: float | None
    low: float | None
    high: float | None
    smallest: float | None
    largest: float | None


@dataclass(frozen=True)
class MetricComparison:
    """A metric of two configurations; `contrast` is the first over the second, None where `obstacles` forbid it."""

    metric: str
    first: Side
    second: Side
    contrast: Contrast | None
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class ConfigurationComparison:
    """Two configurations: `settings` that differ, each metric over the seeds, and the verdict on the first metric."""

    first: str
    second: str
    seeds: tuple[int, int]
    settings: tuple[Difference, ...]
    metrics: tuple[MetricComparison, ...]
    verdict: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """One trial of a study as the comparison sees it."""

    name: str
    ranking: Ranking
    seeds: Seeds

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by its column in trials, without those that an older version did not have."""
        row = self.seeds.rows[0]
        known = row["problem"] if row["problem"] in PROBLEMS else None
        names = ("problem", *(setting.column for setting in all_settings(known)))
        return {name: row[name] for name in names if name in row}


def configuration(study_dir: Path | Remote, trial: int) -> Configuration:
    """Read a trial; one that repeats another has the results of that. Raises `QueryError` where there is none."""
    ((name, place),) = named_studies([study_dir]).items()
    ranking = ranking_of(read_study_file(place))
    rows = query([place], f"FROM trials WHERE trial = {int(trial)} ORDER BY replicate").to_pylist()
    if not rows:
        known = query([place], "SELECT min(trial) AS first, max(trial) AS last FROM trials").to_pylist()[0]
        found = (
            f"it has trials {known['first']} to {known['last']}" if known["last"] is not None else "none has ended yet"
        )
        raise QueryError(f"{name} has no finished trial {trial}; {found}. pinnsweep top lists the best.")
    if rows[0].get("duplicate_of") is not None:
        return configuration(place, rows[0]["duplicate_of"])
    return Configuration(f"{name}/{trial}", ranking, Seeds(tuple(rows), ranking.quantile))


def compare_configurations(first: Configuration, second: Configuration) -> ConfigurationComparison:
    """Compare two trials by the objective of the first's study, and by what else is of interest."""
    objectives = first.ranking.objectives
    rows = (*first.seeds.rows, *second.seeds.rows)
    names = [name for name in dict.fromkeys((*objectives, *_METRICS)) if all(name in row for row in rows)]
    metrics = tuple(_of_metric(name, first.seeds, second.seeds) for name in names)
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
    """Yield what two mappings have otherwise, in the order of the first."""
    for name in dict.fromkeys((*first, *second)):
        one, other = first.get(name), second.get(name)
        if one != other:
            yield Difference(name, one, other)


def _of_metric(metric: str, first: Seeds, second: Seeds) -> MetricComparison:
    why_not = tuple(obstacles(metric, [*first.rows, *second.rows]))
    values, others, generator = first.values(metric), second.values(metric), np.random.default_rng(0)
    sides = [_side(own, each.share) for own, each in ((values, first), (others, second))]
    finite = all(side.value is not None for side in sides)
    found = bootstrap.contrast(values, others, first.share, generator) if finite and not why_not else None
    return MetricComparison(metric, sides[0], sides[1], found, why_not)


def _side(values: Sequence[float], share: float) -> Side:
    ends = bootstrap.interval(values, share, np.random.default_rng(0)) or (math.inf, math.inf)
    known = (float(bootstrap.quantiles(values, share)), *ends, min(values), max(values))
    return Side(*(value if math.isfinite(value) else None for value in known))


# ---- in words ------------------------------------------------------------------------------------------------------


def _verdict(found: MetricComparison, first: Configuration, second: Configuration) -> str:
    """Which is better, or why that cannot be said."""
    if found.obstacles:
        return f"{found.metric} does not compare: {'; '.join(found.obstacles)}."
    for side, name in ((found.first, first.name), (found.second, second.name)):
        if side.value is None:
            return f"{name} has no {found.metric} to compare: so many of its seeds failed or were pruned."
    contrast, seeds = found.contrast, _seeds(first, second)
    if contrast is None or contrast.p_value is None:
        ratio = "" if contrast is None or contrast.ratio is None else f" ({found.metric} {contrast.ratio:.3g}x)"
        spread = f" Seeds alone spread this problem {SEED_SPREAD:g}x." if is_result(found.metric) else ""
        return (
            f"{first.name} and {second.name} cannot be told apart with {seeds}{ratio}: that takes "
            f"{bootstrap.FEWEST_SEEDS} each, better 10.{spread}"
        )
    told = "" if contrast.ratio is None else f": {found.metric} {interval_text(contrast)}"
    if not contrast.told_apart:
        return f"{first.name} and {second.name} cannot be told apart with {seeds}{told}."
    is_first = (
        found.first.value is not None and found.second.value is not None and found.first.value < found.second.value
    )
    better = first.name if is_first else second.name
    return f"{better} is better with {seeds}{told}."


def interval_text(contrast: Contrast) -> str:
    """`0.87x, interval 0.8 to 0.95`."""
    high = "infinity" if contrast.high is None or math.isinf(contrast.high) else f"{contrast.high:.3g}"
    return f"{contrast.ratio:.3g}x, interval {contrast.low:.3g} to {high}"


def _seeds(first: Configuration, second: Configuration) -> str:
    one, other = len(first.seeds.rows), len(second.seeds.rows)
    return f"{one} {'seed' if one == 1 else 'seeds'} each" if one == other else f"{one} and {other} seeds"


def _notes(first: Configuration, second: Configuration) -> Iterator[str]:
    for each in (first, second):
        states = [row["state"] for row in each.seeds.rows if row["state"] != COMPLETE]
        if states:
            told = ", ".join(sorted(set(states)))
            number = len(each.seeds.rows)
            yield f"{each.name}: {len(states)} of {number} seeds have no result ({told}) and count as infinitely bad."
    if first.ranking.quantile != second.ranking.quantile:
        yield f"Quantiles differ: {first.ranking.quantile:g} and {second.ranking.quantile:g} of the seeds."
    if versions := versions_differ([*first.seeds.rows, *second.seeds.rows]):
        yield f"Trained with different software or machines: {versions}."
    if not any(differences(first.settings, second.settings)):
        same = {row["seed"] for row in first.seeds.rows} & {row["seed"] for row in second.seeds.rows}
        yield f"The configurations are the same; {len(same)} seeds are, too."
