"""The points of a gradient-enhanced damage analysis: arrays in physical units, and what holds of all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..fem.discrete import Discrete
    from ..fem.quads import Quads

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

HELD_OUT_POINTS: Final = 2048


@dataclass(frozen=True)
class Points:
    """One table: arrays of shape [points]; lengths in mm, strains dimensionless and physical."""

    x_mm: Array
    y_mm: Array
    g_mm2: Array
    elocal: Array
    enonlocal_true: Array | None = None

    def __len__(self) -> int:
        return len(self.x_mm)

    @property
    def columns(self) -> dict[str, Array]:
        """Return the arrays by name, without missing ones."""
        arrays = {name: getattr(self, name) for name in ("x_mm", "y_mm", "g_mm2", "elocal", "enonlocal_true")}
        return {name: array for name, array in arrays.items() if array is not None}

    @cached_property
    def repeated(self) -> tuple[Rows, Rows]:
        """Return the rows [pairs] that stand where a later row stands, and those later rows."""
        order = np.lexsort((self.y_mm, self.x_mm))
        x, y = self.x_mm[order], self.y_mm[order]
        pairs = np.flatnonzero((x[1:] == x[:-1]) & (y[1:] == y[:-1]))
        by_later = np.argsort(order[pairs + 1], kind="stable")
        return order[pairs][by_later], order[pairs + 1][by_later]


@dataclass(frozen=True)
class MeshTables:
    """The elements of an analysis: `nodes` [nodes, 2] in mm, `corners` [elements, 4], rows of `nodes` around each."""

    nodes: Array
    corners: NDArray[np.int64]


@dataclass(frozen=True)
class FieldData:
    """The three tables of one load increment, with notes on units and ranges, and warnings about what is doubtful.

    Without a `mesh`, the elements are those whose 2 x 2 Gauss points are the groups of four rows, if there are such.
    """

    name: str
    gauss: Points
    lrb: Points
    btb: Points
    elocal_factor: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    mesh: MeshTables | None = None

    @cached_property
    def sha256(self) -> str:
        """Return a hash of all numbers in a fixed order; equal data have equal hashes whatever file they came from."""
        digest = hashlib.sha256()
        for points in (self.gauss, self.lrb, self.btb):
            for name, array in sorted(points.columns.items()):
                digest.update(name.encode() + np.ascontiguousarray(array, dtype="<f8").tobytes())
        if self.mesh is not None:
            digest.update(b"mesh" + np.ascontiguousarray(self.mesh.nodes, dtype="<f8").tobytes())
            digest.update(np.ascontiguousarray(self.mesh.corners, dtype="<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def quads(self) -> Quads:
        """Return the finite elements of the Gauss points. Raises `DataError` where these are not those of a mesh."""
        from ..fem.quads import Quads

        if self.mesh is not None:
            return Quads.of_mesh(self.mesh.nodes, self.mesh.corners, self.gauss.x_mm, self.gauss.y_mm)
        return Quads.of_gauss_points(self.gauss.x_mm, self.gauss.y_mm)

    def discrete(self, divisor: float) -> Discrete:
        """Return the equation with g over `divisor` on the elements. Raises `DataError` as `quads`."""
        from ..fem.discrete import Discrete

        if divisor not in self._discrete:
            gauss = self.gauss
            self._discrete[divisor] = Discrete(self.quads, gauss.g_mm2 / divisor, gauss.elocal)
        return self._discrete[divisor]

    @cached_property
    def _discrete(self) -> dict[float, Discrete]:
        return {}

    @cached_property
    def held_out(self) -> Points | None:
        """Return Halton points between the Gauss points, with `elocal` and `g` interpolated linearly; never trained on.

        None where nothing can be interpolated: fewer than three Gauss points, or all on one line.
        """
        from scipy.interpolate import LinearNDInterpolator  # both take a second to import
        from scipy.stats import qmc

        corners = np.stack([self.gauss.x_mm, self.gauss.y_mm], axis=1)
        if np.linalg.matrix_rank(corners - corners[0]) < 2:
            return None
        unit = qmc.Halton(d=2, scramble=False).random(HELD_OUT_POINTS + 1)[1:]  # the first point is a corner
        points = qmc.scale(unit, corners.min(axis=0), corners.max(axis=0))
        values = LinearNDInterpolator(corners, np.stack([self.gauss.g_mm2, self.gauss.elocal], axis=1))(points)
        inside = np.isfinite(values).all(axis=1)
        return Points(points[inside, 0], points[inside, 1], values[inside, 0], values[inside, 1])
