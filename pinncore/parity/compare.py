"""The comparison of a trace with our replay, or with another trace, and the search for what explains it.

A first pass judges every explanation coarsely, by the rounding of our side; the best ones are judged again by their
own, since what explains a difference need not have the rounding of what does not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ..errors import PinnError, TraceError
from ..initialisation import SOURCES
from ..member import Member
from ..networks import flatten, unflatten
from ..problems.columns import Array
from ..training import lbfgs_settings
from .evaluation import EPSILON
from .explanations import explanations
from .families import families_of
from .reading import training_of
from .replay import Replay, Rounding, Variant
from .results import BEYOND, Comparison, ConfigurationLine, Difference, Explanation, Place
from .second_stage import compare_second_stage
from .trace import Arrays, Trace

Look = Callable[[str, int, int], None]  # what is done, and how far of how much

_COARSE: Final = 30.0  # times the limit, for rounding that is not the variant's own
_SINGLES: Final = 10  # best ones, that pairs are made of
_SHOWN: Final = 12  # steps named in a sentence
_MEASURED: Final = 3  # variants whose own rounding is measured at most
_MORE_STEPS: Final = 2  # recorded steps behind the first difference that the coarse pass looks at


def compare(trace: Trace, other: Trace | None = None, *, pairs: bool = True, look: Look | None = None) -> Comparison:
    """Compare a trace with our replay of it, or with another trace, and explain the first difference.

    With another trace, our side is configured and started as `trace`, and `other` is to be explained. Raises
    `TraceError` where nothing can be compared, `SettingError`, `DataError` where the configuration is no training.
    """
    return _Search(trace, other or trace, pairs, look or (lambda what, done, of: None)).result()


@dataclass(frozen=True)
class _Judged:
    """A variant, the number of the first place at which it parts (None: nowhere), and the difference there."""

    variant: Variant
    at: int | None
    difference: Difference | None

    @property
    def rank(self) -> tuple[float, float]:
        """Return a key that is smaller for better explanations."""
        if self.at is None or self.difference is None:
            return (-math.inf, 0.0)
        return (-float(self.at), self.difference.units)


class _Search:
    def __init__(self, source: Trace, target: Trace, pairs: bool, look: Look) -> None:
        self._started = time.process_time()
        self._data = _data(source, target)
        if any(each.is_beyond for each in self._data):  # what follows the points is compared with theirs
            source = replace(source, points=target.points, steps=_start_only(source))
        train, problem = training_of(source)
        if source.layers != target.layers:
            raise TraceError(
                f"{target.source}: its layers are {_dashes(target)}, those of {source.source} {_dashes(source)}; "
                "only networks of one shape can be compared"
            )
        self._source, self._target, self._with_pairs, self._look = source, target, pairs, look
        self._replay = Replay(source, target, train, problem)
        self._places = self._replay.places
        if not self._places and not target.iterations:
            raise TraceError(f"{target.source}: nothing in it can be compared")
        self._ours = Rounding(self._replay, Variant())

    def result(self) -> Comparison:
        """Return the whole comparison."""
        differences = self._differences()
        first = next((number for number, each in enumerate(differences) if each.is_beyond), None)
        singles: list[_Judged] = []
        pairs: list[_Judged] = []
        if first is not None:
            singles = self._explained(explanations(self._replay), first, "explanations")
            if self._with_pairs and not any(judged.at is None for judged in singles):
                pairs = self._explained(self._pairs(singles, first), first, "pairs")
        explained = [self._explanation(judged) for judged in singles]
        later, searches = self._second_stage()
        if first is None and any(each.is_beyond for each in later):
            explained = searches
        elif first is None:
            drawn, explained = self._family()
            differences = (*drawn, *differences)
        every = (*self._data, *differences, *later)
        agrees = not any(each.is_beyond for each in every)
        return self._comparison(
            every,
            tuple(explained),
            tuple(self._explanation(judged) for judged in pairs[:_SINGLES]),
            tuple(self._invisible()) if agrees and self._places else (),
        )

    def _second_stage(self) -> tuple[list[Difference], list[Explanation]]:
        """Return the differences of recorded iterations of L-BFGS, and what is tried for them."""
        if not self._target.iterations or self._replay.train.second_stage != "lbfgs":
            return [], []
        self._look("second stage", 0, 1)
        settings = lbfgs_settings(Member(self._replay.train, self._replay.problem))
        return compare_second_stage(self._target, self._replay.evaluate, settings)

    def _comparison(
        self,
        differences: tuple[Difference, ...],
        singles: tuple[Explanation, ...],
        pairs: tuple[Explanation, ...],
        invisible: tuple[str, ...],
    ) -> Comparison:
        return Comparison(
            source=self._source.source,
            other="our replay" if self._source is self._target else self._target.source,
            framework=self._source.framework,
            configuration=tuple(self._configuration()),
            coverage=tuple(self._coverage(differences)),
            notes=tuple(dict.fromkeys((*self._source.notes, *self._target.notes, *self._source_notes()))),
            differences=differences,
            explanations=singles,
            pairs=pairs,
            invisible=invisible,
            error=self._replay.error(Variant()) if self._places else None,
            their_error=self._their_error(),
            weights=self._weights(),
            fields=self._fields(),
            cpu_s=time.process_time() - self._started,
        )

    def _family(self) -> tuple[tuple[Difference, ...], list[Explanation]]:
        """Return the difference and explanations where the initial weights are not of the stated family."""
        stated = self._target.settings.get("init")
        if stated not in SOURCES or not self._places or self._replay.first_step != 0:
            return (), []
        families = families_of(unflatten(self._target.vector(0), self._target.layers))
        if stated in families:
            return (), []
        place = Place("first", 0, "initial weights", "W1", 1)
        note = f"they are not drawn as init: {stated}"
        return (Difference(place, math.inf, math.inf, math.inf, note),), [
            Explanation(f"init: {name}", f"The initial weights are drawn as init: {name}.", {"init": name}, None, 0)
            for name in families
        ]

    def _differences(self) -> tuple[Difference, ...]:
        """Return the difference of every array; rounding is measured up to somewhat behind the first beyond it."""
        found: list[Difference] = []
        last = self._replay.last
        for number, place in enumerate(self._places):
            self._look("replay", number, len(self._places))
            size = self._ours.size(number) if place.step <= last else self._ours.nearest(number)
            found.append(self._difference(number, self._recorded(number), size))
            if found[-1].is_beyond:
                last = min(last, self._behind(place.step))
        return tuple(found)

    def _behind(self, step: int) -> int:
        """Return the recorded step up to which explanations of a difference at a step are looked at."""
        later = [recorded for recorded in sorted(self._target.steps) if recorded > step]
        return later[min(_MORE_STEPS, len(later)) - 1] if later else step

    def _recorded(self, number: int) -> Array:
        """Return our array: that of the trace where two traces are compared, else the replay's."""
        place = self._places[number]
        ours = self._ours.ours(number)
        if self._source is self._target:
            return ours
        arrays = self._source.steps.get(place.step, {})
        if place.name in arrays and not place.quantity.startswith("loss"):
            return arrays[place.name]
        return ours

    def _difference(self, number: int, ours: Array, rounding: Array) -> Difference:
        place, theirs = self._places[number], self._replay.theirs(self._places[number])
        if theirs.size == 0 and ours.size and not ours.any():
            return Difference(place, 0.0, 0.0, 0.0, f"shape {theirs.shape}")
        if theirs.shape != ours.shape:
            return Difference(place, math.inf, math.inf, math.inf, f"shape {theirs.shape} instead of {ours.shape}")
        apart = np.abs(theirs - ours)
        if not np.isfinite(apart).all():
            return Difference(place, math.inf, math.inf, math.inf, "values that are not finite")
        largest = float(np.abs(theirs).max(initial=0.0))
        size = float(apart.max(initial=0.0))
        units = float((apart / rounding).max(initial=0.0))
        return Difference(place, size, size / largest if largest else (0.0 if not size else math.inf), units)

    def _explained(self, variants: Sequence[Variant], first: int, what: str) -> list[_Judged]:
        """Return the variants judged, best first."""
        last = self._behind(self._places[first].step)
        judged: list[_Judged] = []
        for number, variant in enumerate(variants):
            self._look(what, number, len(variants))
            judged.append(self._coarse(variant, last))
        judged.sort(key=lambda each: each.rank)
        reaching = [each for each in judged if each.at is None or each.at > first]
        measured: list[_Judged] = []
        for each in reaching[:_MEASURED]:  # the rounding of our side says little of a training that is another
            self._look("rounding", len(measured), _MEASURED)
            own = Rounding(self._replay, each.variant)
            measured.append(self._strict(each.variant, own))
            if measured[-1].at is None:
                alike = [other for other in reaching if other not in reaching[: len(measured)]]
                measured += [self._strict(other.variant, own) for other in alike]
                break
        settled = {judged.variant.name: judged for judged in measured}
        # where no rounding of its own was measured, what the coarse pass lets through is still judged by our side's
        again = [settled.get(each.variant.name, each) for each in judged]
        again = [
            self._strict(each.variant, self._ours) if each.at is None and each.variant.name not in settled else each
            for each in again
        ]
        return sorted(again, key=lambda each: each.rank)

    def _coarse(self, variant: Variant, last: int) -> _Judged:
        """Judge a variant up to a step by the rounding of our side, scaled to its numbers, with a wide margin."""
        finer = EPSILON[variant.changes.dtype or self._replay.train.dtype] / self._ours.epsilon
        margin = max(finer, 1.0) * _COARSE
        try:
            for number, ours in enumerate(self._replay.run(variant)):
                if self._places[number].step > last:
                    break
                rounding = self._scaled(number, ours) * margin
                difference = self._difference(number, ours, rounding)
                if difference.is_beyond:
                    return _Judged(variant, number, replace(difference, units=difference.units * margin))
        except PinnError:
            return _Judged(variant, -1, Difference(self._places[0], math.inf, math.inf, math.inf, "no training"))
        return _Judged(variant, None, None)

    def _scaled(self, number: int, ours: Array) -> Array:
        """Return the rounding of our side at a place, at least as large relative to these numbers."""
        base, rounding = self._ours.ours(number), self._ours.nearest(number)
        if base.shape != ours.shape:
            return np.full(ours.shape, self._ours.epsilon)
        before, after = float(np.abs(base).max(initial=0.0)), float(np.abs(ours).max(initial=0.0))
        return rounding * max(1.0, after / before if before else 1.0)

    def _strict(self, variant: Variant, measured: Rounding) -> _Judged:
        """Judge a variant at all places by a rounding that was measured."""
        for number, ours in enumerate(self._replay.run(variant)):
            difference = self._difference(number, ours, measured.size(number))
            if difference.is_beyond:
                return _Judged(variant, number, difference)
        return _Judged(variant, None, None)

    def _pairs(self, singles: Sequence[_Judged], first: int) -> list[Variant]:
        """Return the best singles, those that reach further than our side if there are any, each with every other."""
        usable = [judged for judged in singles if judged.at != -1]
        every = [judged.variant for judged in usable]
        best = [judged.variant for judged in usable if judged.at is not None and judged.at > first][:_SINGLES]
        best = best or every[:_SINGLES]
        return [
            one.joined(two)
            for number, one in enumerate(best)
            for two in every
            if two not in best[: number + 1] and not _clash(one, two)
        ]

    def _invisible(self) -> Iterable[str]:
        """Yield the explanations that this trace cannot tell from our side."""
        variants = explanations(self._replay)
        for number, variant in enumerate(variants):
            self._look("explanations", number, len(variants))
            with contextlib.suppress(PinnError):
                if self._is_within(variant):
                    yield variant.name

    def _is_within(self, variant: Variant) -> bool:
        """Return whether a variant agrees everywhere, and is not simply the same as our side."""
        is_same = True
        for number, ours in enumerate(self._replay.run(variant)):
            is_same &= np.array_equal(ours, self._ours.ours(number))
            if self._difference(number, ours, self._ours.size(number)).is_beyond:
                return False
        return not is_same

    def _explanation(self, judged: _Judged) -> Explanation:
        variant = judged.variant
        agreeing = len(self._places) if judged.at is None else max(judged.at, 0)
        error = self._replay.error(variant) if judged.at is None else None
        return Explanation(variant.name, variant.sentence, variant.settings, judged.difference, agreeing, error)

    def _their_error(self) -> float | None:
        complete = [step for step, arrays in self._target.steps.items() if "W1" in arrays]
        return self._replay.error_of(Variant(), self._target.vector(max(complete))) if complete else None

    def _weights(self) -> dict[str, tuple[Array, Array]]:
        """Return our and their weights and biases at the last recorded step, by name."""
        last = max((p.step for p in self._places if p.quantity.endswith("weights")), default=None)
        return {
            place.name: (self._recorded(number), self._replay.theirs(place))
            for number, place in enumerate(self._places)
            if place.quantity.endswith("weights") and place.step == last
        }

    def _fields(self) -> dict[str, Array]:
        """Return the prediction of both sides' last weights, with the coordinates of its points."""
        weights = self._weights()
        levels = range(1, len(self._source.layers))
        if not all(f"{kind}{level}" in weights for level in levels for kind in "Wb"):
            return {}
        fields = {}
        for side, name in enumerate(("u_ours", "u_theirs")):
            flat = flatten([(weights[f"W{level}"][side], weights[f"b{level}"][side]) for level in levels])
            fields[name] = self._replay.field(flat)
        points = self._replay.problem.field_points.values
        symbols = [column.symbol for column in self._replay.problem.coordinates]
        return {**{symbol: points[symbol] for symbol in symbols}, **fields}

    def _configuration(self) -> Iterable[ConfigurationLine]:
        """Yield the settings in which two traces differ, or which the one trace leaves to defaults."""
        if self._source is self._target:
            return
        for what in ("framework", "version", "dtype", "derivatives", "seed"):
            one, two = getattr(self._source, what), getattr(self._target, what)
            if one != two:
                yield ConfigurationLine(what, one, two)
        for name in ("settings", "problem"):
            one, two = getattr(self._source, name), getattr(self._target, name)
            for key in sorted({*one, *two}):
                if one.get(key) != two.get(key):
                    yield ConfigurationLine(key, one.get(key), two.get(key))

    def _coverage(self, differences: Sequence[Difference]) -> Iterable[str]:
        """Yield what was compared, and what a trace lacks."""
        for stage, unit in (("first", "steps"), ("second", "iterations")):
            places = [each.place for each in differences if each.place.stage == stage]
            numbers = sorted({place.step for place in places})
            if numbers:
                shown = [str(number) for number in numbers if stage == "second" or number in self._target.steps]
                few = shown if len(shown) <= _SHOWN else [*shown[: _SHOWN - 2], "...", shown[-1]]
                yield f"{len(places)} arrays at {unit} {', '.join(few)}."
        if self._target.iterations and not any(each.place.stage == "second" for each in differences):
            yield (
                "The second stage was not compared: it needs second_stage lbfgs, and all weights of its first recorded "
                "iteration."
            )
        kinds = {each.place.quantity.removeprefix("initial ") for each in differences}
        lacking = [
            name
            for name in ("weights", "prediction", "derivative", "loss term", "gradient", "moment", "update")
            if name not in kinds
        ]
        if lacking:
            yield f"Not recorded: {', '.join(lacking)}."

    def _source_notes(self) -> Iterable[str]:
        """Yield whether our replay agrees with the trace that it is configured by, where another is compared."""
        if self._source is self._target:
            return
        if any(each.is_beyond for each in self._data):
            yield f"The points differ: what follows is our replay on those of {self._target.source}."
            return
        replay = Replay(self._source, self._source, self._replay.train, self._replay.problem)
        rounding = Rounding(replay, Variant())
        for number, place in enumerate(replay.places):
            apart = np.abs(rounding.ours(number) - replay.theirs(place))
            if apart.shape != rounding.size(number).shape or (apart > BEYOND * rounding.size(number)).any():
                yield f"Our replay of {self._source.source} itself parts from it: {place}. Compare it alone first."
                return


