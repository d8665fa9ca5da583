"""What a field is drawn on: an image for the points of a regular grid, triangles for all others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.tri import Triangulation
from scipy.spatial import cKDTree

from pinncore.mesh import Indices, Mesh, elements_of, mesh_of

from .drawing import Array

Place = tuple[float, ...]

_PIXELS: Final = 320  # of an image along an axis
_FILLED: Final = 0.3  # share of the places of a grid that are points, from which these belong to a grid
_FEWEST: Final = 3  # levels along both axes
_MANY: Final = 20  # levels, half of whose steps are hardly seen
_STEPS: Final = 1e-6  # share of the range below which coordinates are the same
_LINES: Final[dict[str, Any]] = {"linewidths": 0.5, "linestyles": "solid", "alpha": 0.6}


class Surface(ABC):
    """A part of a plane; `outline` are the lines [points, 2] around it, `limits` its ends along both axes."""

    outline: Sequence[Array]
    limits: tuple[tuple[float, float], tuple[float, float]]

    @abstractmethod
    def fill(self, axes: Axes, values: Array, colors: str, scale: Normalize) -> ScalarMappable:
        """Draw values [points] in colours that change as smoothly as these do."""

    @abstractmethod
    def contour(self, axes: Axes, values: Array, scale: Normalize, levels: Sequence[float], color: str) -> None:
        """Draw lines along which values [points] are at some levels."""

    @abstractmethod
    def describe(self, points: int) -> str:
        """Return what its points are, for a caption."""


class Triangles(Surface):
    """Triangles between points, or in the elements that have these Gauss points."""

    def __init__(self, mesh: Mesh, start: Array, size: Array) -> None:
        """Draw a mesh whose coordinates are to be multiplied by `size` [2] and moved to `start` [2]."""
        self._mesh = mesh
        x, y = (start + size * np.stack([mesh.x, mesh.y], axis=1)).T
        self._triangles = Triangulation(x, y, mesh.triangles)
        self.outline = [start + size * line for line in joined(mesh.outline)]
        self.limits = _ends(x), _ends(y)

    def _at_vertices(self, values: Array, scale: Normalize) -> Array:
        inside = np.clip(values, scale.vmin, scale.vmax)
        at = self._mesh.at_vertices
        return np.clip(np.exp(at(np.log(inside))) if isinstance(scale, LogNorm) else at(inside), scale.vmin, scale.vmax)

    def fill(self, axes: Axes, values: Array, colors: str, scale: Normalize) -> ScalarMappable:
        at_vertices = self._at_vertices(values, scale)
        return axes.tripcolor(self._triangles, at_vertices, shading="gouraud", cmap=colors, norm=scale, rasterized=True)

    def contour(self, axes: Axes, values: Array, scale: Normalize, levels: Sequence[float], color: str) -> None:
        at_vertices = self._at_vertices(values, scale)
        if shown := [level for level in levels if at_vertices.min() < level < at_vertices.max()]:
            lines = axes.tricontour(self._triangles, at_vertices, shown, colors=color, **_LINES)
            lines.set_rasterized(True)

    def describe(self, points: int) -> str:
        if self._mesh.elements:
            return f"{points:,} Gauss points of {self._mesh.elements:,} elements"
        return f"{points:,} points, joined by triangles"


class Grid(Surface):
    """A regular grid, some of whose places may be empty.

    `order` [rows, columns] are the indices of the points, -1 where there is none. Where the points are the middles of
    cells, as `reach` supposes, these are drawn whole.
    """

    def __init__(self, columns: Array, rows: Array, order: Indices) -> None:
        self._order, self._levels = order, (columns, rows)
        self.limits = reach(columns), reach(rows)

    @cached_property
    def _axes(self) -> tuple[Array, Array]:
        """Return the middles of the pixels along both axes."""
        pixels = (np.arange(_PIXELS) + 0.5) / _PIXELS
        return tuple(low + (high - low) * pixels for low, high in self.limits)  # type: ignore[return-value]

    def _image(self, nodes: Array) -> Array:
        """Return values at the nodes [rows, columns] as pixels [pixels, pixels], continued linearly to the border."""
        x, y = self._axes
        return _along_rows(_along_rows(nodes, self._levels[0], x).T, self._levels[1], y).T

    @cached_property
    def _nearest(self) -> Indices:
        """Return the index of the point that is at each node, or nearest to it [rows, columns]."""
        is_there = self._order >= 0
        found = np.argwhere(is_there)
        nearest = cKDTree(found).query(np.argwhere(np.ones_like(is_there)))[1]
        return self._order[tuple(found[nearest].T)].reshape(self._order.shape)

    @cached_property
    def _share(self) -> Array:
        """Return how far a pixel [pixels, pixels] is inside: 0.5 on the border between points and empty places."""
        return self._image((self._order >= 0).astype(float))

    @cached_property
    def outline(self) -> Sequence[Array]:  # type: ignore[override]
        """Return the lines around the cells that have points, each [corners, 2]."""
        if (self._order >= 0).all():
            (left, right), (bottom, top) = self.limits
            return [np.array([(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)])]
        x, y = (np.concatenate([[low], at, [high]]) for at, (low, high) in zip(self._axes, self.limits, strict=True))
        return [np.asarray(line) for line in contour_generator(x, y, np.pad(self._share, 1)).lines(0.5)]

    def _values(self, values: Array, scale: Normalize) -> Array:
        inside = np.clip(values, scale.vmin, scale.vmax)[self._nearest]
        image = np.exp(self._image(np.log(inside))) if isinstance(scale, LogNorm) else self._image(inside)
        return np.where(self._share >= 0.5, np.clip(image, scale.vmin, scale.vmax), np.nan)

    def fill(self, axes: Axes, values: Array, colors: str, scale: Normalize) -> ScalarMappable:
        (left, right), (bottom, top) = self.limits
        return axes.imshow(
            np.ma.masked_invalid(self._values(values, scale)),
            extent=(left, right, bottom, top),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap=colors,
            norm=scale,
        )

    def contour(self, axes: Axes, values: Array, scale: Normalize, levels: Sequence[float], color: str) -> None:
        image = self._values(values, scale)
        if shown := [level for level in levels if np.nanmin(image) < level < np.nanmax(image)]:
            lines = axes.contour(*self._axes, image, shown, colors=color, **_LINES)
            lines.set_rasterized(True)

    def describe(self, points: int) -> str:
        rows, columns = self._order.shape
        return f"{points:,} points of a grid" + (f" of {columns} x {rows}" if points == rows * columns else "")


def surface_of(first: Array, second: Array, *, same_unit: bool = True) -> Surface | None:
    """Return what is drawn on at points [points], None where they do not span a plane.

    Where their coordinates have not the `same_unit`, distances between points are measured in shares of the ranges.
    """
    if (elements := elements_of(first, second)) is not None:
        return Triangles(elements, np.zeros(2), np.ones(2))
    if (grid := _grid_of(first, second)) is not None:
        return grid
    start, size = np.zeros(2), np.ones(2)
    if not same_unit:
        start = np.array([first.min(), second.min()])
        size = np.array([np.ptp(first) or 1.0, np.ptp(second) or 1.0])
    mesh = mesh_of((first - start[0]) / size[0], (second - start[1]) / size[1])
    return None if mesh is None else Triangles(mesh, start, size)


def _grid_of(first: Array, second: Array) -> Grid | None:
    """Return the grid of points [points], None where they are not those of a regular grid."""
    if len(first) < _FEWEST**2:
        return None
    (columns, column), (rows, row) = levels_of(first), levels_of(second)
    places = len(columns) * len(rows)
    if min(len(columns), len(rows)) < _FEWEST or not _FILLED * places <= len(first) <= places:
        return None
    order = np.full((len(rows), len(columns)), -1, dtype=np.int64)
    order[row, column] = np.arange(len(first))
    is_whole, is_even = bool((order >= 0).all()), _has_equal_steps(columns) and _has_equal_steps(rows)
    if (order >= 0).sum() < len(first) or not (is_whole or is_even):
        return None  # two points at one place, or scattered points that share some coordinates
    return Grid(columns, rows, order)


def levels_of(values: Array) -> tuple[Array, Indices]:
    """Return the distinct values, those that differ by rounding taken as one, and which of them each is [points]."""
    order = np.argsort(values, kind="stable")
    is_new = np.diff(values[order], prepend=-np.inf) > _STEPS * float(np.ptp(values))
    number = np.empty(len(values), dtype=np.int64)
    number[order] = np.cumsum(is_new) - 1
    return values[order][is_new], number


def _along_rows(nodes: Array, levels: Array, at: Array) -> Array:
    """Return values [rows, places] `at` some places from those at `levels`, linear between and beyond them."""
    left = np.clip(np.searchsorted(levels, at) - 1, 0, len(levels) - 2)
    share = (at - levels[left]) / (levels[left + 1] - levels[left])
    return nodes[:, left] * (1 - share) + nodes[:, left + 1] * share


def reach(levels: Array) -> tuple[float, float]:
    """Return the ends of levels: half a step beyond them where they are the middles of cells.

    That is supposed where all steps are equal and the ends of the cells are rounder numbers than their middles, or, if
    neither are, where the steps are small.
    """
    ends = _ends(levels)
    if len(levels) < _FEWEST or not _has_equal_steps(levels):
        return ends
    half = (ends[1] - ends[0]) / (len(levels) - 1) / 2
    beyond = tuple(0.0 if abs(end) < 1e-9 * half else end for end in (ends[0] - half, ends[1] + half))
    digits, digits_beyond = (sum(len(f"{abs(end):.8g}") for end in pair) for pair in (ends, beyond))
    is_beyond = digits_beyond < digits or (digits_beyond == digits and len(levels) >= _MANY)
    return (beyond[0], beyond[1]) if is_beyond else ends


def _has_equal_steps(levels: Array) -> bool:
    steps = np.diff(levels)
    return bool(np.ptp(steps) <= 1e-3 * steps.mean())


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def joined(edges: Array) -> list[Array]:
    """Return edges [edges, 2, 2] as lines [points, 2] along those that meet; a closed line ends where it begins."""
    ends: dict[Place, list[Place]] = {}
    for start, end in edges.tolist():
        ends.setdefault(tuple(start), []).append(tuple(end))
        ends.setdefault(tuple(end), []).append(tuple(start))
    lines = []
    for start in sorted(ends, key=lambda place: len(ends[place]) % 2 == 0):  # ends of open lines first
        while ends[start]:
            line = [start]
            while ends[line[-1]]:
                after = ends[line[-1]].pop()
                ends[after].remove(line[-1])
                line.append(after)
            lines.append(np.array(line))
    return lines
