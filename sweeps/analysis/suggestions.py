"""What to try next: bounds of the space that the best trials press against, values that win, dimensions without effect.

A dimension is judged from `FEWEST_TRIALS` complete trials on, and every test allows for the number of tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..query.ranking import section_of
from ..spec import yaml_text
from ..spec.parse import parse_spec
from .effects import label
from .importance import FEWEST_TOP, Importance
from .study_axes import Axis, Judged

Kind = Literal["widen", "fix", "drop"]
Indices = NDArray[np.int64]  # of trials

FEWEST_TRIALS: Final = 20
FEWEST_TO_DROP: Final = 50  # of fewer trials, no visible effect says little
_SHARE: Final = 0.1  # of the complete trials, that counts as the best
_ZONE: Final = 0.2  # of a range, at either end
_CHANCE: Final = 0.05  # that any of the tests of a study speaks without reason
_WINNER: Final = 0.8  # share of the best trials with one category, from which it wins
_EXTENSIONS: Final = (0.5, 0.25, 0.1)  # of a range, or of its logarithm; the first that is allowed


@dataclass(frozen=True)
class Suggestion:
    """One thing to try: `widen` a dimension, `fix` it to what wins, `drop` it because nothing came of it.

    `text` is a sentence with the evidence, `study_file` the line to write in the section `section` of the study file.
    """

    dimension: str
    kind: Kind
    text: str
    section: str
    study_file: str


def suggestions(study: Judged, importance: Importance) -> tuple[Suggestion, ...]:
    """Return what the best tenth of the complete trials suggests, in the order of the space.

    Nothing where they are too few to tell, and nothing for the sampler list, which has no space.
    """
    return () if study.sampler == "list" else tuple(_found(study, importance))


def _found(study: Judged, importance: Importance) -> Iterator[Suggestion]:
    noise = {each.name for each in importance.dimensions if each.is_noise}
    axes = [axis for axis in study.axes if not axis.is_constant]
    tests = sum(2 if axis.is_ordered else 1 for axis in axes)
    for axis in axes:
        own = np.flatnonzero(axis.exists & study.complete)
        if len(own) < FEWEST_TRIALS:
            continue
        order = own[np.argsort(study.values[own], kind="stable")]
        best = order[: max(FEWEST_TOP, math.ceil(_SHARE * len(own)))]
        found = _pressed(study, axis, own, best, _CHANCE / tests) or _won(study, axis, own, best, _CHANCE / tests)
        if found:
            yield found
        elif axis.name in noise and importance.trials >= FEWEST_TO_DROP:
            value = axis.value(axis.places[order[0]])
            told = f"{axis.name} made no visible difference in {importance.trials:,} trials: fix it, for instance to "
            told += f"{label(value)} as in the best trial."
            yield Suggestion(axis.name, "drop", told, *_fixed(axis, value))


# ---- bounds --------------------------------------------------------------------------------------------------------


def _pressed(study: Judged, axis: Axis, own: Indices, best: Indices, chance: float) -> Suggestion | None:
    """A bound at which half of the best trials lie, more than of all, and not only near it."""
    if not axis.is_ordered or (axis.categories is not None and len(axis.categories) < 3):
        return None
    for is_upper in (False, True):
        away, prior = _distances(axis, is_upper)
        pressing = best[away[best] <= _ZONE]
        at_edge = int(np.sum(away[best] <= _ZONE / 2))
        expected = prior if study.is_adaptive else float(np.mean(away[own] <= _ZONE))
        if 2 * len(pressing) < len(best) or 2 * at_edge < len(pressing):
            continue
        if _chance_of(len(pressing), len(best), expected) >= chance:
            continue
        for arguments in _wider(axis, is_upper):
            dimension = {**study.file["space"][axis.name], axis.kind: arguments}
            if _is_allowed(study, axis, dimension):
                end = "upper" if is_upper else "lower"
                low, high = (label(axis.value(each(axis.places[pressing]))) for each in (np.min, np.max))
                told = f"{len(pressing)} of the {len(best)} best trials lie at the {end} end of {axis.name} "
                told += f"({low if low == high else f'{low} to {high}'}): widen it."
                return Suggestion(axis.name, "widen", told, "space", _line(axis, dimension))
    return None


def _distances(axis: Axis, is_upper: bool) -> tuple[NDArray[np.float64], float]:
    """How far trials are from a bound, as shares of the range, and what share of the space is within `_ZONE` of it."""
    if axis.categories is not None:
        end = (max if is_upper else min)(axis.categories)
        return np.where(axis.places == axis.categories.index(end), 0.0, 1.0), 1 / len(axis.categories)
    scale: Callable[[Any], Any] = np.log if axis.is_log else np.asarray
    start, length = scale(axis.high if is_upper else axis.low), scale(axis.high) - scale(axis.low)
    away = np.abs(scale(axis.places) - start) / length
    if axis.is_whole and not axis.is_log:
        return away, (math.floor(_ZONE * length) + 1) / (length + 1)
    return away, _ZONE


def _wider(axis: Axis, is_upper: bool) -> Iterator[list[Any]]:
    """Wider arguments of a dimension, the widest first."""
    if axis.categories is not None:
        yield _one_more(list(axis.categories), is_upper)
        return
    for extension in _EXTENSIONS:
        if axis.is_log:
            factor = (axis.high / axis.low) ** extension
            ends = (axis.low, axis.high * factor) if is_upper else (axis.low / factor, axis.high)
        else:
            step = extension * (axis.high - axis.low)
            ends = (axis.low, axis.high + step) if is_upper else (axis.low - step, axis.high)
        low, high = (end if end in (axis.low, axis.high) else float(f"{end:.2g}") for end in ends)
        yield [round(low), round(high)] if axis.is_whole else [low, high]


def _one_more(values: list[Any], is_upper: bool) -> list[Any]:
    """Numbers with one more at an end, at equal differences where they have these, else at equal ratios."""
    ordered = sorted(values, reverse=not is_upper)
    last, before, first = ordered[-1], ordered[-2], ordered[-3]
    by_difference = math.isclose(last - before, before - first) or before * last <= 0
    further = last + (last - before) if by_difference else last * (last / before)
    further = round(further) if all(isinstance(value, int) for value in values) else float(f"{further:.2g}")
    return [*values, further] if is_upper else [further, *values]


def _line(axis: Axis, dimension: dict[str, Any]) -> str:
    """A dimension on one line of a study file, its values as JSON, which YAML contains."""
    return f"{axis.name}: {{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in dimension.items()) + "}"


def _is_allowed(study: Judged, axis: Axis, dimension: dict[str, Any]) -> bool:
    """Whether the study file would be taken with a dimension, which is another than it has."""
    if len(set(dimension[axis.kind])) < len(dimension[axis.kind]) or dimension == study.file["space"][axis.name]:
        return False
    content = {**study.file, "space": {**study.file["space"], axis.name: dimension}}
    try:
        parse_spec(yaml_text.write(content), base=Path(str(study.folder)))
    except SpecError:
        return False
    return True


# ---- values that win -----------------------------------------------------------------------------------------------


def _won(study: Judged, axis: Axis, own: Indices, best: Indices, chance: float) -> Suggestion | None:
    """A category that nearly all of the best trials have, and not nearly all of the others."""
    if axis.categories is None:
        return None
    found, counts = np.unique(axis.places[best], return_counts=True)
    place, there = found[np.argmax(counts)], int(counts.max())
    expected = 1 / len(axis.categories) if study.is_adaptive else float(np.mean(axis.places[own] == place))
    if there < _WINNER * len(best) or _chance_of(there, len(best), expected) * len(axis.categories) >= chance:
        return None
    value = axis.value(place)
    told = (
        f"{there} of the {len(best)} best trials have {axis.name} {label(value)}: fix it, and search the rest closer."
    )
    return Suggestion(axis.name, "fix", told, *_fixed(axis, value))


def _fixed(axis: Axis, value: Any) -> tuple[str, str]:
    """Section and line of a study file that fix a field."""
    line = yaml_text.write({axis.name: value}).strip()
    return section_of(axis.name), line[1:-1] if line.startswith("{") else line


def _chance_of(successes: int, trials: int, share: float) -> float:
    """How often at least so many of some trials are what a `share` of all is."""
    from scipy.stats import binom  # takes long to import

    return float(binom.sf(successes - 1, trials, share))
