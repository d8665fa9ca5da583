"""A study as importance and effects see it: the value of every trial and its place on each swept dimension."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..query.query import place_of, query, ranked_trials, read_study_file
from ..query.ranking import dimensions, ranking_of, swept_columns
from ..states import COMPLETE
from ..storage.object_store import Remote

ADAPTIVE: Final = ("tpe", "gp", "cmaes", "nsga2")  # samplers that go where results were good
_RANGES: Final = ("int", "logint", "uniform", "loguniform")
_MOST_CATEGORIES: Final = 12  # different numbers of a list; more are a range
_WIDE: Final = 30.0  # ratio of largest to smallest listed number from which the scale is a logarithm


@dataclass(frozen=True)
class Axis:
    """One swept dimension.

    A range goes from `low` to `high`, a logarithmic one by ratios; otherwise `categories` holds the different values.
    `places` has the value of each trial on a range or the index of its category, NaN where the dimension does not
    exist beside the others (`when`). Shape [trials].
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
        """In which trials the dimension exists."""
        return np.isfinite(self.places)

    @property
    def is_ordered(self) -> bool:
        """Whether values are numbers, so that there is a beyond."""
        return self.categories is None or all(_is_number(value) for value in self.categories)

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to compare."""
        return len(np.unique(self.places[self.exists])) < 2

    def value(self, place: float) -> Any:
        """Return what stands at a place, as a study file writes it."""
        if self.categories is not None:
            return self.categories[int(place)]
        return int(place) if self.is_whole else float(place)


@dataclass(frozen=True)
class Judged:
    """The whole trials of a study, in the order of their numbers, without failed ones that were trained again.

    `values` is what each is worth by `metric`, the smaller the better: a quantile over its replicates, infinite where
    it failed or was pruned. `states` are COMPLETE, FAIL and PRUNED.
    """

    folder: Path | Remote
    file: dict[str, Any]
    metric: str
    trials: NDArray[np.int64]
    states: NDArray[Any]
    values: NDArray[np.float64]
    axes: tuple[Axis, ...]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which trials have a finite value."""
        return np.isfinite(self.values)

    @property
    def sampler(self) -> str:
        """How the trials were chosen."""
        return str((self.file.get("search") or {}).get("sampler", "random"))

    @property
    def is_adaptive(self) -> bool:
        """Whether the sampler went where results were good, which leaves bad regions with few trials."""
        return self.sampler in ADAPTIVE


def judged(study_dir: Path | Remote, by: str | None = None) -> Judged:
    """Read a study, valued by its first objective unless `by` names another number. Raises as `query.standing`."""
    place = place_of(study_dir)
    file = read_study_file(place)
    metric = by or ranking_of(file).objectives[0]
    lines = ranked_trials([place], metric).sort_by("trial")
    again = query([place], "SELECT DISTINCT retry_of FROM trials WHERE retry_of IS NOT NULL")["retry_of"].to_numpy()
    trials, states = lines["trial"].to_numpy().astype(np.int64), np.array(lines["state"].to_pylist(), dtype=object)
    kept = (states == COMPLETE) | ~np.isin(trials, again)
    lines = lines.filter(pa.array(kept))
    values = lines[metric].cast(pa.float64()).to_numpy()
    found = np.where((states[kept] == COMPLETE) & np.isfinite(values), values, np.inf)
    return Judged(place, file, metric, trials[kept], states[kept], found, _axes(file, lines))


# ---- dimensions ----------------------------------------------------------------------------------------------------


def _axes(file: Mapping[str, Any], lines: pa.Table) -> tuple[Axis, ...]:
    space = file.get("space") or {}
    columns = dict(zip(dimensions(file), swept_columns(file), strict=True))
    values = {
        name: [_plain(value) for value in lines[column].to_pylist()]
        for name, column in columns.items()
        if column in lines.column_names
    }
    return tuple(_axis(name, space.get(name), values[name], existing(name, file, values)) for name in values)


def existing(name: str, file: Mapping[str, Any], values: Mapping[str, list[Any]]) -> NDArray[np.bool_]:
    """Return in which trials a swept field exists beside the others (`when`), which themselves must exist.

    `values` are those of the swept fields in the trials, as the table has them or as the study file writes them.
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
    found = [value for value, there in zip(values, exists, strict=True) if there]
    if dimension is not None and kind in _RANGES:
        low, high = map(float, dimension[kind])
        return _range(name, kind, low, high, kind.startswith("log"), values, exists)
    known = {_key(value): value for value in [*(dimension or {}).get(kind, ()), *found]}
    numbers = [float(value) for value in known.values() if _is_number(value)]
    if kind == "list" and _MOST_CATEGORIES < len(known) == len(numbers):
        low, high = min(numbers), max(numbers)
        return _range(name, kind, low, high, low > 0 and high / low >= _WIDE, values, exists)
    categories = tuple(sorted(known.values()) if kind == "list" and len(known) == len(numbers) else known.values())
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
    """A cell of the table as a study file has it: lists and mappings are stored as JSON."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.loads(value)
    return value


def _key(value: Any) -> Any:
    """Something equal for equal settings: true is no 1, and lists can be compared."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    return (type(value), value) if isinstance(value, bool) or value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
