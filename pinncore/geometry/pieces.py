"""Pieces of regions: images of a unit cube with constant density, flat or round, perhaps with a normal."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .checks import Array, Interval
from .samplers import Cube

Columns = Mapping[str, Array]
Limits = Mapping[str, Interval]
NEAR = 1e-9  # of a length: what is nearer is at the same place


def normal_name(name: str) -> str:
    """Return the name of the column with the outward unit normal's component along a coordinate."""
    return f"normal_{name}"


def spread(limits: Limits) -> list[str]:
    """Return the coordinates of limits that are more than one value."""
    return [name for name, (low, high) in limits.items() if low < high]


@dataclass(frozen=True)
class Piece(abc.ABC):
    """A part of a region; `bounds` has every coordinate. Some boundaries may have their region on both sides."""

    bounds: Limits
    may_be_inside: bool = field(default=False, kw_only=True)

    @property
    @abc.abstractmethod
    def limits(self) -> Limits:
        """Return the smallest and largest value of each coordinate."""

    @property
    @abc.abstractmethod
    def cube(self) -> Cube:
        """Return the unit cube that the piece is the image of."""

    @property
    @abc.abstractmethod
    def size(self) -> float:
        """Return length, area or volume in the units of the coordinates; 1 of a point."""

    @abc.abstractmethod
    def at(self, unit: Array) -> dict[str, Array]:
        """Return the coordinates of the images of points [points, directions] of the cube."""

    @abc.abstractmethod
    def normals(self, columns: Columns) -> dict[str, Array]:
        """Return the unit normals at points of the piece, away from its solid, as columns; none where it has none."""

    @abc.abstractmethod
    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which points [points] lie on the piece."""


@dataclass(frozen=True)
class Flat(Piece):
    """A box, or a face of one: coordinates with one value, and others that vary. `side` names what the normal is to."""

    side: str = ""
    is_upper: bool = False

    @property
    def limits(self) -> Limits:
        return self.bounds

    @property
    def cube(self) -> Cube:
        names = spread(self.bounds)
        lengths = tuple(self.bounds[name][1] - self.bounds[name][0] for name in names)
        return Cube(lengths, (True,) * len(lengths))

    @property
    def size(self) -> float:
        return math.prod(self.cube.lengths)

    def at(self, unit: Array) -> dict[str, Array]:
        free = iter(unit.T)
        return {
            name: low + (high - low) * next(free) if low < high else np.full(len(unit), low)
            for name, (low, high) in self.bounds.items()
        }

    def normals(self, columns: Columns) -> dict[str, Array]:
        if not self.side:
            return {}
        outward = 1.0 if self.is_upper else -1.0
        shape = np.shape(columns[self.side])
        return {normal_name(name): np.full(shape, outward if name == self.side else 0.0) for name in self.bounds}

    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        return within(self.bounds, columns, NEAR)


@dataclass(frozen=True)
class Round(Piece):
    """The surface of a disk or ball in two or three coordinates; the other coordinates vary independently."""

    centre: Mapping[str, float]  # whose coordinates have no part in `bounds`
    radius: float

    @property
    def limits(self) -> Limits:
        around = {name: (value - self.radius, value + self.radius) for name, value in self.centre.items()}
        return {name: around.get(name, limits) for name, limits in self.bounds.items()}

    @property
    def _others(self) -> dict[str, Interval]:
        return {name: limits for name, limits in self.bounds.items() if name not in self.centre}

    @property
    def cube(self) -> Cube:
        others = Flat(self._others).cube
        turns = (2 * math.pi * self.radius,) if len(self.centre) == 2 else (4 * self.radius, math.pi * self.radius)
        return Cube((*turns, *others.lengths), (*(False for _ in turns), *others.has_ends))

    @property
    def size(self) -> float:
        turn = 2 * math.pi * self.radius if len(self.centre) == 2 else 4 * math.pi * self.radius**2
        return turn * Flat(self._others).size

    def at(self, unit: Array) -> dict[str, Array]:
        turns = len(self.centre) - 1
        angle = 2 * np.pi * unit[:, 0]
        directions = [np.cos(angle), np.sin(angle)]
        if turns == 2:  # Archimedes: equal heights have equal areas
            height = 2 * unit[:, 1] - 1
            directions = [component * np.sqrt(1 - height**2) for component in directions] + [height]
        columns = Flat(self._others).at(unit[:, turns:])
        for (name, centre), component in zip(self.centre.items(), directions, strict=True):
            columns[name] = centre + self.radius * component
        return {name: columns[name] for name in self.bounds}

    def normals(self, columns: Columns) -> dict[str, Array]:
        shape = np.shape(columns[next(iter(self.centre))])
        normals = {normal_name(name): np.zeros(shape) for name in self.bounds}
        for name, centre in self.centre.items():
            normals[normal_name(name)] = (np.asarray(columns[name]) - centre) / self.radius
        return normals

    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        distance = distances(self.centre, columns)
        is_near = np.abs(distance - self.radius) <= NEAR * self.radius
        return is_near & within(self._others, columns, NEAR)


def within(limits: Limits, columns: Columns, margin: float) -> NDArray[np.bool_]:
    """Return which points [points] lie in limits, widened by `margin` times their length."""
    inside = np.array(True)
    for name, (low, high) in limits.items():
        width = margin * ((high - low) or max(abs(low), 1.0))
        inside = inside & (np.asarray(columns[name]) >= low - width) & (np.asarray(columns[name]) <= high + width)
    return inside


def distances(centre: Mapping[str, float], columns: Columns) -> Array:
    """Return the distances [points] from a centre, in its coordinates."""
    return np.sqrt(sum((np.asarray(columns[name]) - value) ** 2 for name, value in centre.items()))
