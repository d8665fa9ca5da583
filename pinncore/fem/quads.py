"""Bilinear quadrilaterals with 2 x 2 Gauss points: values, slopes and integrals as sparse matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from ..errors import DataError
from ..mesh import SIGNS, at_nodes, elements_of

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_GAUSS: Final = SIGNS / math.sqrt(3)
SHAPES: Final[Array] = np.prod(1 + _GAUSS[:, None] * SIGNS, axis=2) / 4  # shape functions [Gauss points, corners]
_ON_GRID: Final = 1e-6  # share of an element by which a given point may be beside its Gauss point


@dataclass(frozen=True)
class Quads:
    """A mesh of bilinear quadrilaterals, lengths in mm.

    `nodes` [nodes, 2]; `corners` [elements, 4] into the nodes and `gauss` [elements, 4] into the Gauss points, both
    counter-clockwise, so that points keep the order in which they were given.
    """

    nodes: Array
    corners: Indices
    gauss: Indices

    @classmethod
    def rectangle(cls, width_mm: float, height_mm: float, columns: int, rows: int) -> Quads:
        """Return `columns` x `rows` equal elements on a rectangle from the origin, row after row from the bottom.

        The Gauss points of an element are in the order bottom left, bottom right, top left, top right.
        """
        x, y = np.linspace(0.0, width_mm, columns + 1), np.linspace(0.0, height_mm, rows + 1)
        nodes = np.stack([grid.ravel() for grid in np.meshgrid(x, y)], axis=1)
        first = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
        corners = np.stack([first, first + 1, first + columns + 2, first + columns + 1], axis=1)
        gauss = 4 * np.arange(len(first))[:, None] + np.array([0, 1, 3, 2])
        return cls(nodes, corners, gauss)

    @classmethod
    def of_gauss_points(cls, x_mm: Array, y_mm: Array) -> Quads:
        """Return the mesh whose 2 x 2 Gauss points [points] these are, in groups of four.

        Raises `DataError` where they are not those of one mesh.
        """
        mesh = elements_of(x_mm, y_mm)
        reason = "they are not the 2 x 2 Gauss points of one mesh of quadrilaterals, four rows for each element"
        if mesh is None:
            raise DataError(f"data: no finite elements can be made of these {len(x_mm)} points: {reason}")
        corners, gauss = mesh.corners, mesh.gauss
        nodes = np.stack([mesh.x[len(x_mm) :], mesh.y[len(y_mm) :]], axis=1)
        order = np.lexsort((nodes[:, 0], np.round(nodes[:, 1], 6)))  # rows from the bottom: a narrow band of K
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        quads = cls(nodes[order], rank[corners], gauss)
        away = np.abs(quads.values @ quads.nodes - np.stack([x_mm, y_mm], axis=1)).max()
        if away > _ON_GRID * math.sqrt(quads.weights.min()):
            raise DataError(f"data: a point lies {away:.3g} mm beside the Gauss point of its element: {reason}")
        return quads

    @classmethod
    def of_mesh(cls, nodes: Array, corners: Indices, x_mm: Array, y_mm: Array) -> Quads:
        """Return the mesh of nodes [nodes, 2] and corners [elements, 4] with these Gauss points, in any order.

        Raises `DataError` where a corner is no node, an element is none, or the points are not its 2 x 2 Gauss points.
        """
        if corners.min() < 0 or corners.max() >= len(nodes):
            wrong = int(np.flatnonzero((corners < 0) | (corners >= len(nodes)))[0] // 4)
            raise DataError(f"data: element {wrong + 1} names a node beyond the {len(nodes)} of the table of nodes")
        if len(unused := np.setdiff1d(np.arange(len(nodes)), corners)):
            raise DataError(f"data: node {unused[0] + 1} belongs to no element")
        if len(x_mm) != corners.size:
            raise DataError(f"data: {len(corners)} elements have {corners.size} Gauss points, the table {len(x_mm)}")
        quads = cls(nodes, corners, np.arange(corners.size).reshape(-1, 4))
        areas = np.linalg.det(quads._jacobians)
        if not ((areas > 0).all(axis=1) | (areas < 0).all(axis=1)).all():
            wrong = int(np.argmin((areas > 0).all(axis=1) | (areas < 0).all(axis=1)))
            raise DataError(f"data: element {wrong + 1} is no quadrilateral: give its corners in the order around it")
        away, order = cKDTree(np.stack([x_mm, y_mm], axis=1)).query(quads.values @ nodes)
        if away.max() > _ON_GRID * math.sqrt(quads.weights.min()) or len(np.unique(order)) < len(order):
            wrong = int(np.argmax(away))
            raise DataError(
                f"data: a Gauss point of element {wrong // 4 + 1} is missing: the nearest point lies {away[wrong]:.3g} "
                "mm beside it"
            )
        return cls(nodes, corners, order.reshape(-1, 4))

    @property
    def points(self) -> int:
        """Return the number of Gauss points."""
        return self.gauss.size

    @cached_property
    def values(self) -> Any:
        """Return the sparse matrix [points, nodes] that reads nodal values at the Gauss points."""
        return self._matrix(np.broadcast_to(SHAPES, (len(self.corners), 4, 4)))

    @cached_property
    def slopes(self) -> tuple[Any, Any]:
        """Return the sparse matrices [points, nodes] of the derivatives to x and y, per mm."""
        slopes = self.element_slopes
        return self._matrix(slopes[..., 0]), self._matrix(slopes[..., 1])

    @property
    def element_slopes(self) -> Array:
        """Return the derivatives [elements, Gauss points, corners, 2] of the shape functions to x and y, per mm."""
        return np.einsum("gcr,egdr->egcd", _slopes(), np.linalg.inv(self._jacobians))

    @cached_property
    def weights(self) -> Array:
        """Return the area [points] of each Gauss point in mm^2."""
        areas = np.empty(self.points)
        areas[self.gauss] = np.abs(np.linalg.det(self._jacobians))
        return areas

    def at_nodes(self, values: Array) -> Array:
        """Return nodal values [nodes] of values [elements, Gauss points], as `mesh.at_nodes` does."""
        return at_nodes(values, self.corners, len(self.nodes))

    @property
    def _jacobians(self) -> Array:
        """Return dx/d(reference coordinates) [elements, Gauss points, reference, 2]."""
        return np.einsum("gcr,ecd->egrd", _slopes(), self.nodes[self.corners])

    def _matrix(self, entries: Array) -> Any:
        """Return entries [elements, Gauss points, corners] as a sparse matrix [points, nodes]."""
        rows = np.repeat(self.gauss[:, :, None], 4, axis=2)
        columns = np.repeat(self.corners[:, None], 4, axis=1)
        shape = (self.points, len(self.nodes))
        return csr_array((np.ravel(entries), (rows.ravel(), columns.ravel())), shape=shape)


def screened_poisson(quads: Quads, strength_mm2: Array) -> Any:
    """Return the sparse matrix [nodes, nodes] of the integral of u v + g grad u . grad v, g [points], in mm^2."""
    value, (x, y), area = quads.values, quads.slopes, quads.weights
    stiffness = area * strength_mm2
    parts = (value.T * area) @ value, (x.T * stiffness) @ x, (y.T * stiffness) @ y
    return csr_array(parts[0] + parts[1] + parts[2])


def load(quads: Quads, forcing: Array) -> Array:
    """Return the vector [nodes] of the integral of forcing [points] times each shape function, in mm^2."""
    return np.asarray(quads.values.T @ (quads.weights * forcing))


def _slopes() -> Array:
    """Return the derivatives [Gauss points, corners, 2] of the shape functions to the reference coordinates."""
    other = 1 + _GAUSS[:, None, ::-1] * SIGNS[:, ::-1]
    return np.asarray(SIGNS * other / 4)
