"""Dimensions of a search space: the values of a swept field, and how a number in [0, 1) picks one of them.

Each dimension is one line of a study file's `space`, such as `width: {choice: [8, 16]}`. Its values are plain JSON
values: Optuna stores numbers and text as they are, lists and mappings as JSON text.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


@dataclass(frozen=True, kw_only=True)
class Dimension(ABC):
    """The values one field may take in a study.

    `when` maps other swept fields to values: the dimension exists where each of them has one of these values. Where
    `when` is empty, the dimension always exists.
    """

    kind: ClassVar[str]  # the word in the study file
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)

    @abstractmethod
    def from_unit(self, u: float) -> Any:
        """Return the value at which the share `u` in [0, 1] of the probability is reached (inverse CDF)."""

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """Return the dimension as a distribution of Optuna."""

    @abstractmethod
    def finite_values(self) -> Sequence[Any] | None:
        """Return every value in order, or None for a continuous dimension."""

    @abstractmethod
    def arguments(self) -> list[Any]:
        """Return the list that follows `kind` in the study file: every choice, or both ends of a range."""

    @abstractmethod
    def has(self, value: Any) -> bool:
        """Return whether a plain value is one of the dimension."""

    def encode(self, value: Any) -> Any:
        """Return `value` as Optuna stores it."""
        return value

    def decode(self, stored: Any) -> Any:
        """Return the value that was stored as `stored`."""
        return stored


@final
@dataclass(frozen=True)
class Choice(Dimension):
    """One of the listed values, each equally likely."""

    kind: ClassVar[str] = "choice"
    values: tuple[Any, ...]

    def from_unit(self, u: float) -> Any:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution([self.encode(value) for value in self.values])

    def finite_values(self) -> Sequence[Any]:
        return self.values

    def arguments(self) -> list[Any]:
        return list(self.values)

    def has(self, value: Any) -> bool:
        return contains(self.values, value)

    def encode(self, value: Any) -> Any:
        return json.dumps(value, sort_keys=True) if isinstance(value, (list, dict)) else value

    def decode(self, stored: Any) -> Any:
        return next((value for value in self.values if self.encode(value) == stored), stored)


@dataclass(frozen=True)
class Range(Dimension):
    """Numbers from `low` to `high`, both included."""

    is_whole: ClassVar[bool]
    is_log: ClassVar[bool]
    low: Any
    high: Any

    def distribution(self) -> BaseDistribution:
        return (IntDistribution if self.is_whole else FloatDistribution)(self.low, self.high, log=self.is_log)

    def finite_values(self) -> Sequence[int] | None:
        return range(self.low, self.high + 1) if self.is_whole else None

    def arguments(self) -> list[Any]:
        return [self.low, self.high]

    def has(self, value: Any) -> bool:
        return type(value) in ((int,) if self.is_whole else (int, float)) and self.low <= value <= self.high

    def _within(self, value: Any) -> Any:
        """Return a value with its rounding error beyond the ends of the range removed."""
        return min(max(value, self.low), self.high)


@final
class Uniform(Range):
    """A number; intervals of equal length are equally likely."""

    kind, is_whole, is_log = "uniform", False, False

    def from_unit(self, u: float) -> float:
        return float(self._within((1 - u) * self.low + u * self.high))


@final
class LogUniform(Range):
    """A positive number; intervals of equal ratio are equally likely."""

    kind, is_whole, is_log = "loguniform", False, True

    def from_unit(self, u: float) -> float:
        return float(self._within(math.exp((1 - u) * math.log(self.low) + u * math.log(self.high))))


@final
class Int(Range):
    """A whole number, each equally likely."""

    kind, is_whole, is_log = "int", True, False

    def from_unit(self, u: float) -> int:
        return int(self._within(self.low + int(u * (self.high - self.low + 1))))


@final
class LogInt(Range):
    """A positive whole number, rounded from a log-uniform number in [low - 1/2, high + 1/2]."""

    kind, is_whole, is_log = "logint", True, True

    def from_unit(self, u: float) -> int:
        exponent = (1 - u) * math.log(self.low - 0.5) + u * math.log(self.high + 0.5)
        return int(self._within(math.floor(math.exp(exponent) + 0.5)))


RANGES: Final = (Uniform, LogUniform, Int, LogInt)
KINDS: Final[dict[str, type[Dimension]]] = {kind.kind: kind for kind in (Choice, *RANGES)}


def dimension(kind: str, arguments: Sequence[Any]) -> Dimension:
    """Return the dimension that a study file writes as `{kind: arguments}`, both already checked."""
    return Choice(tuple(arguments)) if kind == Choice.kind else KINDS[kind](*arguments)


def contains(values: Iterable[Any], value: Any) -> bool:
    """Return whether a plain value is among others; true does not equal 1."""
    return any(other == value and isinstance(other, bool) == isinstance(value, bool) for other in values)
