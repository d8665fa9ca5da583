"""Solutions of u - g laplace u = e on a rectangle with no flux through its edges, independent of finite elements.

Cosines satisfy the condition on the edges exactly, and the operator multiplies each by a number: there are solutions in
closed form, and a solver for any e that is exact up to the resolution of its grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn

from ..errors import SettingError
from .quads import Array


@dataclass(frozen=True)
class CosineMode:
    """The solution u = amplitude cos(m pi x / width) cos(n pi y / height), lengths in mm, g in mm^2."""

    m: int
    n: int
    width_mm: float = 100.0
    height_mm: float = 100.0
    gradient_mm2: float = 8.0
    amplitude: float = 1.0

    @property
    def factor(self) -> float:
        """Return e / u = 1 + g pi^2 (m^2 / width^2 + n^2 / height^2)."""
        waves = (self.m / self.width_mm) ** 2 + (self.n / self.height_mm) ** 2
        return float(1 + self.gradient_mm2 * np.pi**2 * waves)

    def solution(self, x_mm: Array, y_mm: Array) -> Array:
        """Return u at points, shape [points] or any other."""
        along = np.cos(self.m * np.pi * x_mm / self.width_mm) * np.cos(self.n * np.pi * y_mm / self.height_mm)
        return np.asarray(self.amplitude * along)

    def forcing(self, x_mm: Array, y_mm: Array) -> Array:
        """Return e at points, shape [points] or any other."""
        return self.factor * self.solution(x_mm, y_mm)


def cell_centres(length_mm: float, cells: int) -> Array:
    """Return the centres [cells] of equal cells on an edge, where `solve_by_cosines` has its values."""
    return (np.arange(cells) + 0.5) * length_mm / cells


def solve_by_cosines(forcing: Array, width_mm: float, height_mm: float, gradient_mm2: float) -> Array:
    """Return u [rows, columns] at the centres of equal cells from e there, rows from the bottom.

    Exact for e that are sums of cosines of up to half a wave per cell; the error for others is that of their
    interpolation by these. Raises `SettingError` where g is negative.
    """
    if gradient_mm2 < 0:
        raise SettingError("gradient_mm2", gradient_mm2, "must be 0 or more", "it is l_c^2 / 2")
    rows, columns = forcing.shape
    down, across = np.arange(rows)[:, None] / height_mm, np.arange(columns) / width_mm
    operator = 1 + gradient_mm2 * np.pi**2 * (down**2 + across**2)
    return np.asarray(idctn(dctn(forcing, type=2) / operator, type=2))
