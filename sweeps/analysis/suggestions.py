"""Suggestions what to try next: bounds that the best trials lie at, values that win, dimensions without effect.

A dimension is judged if it has at least `FEWEST_TRIALS` complete trials. Tests are corrected for their number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pinncore.settings import TrainSettings, hints

from ..errors import SpecError
from ..spec import yaml_text
from ..study.loading import parse_stored
from .effects import label
from .importance import FEWEST_TOP, Importance
from .study_axes import Axis, Judged

Kind = Literal["widen", "fix", "drop"]
Indices = NDArray[np.int64]  # of trials

FEWEST_TRIALS: Final = 20
FEWEST_TO_DROP: Final = 50  # trials; with fewer, no visible effect means little
_SHARE: Final = 0.1  # share of the complete trials that count as the best
_ZONE: Final = 0.2  # share of a range at either end that counts as its end
_CHANCE: Final = 0.05  # of a false alarm over all tests of a study
_WINNER: Final = 0.8  # share of the best trials that a category needs to win
_EXTENSIONS: Final = (0.5, 0.25, 0.1)  # of a range or its logarithm; the first allowed one is used


@dataclass(frozen=True)
class Suggestion:
    """One thing to try: `widen` a dimension, `fix` it to the value that wins, or `drop` it because it has no effect.

    `text` is a sentence with the evidence, `study_file` the line for the section `section` of the study file.
    """

    dimension: str
    kind: Kind
    text: str
    section: str
    study_file: str


def suggestions(study: Judged, importance: Importance) -> tuple[Suggestion, ...]:
    """Return the suggestions of the best tenth of the complete trials, in the order of the space.

    There are none for too few trials, and none for the sampler list, which has no space.
    """
    return () if study.traits.reads_list else tuple(_suggestions(study, importance))


def _suggestions(study: Judged, importance: Importance) -> Iterator[Suggestion]:
    noise = {dimension.name for dimension in importance.dimensions if dimension.is_noise}
    axes = [axis for axis in study.axes if not axis.is_constant]
    tests = sum(2 if axis.is_ordered else 1 for axis in axes)
    for axis in axes:
        own = np.flatnonzero(axis.exists & study.complete)
        if len(own) < FEWEST_TRIALS:
            continue
        order = own[np.argsort(study.values[own], kind="stable")]
        best = order[: max(FEWEST_TOP, math.ceil(_SHARE * len(own)))]
        suggestion = _widening(study, axis, own, best, _CHANCE / tests)
        suggestion = suggestion or _fixing(study, axis, own, best, _CHANCE / tests)
        if suggestion:
            yield suggestion
        elif axis.name in noise and importance.trials >= FEWEST_TO_DROP:
            value = axis.value(axis.places[order[0]])
            sentence = f"{axis.name} made no visible difference in {importance.trials:,} trials: fix it, for example "
            sentence += f"to {label(value)} as in the best trial."
            yield Suggestion(axis.name, "drop", sentence, *_fixed(axis, value))


# ---- bounds --------------------------------------------------------------------------------------------------------


def _widening(study: Judged, axis: Axis, own: Indices, best: Indices, chance: float) -> Suggestion | None:
    """Return the suggestion to widen an end where half of the best trials lie, significantly more than of all.

    Half of these must lie in the outer half of that end.
    """
    if not axis.is_ordered or (axis.categories is not None and len(axis.categories) < 3):
        return None
    for is_upper in (False, True):
        away, share = _distances(axis, is_upper)
        near_end = best[away[best] <= _ZONE]
        at_edge = int(np.sum(away[best] <= _ZONE / 2))
        expected = share if study.traits.learns else float(np.mean(away[own] <= _ZONE))
        if 2 * len(near_end) < len(best) or 2 * at_edge < len(near_end):
            continue
        if _chance_of(len(near_end), len(best), expected) >= chance:
            continue
        for arguments in _wider(axis, is_upper):
            dimension = {**study.file["space"][axis.name], axis.kind: arguments}
            if _is_allowed(study, axis, dimension):
                end = "upper" if is_upper else "lower"
                places = axis.places[near_end]
                low, high = label(axis.value(np.min(places))), label(axis.value(np.max(places)))
                sentence = f"{len(near_end)} of the {len(best)} best trials lie at the {end} end of {axis.name} "
                sentence += f"({low if low == high else f'{low} to {high}'}): widen it."
                return Suggestion(axis.name, "widen", sentence, "space", _line(axis, dimension))
    return None


def _distances(axis: Axis, is_upper: bool) -> tuple[NDArray[np.float64], float]:
    """Return the distances of trials from a bound as shares of the range, and the share of the space within `_ZONE`."""
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
    """Yield wider arguments of a dimension, the widest first."""
    if axis.categories is not None:
        yield _extended(list(axis.categories), is_upper)
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


def _extended(values: list[Any], is_upper: bool) -> list[Any]:
    """Return numbers with one more at an end, by the common difference where there is one, else by the last ratio."""
    ordered = sorted(values, reverse=not is_upper)
    last, before, first = ordered[-1], ordered[-2], ordered[-3]
    by_difference = math.isclose(last - before, before - first) or before * last <= 0
    further = last + (last - before) if by_difference else last * (last / before)
    further = round(further) if all(isinstance(value, int) for value in values) else float(f"{further:.2g}")
    return [*values, further] if is_upper else [further, *values]


def _line(axis: Axis, dimension: dict[str, Any]) -> str:
    """Return a dimension as one line of a study file, its values as JSON, which is valid YAML."""
    return f"{axis.name}: {{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in dimension.items()) + "}"


def _is_allowed(study: Judged, axis: Axis, dimension: dict[str, Any]) -> bool:
    """Return whether a dimension differs from the present one, and the study file is valid with it."""
    if len(set(dimension[axis.kind])) < len(dimension[axis.kind]) or dimension == study.file["space"][axis.name]:
        return False
    content = {**study.file, "space": {**study.file["space"], axis.name: dimension}}
    try:
        parse_stored(yaml_text.write(content), study.folder, study.source)
    except SpecError:
        return False
    return True


# ---- values that win -----------------------------------------------------------------------------------------------


def _fixing(study: Judged, axis: Axis, own: Indices, best: Indices, chance: float) -> Suggestion | None:
    """Return the suggestion to fix a category that most of the best trials have, significantly more than of all."""
    if axis.categories is None:
        return None
    places, counts = np.unique(axis.places[best], return_counts=True)
    place, count = places[np.argmax(counts)], int(counts.max())
    expected = 1 / len(axis.categories) if study.traits.learns else float(np.mean(axis.places[own] == place))
    if count < _WINNER * len(best) or _chance_of(count, len(best), expected) * len(axis.categories) >= chance:
        return None
    value = axis.value(place)
    sentence = f"{count} of the {len(best)} best trials have {axis.name} {label(value)}: fix it, and search the rest "
    sentence += "more closely."
    return Suggestion(axis.name, "fix", sentence, *_fixed(axis, value))


def _fixed(axis: Axis, value: Any) -> tuple[str, str]:
    """Return the section and the line of a study file that fix a field."""
    line = yaml_text.write({axis.name: value}).strip()
    return "train" if axis.name in hints(TrainSettings) else "problem", line[1:-1] if line.startswith("{") else line


def _chance_of(successes: int, trials: int, share: float) -> float:
    """Return the probability of at least so many successes among trials, each with probability `share`."""
    from scipy.stats import binom  # takes long to import

    return float(binom.sf(successes - 1, trials, share))
