"""Strong Wolfe line search as a state machine: it takes a value and a slope and gives the next step length.

Nocedal and Wright (2006), algorithms 3.5 and 3.6, with the cubic interpolation and safeguards of Schmidt's minFunc in
the form `torch.optim.LBFGS` has them, decision for decision, so that the two visit the same points.

The caller keeps the vectors. A step of the search says which gradient goes into which of two slots, one for each end of
the bracket (`Moves`), so that many searches can share batched storage.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

ARMIJO, CURVATURE = 1e-4, 0.9  # c1 and c2
BRACKET_TOLERANCE = 1e-9  # smallest bracket, as a change of the point
MOST_STEPS = 25  # minFunc's limit; a search that needs more is not converging


class Moves(NamedTuple):
    """Instructions for the gradient slots: first copy slot to slot, then put in the new or the start's gradient."""

    slot_to_slot: tuple[int, int] | None = None  # (from, to)
    new_to: int | None = None
    start_to: int | None = None


@dataclass
class StrongWolfe:
    """One search along a direction from value `f0` with slope `slope0` < 0.

    `t` is the step length to evaluate next. `ends`, `values`, `slopes`, `terms` are the bracket; `low` is its better
    end. `terms` are the loss terms of each end, kept for the record only.
    """

    f0: float
    slope0: float
    t: float
    reach: float  # largest component of the direction
    terms0: tuple[float, ...] = ()
    most_steps: int = MOST_STEPS
    steps: int = 0
    evaluations: int = 0
    zooming: bool = False
    stuck: bool = False
    done: bool = False
    ends: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0])
    values: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0])
    slopes: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0])
    terms: list[tuple[float, ...]] = dataclasses.field(default_factory=lambda: [(), ()])
    low: int = 0

    def __post_init__(self) -> None:
        if not self.evaluations:
            self._set(0, 0.0, self.f0, self.slope0, self.terms0)

    def tell(self, f: float, slope: float, terms: tuple[float, ...] = ()) -> Moves:
        """Take the value and slope at `t` and return the moves; then the search is `done`, or `t` is the next step.

        When done, `ends[low]` is the accepted step and slot `low` holds its gradient.
        """
        self.evaluations += 1
        return self._zoom(f, slope, terms) if self.zooming else self._bracket(f, slope, terms)

    def _bracket(self, f: float, slope: float, terms: tuple[float, ...]) -> Moves:
        """Extend the step until the minimum is enclosed; slot 0 is the previous step."""
        t = self.t
        if self.steps >= self.most_steps:
            self._set(0, 0.0, self.f0, self.slope0, self.terms0)
            self._set(1, t, f, slope, terms)
            self._start_zoom()
            return Moves(new_to=1, start_to=0)
        rises = f > self.f0 + ARMIJO * t * self.slope0 or (self.steps > 1 and f >= self.values[0])
        if not rises and abs(slope) <= -CURVATURE * self.slope0:
            self._set(0, t, f, slope, terms)
            self.low, self.done = 0, True
            return Moves(new_to=0)
        if rises or slope >= 0:
            self._set(1, t, f, slope, terms)
            self._start_zoom()
            return Moves(new_to=1)
        self.t = _cubic_minimum(
            self.ends[0], self.values[0], self.slopes[0], t, f, slope, bounds=(t + 0.01 * (t - self.ends[0]), t * 10)
        )
        self._set(0, t, f, slope, terms)
        self.steps += 1
        return Moves(new_to=0)

    def _start_zoom(self) -> None:
        self.zooming = True
        self.low = 0 if self.values[0] <= self.values[1] else 1
        self._next_zoom()

    def _zoom(self, f: float, slope: float, terms: tuple[float, ...]) -> Moves:
        """Shrink the bracket around the minimum."""
        self.steps += 1
        low, high = self.low, 1 - self.low
        if f > self.f0 + ARMIJO * self.t * self.slope0 or f >= self.values[low]:
            self._set(high, self.t, f, slope, terms)
            self.low = 0 if self.values[0] <= self.values[1] else 1
            moves = Moves(new_to=high)
        else:
            moves = Moves(new_to=low)
            if abs(slope) <= -CURVATURE * self.slope0:
                self.done = True
            elif slope * (self.ends[high] - self.ends[low]) >= 0:
                self._set(high, self.ends[low], self.values[low], self.slopes[low], self.terms[low])
                moves = Moves(slot_to_slot=(low, high), new_to=low)
            self._set(low, self.t, f, slope, terms)
        if not self.done:
            self._next_zoom()
        return moves

    def _next_zoom(self) -> None:
        """Choose the next step inside the bracket, or end where the bracket is too small or the steps are used up."""
        smaller, larger = min(self.ends), max(self.ends)
        if self.steps >= self.most_steps or (larger - smaller) * self.reach < BRACKET_TOLERANCE:
            self.done = True
            return
        t = _cubic_minimum(self.ends[0], self.values[0], self.slopes[0], self.ends[1], self.values[1], self.slopes[1])
        margin = 0.1 * (larger - smaller)
        if min(larger - t, t - smaller) < margin:
            if self.stuck or t >= larger or t <= smaller:
                t = larger - margin if abs(t - larger) < abs(t - smaller) else smaller + margin
                self.stuck = False
            else:
                self.stuck = True
        else:
            self.stuck = False
        self.t = t

    def _set(self, end: int, t: float, f: float, slope: float, terms: tuple[float, ...]) -> None:
        self.ends[end], self.values[end], self.slopes[end], self.terms[end] = t, f, slope, terms

    def state(self) -> dict[str, Any]:
        """Return plain values from which `restored` continues exactly."""
        return dataclasses.asdict(self)

    @staticmethod
    def restored(values: Mapping[str, Any]) -> StrongWolfe:
        """Return the search with the `values` of its `state`."""
        plain = dict(values)
        plain["terms0"], plain["terms"] = tuple(plain["terms0"]), [tuple(terms) for terms in plain["terms"]]
        plain |= {name: list(plain[name]) for name in ("ends", "values", "slopes")}
        return StrongWolfe(**plain)


def _cubic_minimum(
    t1: float, f1: float, slope1: float, t2: float, f2: float, slope2: float, bounds: tuple[float, float] | None = None
) -> float:
    """Return the minimum of the cubic through two values and slopes (Nocedal and Wright eq. 3.59), within bounds."""
    low, high = bounds if bounds is not None else (min(t1, t2), max(t1, t2))
    d1 = slope1 + slope2 - _divide(3 * (f1 - f2), t1 - t2)
    square = d1 * d1 - slope1 * slope2
    if not square >= 0:
        return (low + high) / 2.0
    d2 = math.sqrt(square)
    if t1 <= t2:
        t = t2 - (t2 - t1) * _divide(slope2 + d2 - d1, slope2 - slope1 + 2 * d2)
    else:
        t = t1 - (t1 - t2) * _divide(slope1 + d2 - d1, slope1 - slope2 + 2 * d2)
    return min(max(t, low), high)


def _divide(numerator: float, denominator: float) -> float:
    """Divide as tensors do: division by zero gives inf or nan, which the bounds handle."""
    if denominator != 0:
        return numerator / denominator
    return math.nan if numerator == 0 or math.isnan(numerator) else math.copysign(math.inf, numerator)
