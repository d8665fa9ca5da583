"""Rich linear bases on a box: tensor products of cosines or of Legendre polynomials, with their derivatives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Array = NDArray[np.float64]
Orders = tuple[int, ...]  # of a derivative, one for each coordinate
Kind = Literal["cosines", "polynomials"]


@dataclass(frozen=True)
class Basis:
    """`size` functions of each coordinate on the box from `low` to `high` [coordinates], and all their products.

    Functions are ordered by the highest of their indices, so that the first m^d are the basis of size m. Cosines have
    no slope at the ends of the box.
    """

    kind: Kind
    low: Array
    high: Array
    size: int

    @property
    def indices(self) -> NDArray[np.int64]:
        """Return the index of every function in each coordinate [functions, coordinates]."""
        found = sorted(itertools.product(range(self.size), repeat=len(self.low)), key=lambda each: (max(each), each))
        return np.array(found, dtype=np.int64)

    def values(self, points: Array, orders: Orders) -> Array:
        """Return a derivative of every function [points, functions] at points [points, coordinates]."""
        product = np.ones((len(points), 1))
        for axis, (order, at) in enumerate(zip(orders, self.indices.T, strict=True)):
            product = product * self._along(points[:, axis], axis, order)[:, at]
        return product

    def _along(self, points: Array, axis: int, order: int) -> Array:
        """Return a derivative of the functions of one coordinate [points, size]."""
        length = self.high[axis] - self.low[axis]
        place = (points - self.low[axis]) / length
        if self.kind == "cosines":
            waves = np.pi * np.arange(self.size)
            return np.asarray((waves / length) ** order * np.cos(np.outer(place, waves) + order * np.pi / 2))
        slopes = legendre.legder(np.eye(self.size), order)  # [size - order, size], in lower polynomials
        return np.asarray((2 / length) ** order * legendre.legvander(2 * place - 1, len(slopes) - 1) @ slopes)
