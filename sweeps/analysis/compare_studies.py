"""The comparison of two studies: their settings, their best trials, and equal configurations in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.problems.record import ProblemRecord

from ..errors import QueryError
from ..query.query import OpenStudies, Schemas
from ..query.ranking import swept_columns
from ..states import COMPLETE
from ..storage.object_store import Remote
from . import bootstrap
from .comparability import deciding, obstacles, versions_differ
from .compare_configurations import (
    ConfigurationComparison,
    Difference,
    compare_configurations,
    configuration,
    differences,
)

Trial = Mapping[str, Any]  # a row of `ranked_trials`
Pair = tuple[Trial, Trial]

_FEWEST_PAIRS: Final = 6  # with fewer the p-value of the signed-rank test cannot fall below 5 %
_WORK: Final = 4_000_000  # pairs times resamples
_SECTIONS: Final = ("problem", "train", "search", "space")


@dataclass(frozen=True)
class Pairs:
    """Configurations that both studies have, paired.

    `matched_by` is `configuration` where whole configurations are equal, else the swept fields that both studies have
    and in which the paired trials are equal. `better`, `worse` and `equal` count pairs from the side of the first
    study. `ratio` is the median of first over second with its 95 % bootstrap interval over pairs, and `p_value` that
    of Wilcoxon's signed-rank test of the logarithms, None for fewer than six pairs. `ambiguous` counts the trials of
    the first study that are left out because several trials of a study are equal in these fields.
    """

    matched_by: tuple[str, ...]
    number: int
    better: int
    worse: int
    equal: int
    ambiguous: int
    ratio: float | None
    low: float | None
    high: float | None
    p_value: float | None
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class StudyComparison:
    """Two studies by `metric`. `best` is None where one has no complete trial, `pairs` where there are none."""

    first: str
    second: str
    metric: str
    complete: tuple[int, int]
    settings: tuple[Difference, ...]
    best: ConfigurationComparison | None
    pairs: Pairs | None
    notes: tuple[str, ...]


def compare_studies(first: Path | Remote, second: Path | Remote) -> StudyComparison:
    """Compare two studies by their common first objective.

    Raises `QueryError` where their objectives differ, and where both are the same study.
    """
    studies = OpenStudies([first, second])
    if len(studies.places) < 2:
        raise QueryError(
            f"two different studies are needed, got {first} twice. To compare two of its trials: {first}/0 {first}/1"
        )
    metric = studies.metrics()[0]
    trials = studies.ranked_trials(metric).to_pylist()
    complete = [trial for trial in trials if trial["state"] == COMPLETE and trial[metric] is not None]
    names = tuple(studies.places)
    one, other = ([trial for trial in complete if trial["study"] == name] for name in names)
    best = None
    if one and other:
        best = compare_configurations(
            *(configuration(studies.places[trial["study"]], trial["trial"]) for trial in (one[0], other[0]))
        )
    facts = _facts(studies)
    return StudyComparison(
        first=names[0],
        second=names[1],
        metric=metric,
        complete=(len(one), len(other)),
        settings=tuple(differences(*map(_flat, studies.files.values()))),
        best=best,
        pairs=_pairs(one, other, metric, studies, facts),
        notes=tuple(_notes(facts, metric, len(one), len(other), studies.problems.values())),
    )


def _flat(file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a study file on problem, training, search and space, by path."""
    return {f"{section}.{key}": value for section in _SECTIONS for key, value in (file.get(section) or {}).items()}


def _facts(studies: OpenStudies) -> list[dict[str, Any]]:
    """Return the distinct combinations of the values that decide whether results can be compared."""

    def answer(connection: duckdb.DuckDBPyConnection, schemas: Schemas) -> pa.Table:
        names = ", ".join(name for name in deciding(studies.problems.values()) if name in schemas["trials"].names)
        sql = f"SELECT DISTINCT study, {names} FROM trials WHERE state = '{COMPLETE}'"
        return connection.sql(sql).to_arrow_table()

    return studies.read(["trials"], answer).to_pylist()


