"""What a comparison found: places, differences in units of rounding, explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

BEYOND: Final = 10.0  # units of rounding from which on a difference is one
QUANTITIES: Final = (  # in the order in which a training computes them
    "configuration",
    "data",
    "initial weights",
    "prediction",
    "derivative",
    "loss term",
    "loss",
    "gradient",
    "moment",
    "update",
    "weights",
    "direction",
    "length",
    "evaluations",
)


@dataclass(frozen=True)
class Place:
    """A recorded array: `step` counts steps of the first stage, or iterations of the second; layers from 1."""

    stage: Literal["first", "second"]
    step: int
    quantity: str  # of QUANTITIES
    name: str  # as in the trace: W3, lrb/u_x, grad_b1, residual (a loss term)
    layer: int | None = None

    def __str__(self) -> str:
        unit = "step" if self.stage == "first" else "iteration"
        return f"{self.quantity} {self.name} at {unit} {self.step}"


@dataclass(frozen=True)
class Difference:
    """How far two arrays are apart: the largest difference, that relative to the largest value, units of rounding."""

    place: Place
    size: float
    relative: float
    units: float  # the largest of its entries, each in units of its rounding; inf where a shape is another
    note: str = ""  # such as "shape (1, 0, 2)"

    @property
    def is_beyond(self) -> bool:
        """Return whether rounding does not explain it."""
        return not self.units <= BEYOND


@dataclass(frozen=True)
class Explanation:
    """One thing changed on our side, and how far the replay then agrees.

    `settings` is what to write to train so; empty where it is a mistake that no study can set. `parts_at` is the first
    difference that is left (None: none), `agreeing` the number of arrays before it.
    """

    name: str  # such as "adam_convention: tf1"
    sentence: str
    settings: Mapping[str, Any]
    parts_at: Difference | None
    agreeing: int
    error: float | None = None  # rel_l2 at the last step with the change; None without reference

    @property
    def vanishes(self) -> bool:
        """Return whether nothing is left of the difference."""
        return self.parts_at is None


@dataclass(frozen=True)
class ConfigurationLine:
    """A setting in which two configurations differ, or which a trace leaves open."""

    name: str
    ours: Any
    theirs: Any


@dataclass(frozen=True)
class Comparison:
    """The whole comparison of a trace with our replay, or with another trace."""

    source: str
    other: str  # "our replay", or the other file
    framework: str
    configuration: tuple[ConfigurationLine, ...]
    coverage: tuple[str, ...]  # sentences: what was compared, what the trace lacks
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]  # of every array, in the order of computation, without explanations
    explanations: tuple[Explanation, ...] = ()  # best first
    pairs: tuple[Explanation, ...] = ()  # likewise
    invisible: tuple[str, ...] = ()  # names of explanations that this trace cannot tell from ours
    error: float | None = None  # rel_l2 of our replay at the last step
    their_error: float | None = None
    weights: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    fields: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # coordinates, u_ours, u_theirs [points]
    cpu_s: float = 0.0

    @property
    def first(self) -> Difference | None:
        """Return the first difference beyond rounding."""
        return next((difference for difference in self.differences if difference.is_beyond), None)

    @property
    def found(self) -> tuple[Explanation, ...]:
        """Return the explanations that share the first place, where they leave nothing; else the pairs that do."""
        return tuple(e for e in self.explanations if e.vanishes) or tuple(e for e in self.pairs if e.vanishes)