def _data(source: Trace, target: Trace) -> tuple[Difference, ...]:
    """Return how the points of two traces differ: a column each, rounding is one unit in the last place."""
    found = []
    for term, columns in source.points.items() if source is not target else ():
        for symbol, ours in columns.items():
            theirs = target.points.get(term, {}).get(symbol)
            if theirs is None:
                continue
            place = Place("first", min(target.steps, default=0), "data", f"{term}/{symbol}")
            if theirs.shape != ours.shape:
                note = f"shape {theirs.shape} instead of {ours.shape}"
                found.append(Difference(place, math.inf, math.inf, math.inf, note))
                continue
            size, largest = float(np.abs(theirs - ours).max()), float(np.abs(theirs).max()) or 1.0
            found.append(Difference(place, size, size / largest, size / (EPSILON[source.dtype] * largest)))
    return tuple(found)


def _start_only(trace: Trace) -> dict[int, Arrays]:
    """Return the weights from which a trace starts, without what depends on its points."""
    step, arrays = min(trace.steps.items(), default=(0, {}))
    return {step: {name: array for name, array in arrays.items() if name[:1] in "Wb" and name[1:].isdigit()}}


def _clash(one: Variant, two: Variant) -> bool:
    """Return whether two explanations change the same thing."""
    mappings = [(one.optimiser, two.optimiser)]
    mappings += [
        (getattr(one.changes, name), getattr(two.changes, name))
        for name in ("problem", "factors", "weights", "directions")
    ]
    alternatives = [
        (getattr(one.changes, name), getattr(two.changes, name))
        for name in ("exchanged", "form", "activation", "dtype")
    ]
    alternatives += [
        (one.changes.backward != "whole", two.changes.backward != "whole"),
        (one.transposed, two.transposed),
    ]
    return any(set(a) & set(b) for a, b in mappings) or any(a and b for a, b in alternatives)


def _dashes(trace: Trace) -> str:
    return "-".join(map(str, trace.layers))
