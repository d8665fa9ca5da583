"""The trials of a study for importance and effects: the value of each and its place on each swept dimension."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from ..query.query import OpenStudies
from ..query.ranking import dimensions, ranking_of, swept_columns
from ..spec.dimensions import RANGES
from ..spec.samplers import SAMPLERS, SamplerTraits
from ..states import COMPLETE
from ..storage.object_store import Remote

_RANGES: Final = [kind.kind for kind in RANGES]
_MOST_CATEGORIES: Final = 12  # distinct numbers of a list; more are treated as a range
_WIDE: Final = 30.0  # ratio of largest to smallest listed number from which the scale is logarithmic


@dataclass(frozen=True)
class Axis:
    """One swept dimension.

    A range goes from `low` to `high`, on a logarithmic scale where `is_log`; otherwise `categories` holds the distinct
    values. `places` holds the value of each trial in a range or the index of its category, NaN where the dimension
    does not exist (`when`). Shape [trials].
    """

    name: str
    kind: str
    categories: tuple[Any, ...] | None
    low: float
    high: float
    is_log: bool
    is_whole: bool
    places: NDArray[np.float64]

    @property
    def exists(self) -> NDArray[np.bool_]:
        """Return in which trials the dimension exists. Shape [trials]."""
        return np.isfinite(self.places)

    @property
    def is_ordered(self) -> bool:
        """Return whether the values are numbers, so that the dimension can be widened."""
        return self.categories is None or all(_is_number(value) for value in self.categories)

    @property
    def is_constant(self) -> bool:
        """Return whether all trials have the same value."""
        return len(np.unique(self.places[self.exists])) < 2

    def value(self, place: float) -> Any:
        """Return the value at a place, as in a study file."""
        if self.categories is not None:
            return self.categories[int(place)]
        return int(place) if self.is_whole else float(place)


@dataclass(frozen=True)
class Judged:
    """The finished trials of a study, in the order of their numbers, without failed ones that were trained again.

    `values` holds the value of each trial by `metric`, the smaller the better: a quantile over its replicates, infinite
    where it failed or was pruned. `states` are COMPLETE, FAIL and PRUNED. Shapes [trials].
    """

    folder: Path | Remote
    file: dict[str, Any]
    source: ProblemSource
    metric: str
    trials: NDArray[np.int64]
    states: NDArray[Any]
    values: NDArray[np.float64]
    axes: tuple[Axis, ...]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Return which trials have a finite value. Shape [trials]."""
        return np.isfinite(self.values)

    @property
    def sampler(self) -> str:
        """Return the name of the sampler that chose the trials."""
        return str((self.file.get("search") or {}).get("sampler", "random"))

    @property
    def traits(self) -> SamplerTraits:
        """Return what the sampler is; one that `learns` leaves few trials in regions with bad results."""
        return SAMPLERS.get(self.sampler, SamplerTraits())


def judged(study_dir: Path | Remote, by: str | None = None) -> Judged:
    """Read the trials of a study, with values by its first objective or the column `by`.

    Raises what `ranked_trials` raises.
    """
    studies = OpenStudies([study_dir])
    ((name, place),) = studies.places.items()
    retried = studies.answer("SELECT DISTINCT retry_of FROM trials WHERE retry_of IS NOT NULL")["retry_of"]
    return judged_of(place, studies.files[name], studies.tables[name].source, studies.ranked_trials(by), retried, by)


def judged_of(
    place: Path | Remote,
    file: dict[str, Any],
    source: ProblemSource,
    ranked: pa.Table,
    retried: pa.ChunkedArray,
    by: str | None = None,
) -> Judged:
    """Return what `judged` does, from the parts that it reads: `retried` are the trials that were trained again."""
    metric = by or ranking_of(file).objectives[0]
    rows = ranked.sort_by("trial")
    trials, states = rows["trial"].to_numpy().astype(np.int64), np.array(rows["state"].to_pylist(), dtype=object)
    kept = (states == COMPLETE) | ~np.isin(trials, retried.to_numpy())
    rows = rows.filter(pa.array(kept))
    numbers = rows[metric].cast(pa.float64()).to_numpy()
    values = np.where((states[kept] == COMPLETE) & np.isfinite(numbers), numbers, np.inf)
    axes = _axes(file, source.record, rows)
    return Judged(place, file, source, metric, trials[kept], states[kept], values, axes)


# ---- dimensions ----------------------------------------------------------------------------------------------------


def _axes(file: Mapping[str, Any], problem: ProblemRecord, rows: pa.Table) -> tuple[Axis, ...]:
    space = file.get("space") or {}
    columns = dict(zip(dimensions(file), swept_columns(file, problem), strict=True))
    values = {
        name: [_plain(value) for value in rows[column].to_pylist()]
        for name, column in columns.items()
        if column in rows.column_names
    }
    return tuple(_axis(name, space.get(name), values[name], existing(name, file, values)) for name in values)


def existing(name: str, file: Mapping[str, Any], values: Mapping[str, list[Any]]) -> NDArray[np.bool_]:
    """Return in which trials a swept field exists: its conditions (`when`) hold, and the fields in them exist.

    `values` holds the values of the swept fields in the trials, as in the table or as in the study file.
    """
    space = file.get("space") or {}
    exists = np.ones(len(values[name]), dtype=bool)
    for parent, wanted in ((space.get(name) or {}).get("when") or {}).items():
        if parent in values:
            allowed = {_key(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
            exists &= np.array([_key(_plain(value)) in allowed for value in values[parent]], dtype=bool)
            exists &= existing(parent, file, values)
    return exists


def _axis(name: str, dimension: Mapping[str, Any] | None, values: list[Any], exists: NDArray[np.bool_]) -> Axis:
    kind = next((kind for kind in dimension or {} if kind != "when"), "list")
    existing_values = [value for value, there in zip(values, exists, strict=True) if there]
    if dimension is not None and kind in _RANGES:
        low, high = map(float, dimension[kind])
        return _range(name, kind, low, high, kind.startswith("log"), values, exists)
    distinct = {_key(value): value for value in [*(dimension or {}).get(kind, ()), *existing_values]}
    numbers = [float(value) for value in distinct.values() if _is_number(value)]
    if kind == "list" and _MOST_CATEGORIES < len(distinct) == len(numbers):
        low, high = min(numbers), max(numbers)
        return _range(name, kind, low, high, low > 0 and high / low >= _WIDE, values, exists)
    is_sorted = kind == "list" and len(distinct) == len(numbers)
    categories = tuple(sorted(distinct.values()) if is_sorted else distinct.values())
    index = {_key(value): float(position) for position, value in enumerate(categories)}
    places = np.array(
        [index[_key(value)] if there else np.nan for value, there in zip(values, exists, strict=True)], dtype=float
    )
    return Axis(name, kind, categories, 0.0, max(len(categories) - 1.0, 0.0), False, False, places)


def _range(
    name: str, kind: str, low: float, high: float, is_log: bool, values: list[Any], exists: NDArray[np.bool_]
) -> Axis:
    there = [float(value) if _is_number(value) else np.nan for value in values]
    is_whole = all(value is None or isinstance(value, int) for value in values)
    return Axis(name, kind, None, low, high, is_log, is_whole, np.where(exists, there, np.nan))


def _plain(value: Any) -> Any:
    """Return a cell of the table as a value of a study file; lists and mappings are stored as JSON."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.loads(value)
    return value


def _key(value: Any) -> Any:
    """Return a hashable key that is equal for equal settings; true and 1 are different."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    return (type(value), value) if isinstance(value, bool) or value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