def _notes(
    facts: Sequence[Mapping[str, Any]], metric: str, one: int, other: int, problems: Iterable[ProblemRecord]
) -> Iterator[str]:
    for why in obstacles(metric, facts, problems):
        yield f"Some values of {metric} cannot be compared between these studies: {why}."
    if versions := versions_differ(facts):
        yield f"Trained with different software or on different machines: {versions}."
    if one != other and min(one, other):
        yield f"Comparing the best trials favours the study with more trials ({one:,} and {other:,})."


# ---- pairs ---------------------------------------------------------------------------------------------------------


def _pairs(
    one: Sequence[Trial], other: Sequence[Trial], metric: str, studies: OpenStudies, facts: Sequence[Mapping[str, Any]]
) -> Pairs | None:
    sql = "SELECT study, trial, any_value(config_hash || data_hash) AS hash FROM trials GROUP BY ALL"
    hashes = {(row["study"], row["trial"]): row["hash"] for row in studies.answer(sql).to_pylist()}
    pairs, ambiguous = _matched(one, other, lambda trial: hashes.get((trial["study"], trial["trial"])))
    by: tuple[str, ...] = ("configuration",)
    same: Sequence[str] = [name for name in deciding(studies.problems.values()) if name != "data_hash"]
    if not pairs:
        fields, others = map(swept_columns, studies.files.values(), studies.problems.values())
        same = by = tuple(name for name in fields if name in others)
        pairs, ambiguous = _matched(one, other, lambda trial: tuple(trial[name] for name in by) if by else None)
    if not pairs:
        return None
    values = np.array([[trial[metric], match[metric]] for trial, match in pairs], dtype=float)  # [pairs, 2]
    below, above = int(np.sum(values[:, 0] < values[:, 1])), int(np.sum(values[:, 0] > values[:, 1]))
    counts = (len(pairs), below, above, len(pairs) - below - above, ambiguous)
    rows = [{key: row[key] for key in row if key not in same} for row in facts]
    why_not = tuple(obstacles(metric, rows, studies.problems.values()))
    if why_not:
        return Pairs(by, *counts, None, None, None, None, why_not)
    return Pairs(by, *counts, *ratio_of(values), why_not)


def _matched(one: Sequence[Trial], other: Sequence[Trial], key: Callable[[Trial], Any]) -> tuple[list[Pair], int]:
    """Return pairs of trials whose key is unique in both studies, and how many others of the first have a match."""
    groups: dict[Any, tuple[list[Trial], list[Trial]]] = {}
    for side, trials in enumerate((one, other)):
        for trial in trials:
            if (own := key(trial)) is not None:
                groups.setdefault(own, ([], []))[side].append(trial)
    shared = [(mine, theirs) for mine, theirs in groups.values() if mine and theirs]
    unique = [(mine[0], theirs[0]) for mine, theirs in shared if len(mine) == len(theirs) == 1]
    return unique, sum(len(mine) for mine, _ in shared) - len(unique)


def ratio_of(values: NDArray[np.float64]) -> tuple[float | None, float | None, float | None, float | None]:
    """Return median ratio, both ends of its interval, and p-value, as in `Pairs`. `values`: shape [pairs, 2]."""
    from scipy.stats import wilcoxon  # takes long to import

    values = values[(values > 0).all(axis=1)]
    number, ratios = len(values), values[:, 0] / values[:, 1]
    if not number:
        return None, None, None, None
    median = float(np.median(ratios))
    if number < _FEWEST_PAIRS:
        return median, None, None, None
    draws = max(100, min(bootstrap.DRAWS, _WORK // number))
    low, high = bootstrap.ends(bootstrap.resampled(ratios, 0.5, np.random.default_rng(0), draws))
    is_equal = bool((ratios == 1).all())
    p_value = 1.0 if is_equal else float(wilcoxon(np.log(ratios), zero_method="zsplit").pvalue)
    return median, low, high, p_value
