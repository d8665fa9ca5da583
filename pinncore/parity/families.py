"""Which family of initial weights a network was drawn from, by what its layers can and cannot be."""

from __future__ import annotations

import itertools
import math
from typing import Final

import numpy as np

from ..networks import Layers, Weights
from ..problems.columns import Array

_MOST_DEVIATIONS: Final = 5.0  # of a layer's mean square from that of a family
_LARGEST: Final = 6.0  # standard deviations that a normal weight reaches at most
_SPREAD: Final = {"uniform": 0.8, "normal": 2.0, "truncated": 1.1}  # excess of the fourth moment: E w^4 / (E w^2)^2 - 1
_TRUNCATED: Final = 0.8796  # deviation of a normal distribution truncated at two deviations


def _laws(fan_in: int, fan_out: int) -> dict[str, tuple[str, float]]:
    """Return the kind of each family's law with its bound (uniform) or deviation."""
    both = fan_in + fan_out
    return {
        "torch": ("uniform", fan_in**-0.5),
        "keras": ("uniform", (6 / both) ** 0.5),
        "tf1": ("truncated", (2 / both) ** 0.5),
        "glorot_normal": ("normal", (2 / both) ** 0.5),
        "he": ("normal", (2 / fan_in) ** 0.5),
        "he_uniform": ("uniform", (6 / fan_in) ** 0.5),
        "lecun_normal": ("normal", fan_in**-0.5),
    }


def families_of(weights: Weights) -> tuple[str, ...]:
    """Return the values of `init` whose law all layers [(W [in, out], b [out]), ...] may follow."""
    layers: Layers = (weights[0][0].shape[0], *(w.shape[1] for w, _ in weights))
    possible = set(_laws(1, 1))
    has_biases = any(b.any() for _, b in weights)
    possible &= {"torch"} if has_biases else possible - {"torch"}
    for (w, _), sizes in zip(weights, itertools.pairwise(layers), strict=True):
        possible = {family for family in possible if _may_be(w, *_laws(*sizes)[family])}
    return tuple(family for family in _laws(1, 1) if family in possible)


def _may_be(w: Array, kind: str, size: float) -> bool:
    """Return whether weights may be drawn by a law."""
    largest = {"uniform": size * (1 + 1e-6), "truncated": 2 * size * (1 + 1e-6), "normal": _LARGEST * size}[kind]
    if np.abs(w).max() > largest:
        return False
    square = {"uniform": size**2 / 3, "truncated": (_TRUNCATED * size) ** 2, "normal": size**2}[kind]
    deviation = square * math.sqrt(_SPREAD[kind] / w.size)
    return bool(abs(np.mean(w**2) - square) <= _MOST_DEVIATIONS * deviation)
