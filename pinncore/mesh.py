"""The mesh of an analysis, reconstructed from its points, to draw fields on.

Where the points are the 2 x 2 Gauss points of bilinear quadrilaterals, in groups of four, they determine the elements:
the corners follow from the isoparametric map and must meet those of the neighbours. Values at the nodes are
extrapolated bilinearly from each element and averaged, as finite-element post-processors do. Any other points are
joined by Delaunay triangles, without those that bridge a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError, cKDTree

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

SIGNS: Final = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])  # of the reference square: its corners, counter-clockwise
_TO_CORNERS: Final = np.prod(1 + math.sqrt(3) * SIGNS[:, None] * SIGNS, axis=2) / 4  # [corners, Gauss points]
_AROUND: Final = ((0, 1), (1, 2), (2, 3), (3, 0))
_GAP: Final = 5.0  # times the median edge length above which an edge bridges a gap


@dataclass(frozen=True)
class Mesh:
    """Triangles to draw on. Their vertices are the points, followed by the nodes of the elements if there are any.

    `triangles`: shape [triangles, 3] into the vertices; `outline`: shape [edges, 2, 2], the ends of the edges on the
    boundary. `corners`: shape [elements, 4] into the nodes and `gauss`: shape [elements, 4] into the points, both
    counter-clockwise and empty where no elements were found.
    """

    x: Array
    y: Array
    triangles: Indices
    outline: Array
    corners: Indices
    gauss: Indices

    @property
    def elements(self) -> int:
        """Return the number of elements found, 0 where the points belong to no mesh."""
        return len(self.corners)

    def at_vertices(self, values: Array) -> Array:
        """Return values at the vertices, shape [vertices], from values at the points, shape [points]."""
        if not self.elements:
            return values
        nodes = len(self.x) - len(values)
        return np.concatenate([values, at_nodes(values[self.gauss], self.corners, nodes)])


def at_nodes(values: Array, corners: Indices, nodes: int) -> Array:
    """Return nodal values [nodes] of values [elements, Gauss points]: extrapolated bilinearly, then averaged."""
    places, extrapolated = corners.ravel(), np.ravel(values @ _TO_CORNERS.T)
    return np.bincount(places, extrapolated, minlength=nodes) / np.bincount(places, minlength=nodes)


def mesh_of(x: Array, y: Array) -> Mesh | None:
    """Return the mesh of points, shape [points], or None where they do not span a plane."""
    return elements_of(x, y) or _of_points(np.stack([x, y], axis=1).astype(float))


def elements_of(x: Array, y: Array) -> Mesh | None:
    """Return the mesh of bilinear quadrilaterals with these 2 x 2 Gauss points, None where there is none."""
    points = np.stack([x, y], axis=1).astype(float)
    if len(points) < 16 or len(points) % 4:
        return None
    gauss = np.arange(len(points)).reshape(-1, 4)
    groups = points[gauss]
    in_rows = np.abs(groups[:, 0] + groups[:, 3] - groups[:, 1] - groups[:, 2]).sum()
    if in_rows < np.abs(groups[:, 0] + groups[:, 2] - groups[:, 1] - groups[:, 3]).sum():
        gauss = gauss[:, [0, 1, 3, 2]]
    corner_points = np.einsum("cg,egd->ecd", _TO_CORNERS, points[gauss])
    first, second = corner_points[:, 2] - corner_points[:, 0], corner_points[:, 3] - corner_points[:, 1]
    area = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    if not (np.abs(area) > 0).all() or len(set(np.sign(area).tolist())) > 1:
        return None
    corners, places = _merged(corner_points.reshape(-1, 2), 1e-3 * math.sqrt(np.abs(area).min()))
    corners = corners.reshape(-1, 4)
    sides, shared = np.unique(
        np.sort(np.concatenate([corners[:, pair] for pair in map(list, _AROUND)]), axis=1), axis=0, return_counts=True
    )
    if len(places) >= 3 * len(corners) or shared.max() > 2:
        return None  # the corners do not meet, so these are not elements of one mesh
    nodes = corners + len(points)
    triangles = [gauss[:, [0, 1, 2]], gauss[:, [0, 2, 3]]]
    for start, end in _AROUND:
        triangles.append(np.stack([nodes[:, start], nodes[:, end], gauss[:, end]], axis=1))
        triangles.append(np.stack([nodes[:, start], gauss[:, end], gauss[:, start]], axis=1))
    x, y = np.concatenate([points, places]).T
    return Mesh(x, y, np.concatenate(triangles), places[sides[shared == 1]], corners, gauss)


def _of_points(points: Array) -> Mesh | None:
    try:
        triangles = np.asarray(Delaunay(points).simplices, dtype=np.int64)
    except QhullError:
        return None
    ends = points[triangles[:, [[0, 1], [1, 2], [2, 0]]]]
    longest = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=2).max(axis=1)
    triangles = triangles[longest <= _GAP * np.median(longest)]
    all_sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    sides, shared = np.unique(all_sides, axis=0, return_counts=True)
    no_elements = np.zeros((0, 4), dtype=np.int64)
    x, y = points.T
    return Mesh(x, y, triangles, points[sides[shared == 1]], no_elements, no_elements)


def _merged(places: Array, tolerance: float) -> tuple[Indices, Array]:
    """Return the node number of each place, places closer than `tolerance` sharing one, and the place of each node."""
    pairs = cKDTree(places).query_pairs(tolerance, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(places), len(places)))
    _, number = connected_components(links, directed=False)
    counts = np.bincount(number)
    merged = np.stack([np.bincount(number, places[:, axis]) / counts for axis in (0, 1)], axis=1)
    return number.astype(np.int64), merged
