"""Which family of initial weights a network was drawn from, by what its layers can and cannot be."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from ..initialisation import SOURCES
from ..networks import Weights
from ..problems.columns import Array

_MOST_DEVIATIONS: Final = 5.0  # of a layer's mean square from that of a family
_LARGEST: Final = 6.0  # standard deviations that a normal weight reaches at most
_SPREAD: Final = {"uniform": 0.8, "normal": 2.0, "truncated": 1.1}  # excess of the fourth moment: E w^4 / (E w^2)^2 - 1
_TRUNCATED: Final = 0.8796  # deviation of a normal distribution truncated at two deviations


def families_of(weights: Weights) -> tuple[str, ...]:
    """Return the values of `init` whose law all layers [(W [in, out], b [out]), ...] may follow."""
    has_biases = any(b.any() for _, b in weights)
    return tuple(
        family
        for family, law in SOURCES.items()
        if law.has_biases == has_biases and all(_may_be(w, law.kind, law.size(*w.shape)) for w, _ in weights)
    )


def _may_be(w: Array, kind: str, size: float) -> bool:
    """Return whether weights may be drawn by a law."""
    largest = {"uniform": size * (1 + 1e-6), "truncated": 2 * size * (1 + 1e-6), "normal": _LARGEST * size}[kind]
    if np.abs(w).max() > largest:
        return False
    square = {"uniform": size**2 / 3, "truncated": (_TRUNCATED * size) ** 2, "normal": size**2}[kind]
    deviation = square * math.sqrt(_SPREAD[kind] / w.size)
    return bool(abs(np.mean(w**2) - square) <= _MOST_DEVIATIONS * deviation)
