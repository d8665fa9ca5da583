"""The options of the command, checked once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sweeps.errors import SweepError

Value = TypeVar("Value")

PARTS: Final = {
    "a": "loss and gradient",
    "b": "L-BFGS iteration",
    "c": "whole trial",
    "d": "sweep of short trials",
    "e": "loss and gradient of other equations",
    "f": "the finite-element form against the strong form",
    "floor": "share of the multiply-adds' floor, one core",
    "gpu": "packs on a GPU",
    "kernels": "machine code of the GPU kernel",
}
DTYPES: Final = ("float32", "float64")
EVALUATION, TRAINING, FIRST_STAGE = "an evaluation", "to 1 %", "first stage"  # what parts f and gpu time
FLOOR: Final = "floor"  # a contender that does the multiply-adds alone


class BenchError(SweepError):
    """An option of the benchmark that cannot be used."""


@dataclass(frozen=True)
class Shape:
    """A network's hidden layers and units: 2x16 is two layers of sixteen units."""

    depth: int
    width: int

    def __str__(self) -> str:
        return f"{self.depth}x{self.width}"

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layer sizes of a network with inputs (x, y) and one output."""
        return (2, *[self.width] * self.depth, 1)

    @property
    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return sum((before + 1) * after for before, after in zip(self.layers[:-1], self.layers[1:], strict=True))


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one run; each part chooses those that are None, in full or for `quick`."""

    parts: tuple[str, ...] = tuple(PARTS)
    quick: bool = False
    repeats: int | None = None
    threads: tuple[int, ...] | None = None
    shapes: tuple[Shape, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    packs: tuple[int, ...] | None = None
    pairs: tuple[int, ...] | None = None
    rivals: tuple[str, ...] | None = None
    engine: str = "auto"
    data: str | dict[str, str] = "strb100"  # argument of `pinncore.load_data`


def read_parts(words: Sequence[str]) -> tuple[str, ...]:
    """Return parts by name in the order of the table; no words mean all parts. Raises `BenchError`."""
    unknown = [word for word in words if word not in PARTS]
    if unknown:
        listed = ", ".join(f"{letter} ({name})" for letter, name in PARTS.items())
        raise BenchError(f"no part is called {unknown[0]!r}; the parts are {listed}")
    return tuple(letter for letter in PARTS if letter in words) or tuple(PARTS)


def read_shapes(text: str | None) -> tuple[Shape, ...] | None:
    """Read shapes such as `8x8,2x16`. Raises `BenchError`."""
    return _listed("--shapes", text, _shape)


def read_dtypes(text: str | None) -> tuple[str, ...] | None:
    """Read some of float32, float64. Raises `BenchError`."""
    return _listed("--dtypes", text, _one_of(DTYPES))


def read_rivals(text: str | None, allowed: Sequence[str]) -> tuple[str, ...] | None:
    """Read names of rivals of part a. Raises `BenchError`."""
    return _listed("--rivals", text, _one_of(allowed))


def read_counts(option: str, text: str | None, *, most: int) -> tuple[int, ...] | None:
    """Read whole numbers from 1 to `most`. Raises `BenchError`."""

    def count(word: str) -> int:
        if not word.isdecimal() or not 1 <= int(word) <= most:
            raise ValueError(f"whole numbers from 1 to {most}")
        return int(word)

    return _listed(option, text, count)


def _listed(option: str, text: str | None, convert: Callable[[str], Value]) -> tuple[Value, ...] | None:
    """Return the distinct values of a comma-separated list in order; None where the option was not given."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(convert(word.strip()) for word in text.split(",")))
    except ValueError as problem:
        raise BenchError(f"{option}: must be {problem}, separated by commas, got {text!r}") from None


def _shape(word: str) -> Shape:
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,3})", word)
    if not match:
        raise ValueError("hidden layers x units, such as 8x8,2x16")
    return Shape(int(match[1]), int(match[2]))


def _one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def convert(word: str) -> str:
        if word not in allowed:
            raise ValueError(f"some of {', '.join(allowed)}")
        return word

    return convert
