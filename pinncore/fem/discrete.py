"""The discrete form of the equation: what a network's nodal values are compared with, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from .quads import Quads, load, screened_poisson

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Discrete:
    """u - g (u_xx + u_yy) = e with zero flux through the boundary, on bilinear elements: K u = F.

    `strength_mm2` and `forcing` [Gauss points] are g and e, u and e in one unit.
    """

    quads: Quads
    strength_mm2: Array
    forcing: Array

    @cached_property
    def matrix(self) -> Any:
        """Return K over the area, a sparse matrix [nodes, nodes] without unit."""
        return screened_poisson(self.quads, self.strength_mm2) / self.quads.weights.sum()

    @cached_property
    def solution(self) -> Array:
        """Return the nodal values [nodes] that solve K u = F."""
        right = load(self.quads, self.forcing) / self.quads.weights.sum()
        return np.asarray(splu(self.matrix.tocsc()).solve(right))

    def read(self, nodal: Array) -> Array:
        """Return values [points] at the Gauss points from values [nodes] by the shape functions."""
        return np.asarray(self.quads.values @ nodal)
