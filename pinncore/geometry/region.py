"""Regions and how points are drawn in them: the count shared among pieces, and what lies outside drawn anew."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..data.tables import OpenTable
from ..errors import SettingError
from .checks import Array, Interval, known_names
from .pieces import Columns, Piece
from .samplers import SAMPLERS, Sampler, sampler_of

TRIED: Final = (2**12, 2**18)  # points that tell how much of a piece belongs to its region
MOST_TRIED: Final = 2**23


class Region(abc.ABC):
    """A set of points in named coordinates."""

    @property
    @abc.abstractmethod
    def limits(self) -> dict[str, Interval]:
        """Return the smallest and largest value of each coordinate. Raises `SettingError` where they are wrong."""

    @abc.abstractmethod
    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which points [points], given by their coordinates, lie in the region or on its edge."""

    @abc.abstractmethod
    def draw(
        self, count: int, sampler: str, rng_seed: int | Sequence[int], *, what: str = "region"
    ) -> dict[str, Array]:
        """Return points by coordinate [points]; at boundaries also the outward unit normal, as `normal_x` and so on.

        There are exactly `count`, or at most `count` where the sampler is a grid; where several pieces share them,
        each gets its part by size, and at least one. A region of single points gives these, whatever the count.
        Equal seeds give equal points. Raises `SettingError` where `what` has no points.
        """

    @abc.abstractmethod
    def where(self, predicate: Any) -> Self | Region:
        """Return the part where a predicate holds: a function of arrays by coordinate, or an inequality in SymPy."""

    def within(self, domain: Region | None) -> Region:
        """Return the region as a part of a domain, which bounds the coordinates that the region leaves free."""
        return self

    def reading(self, open_table: OpenTable) -> Region:
        """Return the region that opens users' tables with `open_table`."""
        return self


class Pieced(Region):
    """A region that is made of pieces, and of these the points that it admits."""

    @property
    @abc.abstractmethod
    def pieces(self) -> Sequence[Piece]:
        """Return the pieces. Raises `SettingError` where the region is wrong."""

    @abc.abstractmethod
    def admits(self, piece: Piece, columns: Columns) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Return points of a piece with what is known at them, and which of them belong to the region."""

    @property
    def limits(self) -> dict[str, Interval]:
        every = [piece.limits for piece in self.pieces]
        return {name: (min(each[name][0] for each in every), max(each[name][1] for each in every)) for name in every[0]}

    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        pieces = self.pieces
        known_names("contains", pieces[0].limits, columns)
        return np.any([piece.contains(columns) & self.admits(piece, columns)[1] for piece in pieces], axis=0)

    def draw(
        self, count: int, sampler: str, rng_seed: int | Sequence[int], *, what: str = "region"
    ) -> dict[str, Array]:
        chosen = sampler_of(sampler)
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise SettingError("points", count, "must be a whole number of at least 1")
        pieces = self.pieces
        fractions = [self._fraction(piece) for piece in pieces]
        if not any(fractions):
            raise SettingError(
                what,
                f"none of {TRIED[-1]:,} tried",
                "must have points",
                "Look at its holes and predicates: do they leave anything?",
            )
        sizes = [piece.size * fraction for piece, fraction in zip(pieces, fractions, strict=True)]
        seed = [rng_seed] if isinstance(rng_seed, (int, np.integer)) else list(rng_seed)
        drawn = [
            self._draw_piece(pieces[i], share, fractions[i], chosen, [*seed, i], what)
            for i, share in enumerate(shares(count, sizes))
            if share
        ]
        return {name: np.concatenate([columns[name] for columns in drawn]) for name in drawn[0]}

    def _fraction(self, piece: Piece) -> float:
        """Return about how much of a piece belongs to the region: 0 nothing, 1 all of it."""
        for tried in TRIED:
            points = _unit_points(SAMPLERS["sobol"], tried, piece, [0])
            if fraction := float(np.mean(self.admits(piece, piece.at(points))[1])):
                return fraction
        return 0.0

    def _draw_piece(
        self, piece: Piece, count: int, fraction: float, sampler: Sampler, seed: list[int], what: str
    ) -> dict[str, Array]:
        cube = piece.cube
        if not cube.dimension:
            return self._admitted(piece, np.zeros((1, 0)))
        tried = count if fraction == 1 else math.ceil(1.05 * count / fraction) + 8
        if not sampler.is_random:
            columns = self._grid(piece, count, tried, sampler)
            if len(next(iter(columns.values()))):
                return columns
            raise SettingError(what, f"none in a grid of {count}", "must have points", "Ask for more points.")
        while tried <= MOST_TRIED:
            columns = self._admitted(piece, _unit_points(sampler, tried, piece, seed))
            if len(next(iter(columns.values()))) >= count:
                return {name: values[:count] for name, values in columns.items()}
            tried *= 2
        raise SettingError(
            what,
            f"{fraction:.1e} of them",
            f"must be more of its limits than this for {count:,} points",
            "Give its box tighter limits.",
        )

    def _grid(self, piece: Piece, count: int, cells: int, sampler: Sampler) -> dict[str, Array]:
        """Return the points of about the finest grid that has at most `count` in the region."""
        while True:
            columns = self._admitted(piece, _unit_points(sampler, cells, piece, [0]))
            found = len(next(iter(columns.values())))
            if found <= count:
                return columns
            cells = min(cells - 1, max(cells * count // found, cells * 9 // 10))

    def _admitted(self, piece: Piece, points: Array) -> dict[str, Array]:
        columns, inside = self.admits(piece, piece.at(points))
        return {name: values[inside] for name, values in columns.items()}


def shares(count: int, sizes: Sequence[float]) -> list[int]:
    """Return how many of `count` points each size gets: its part, rounded so that all are given, and at least one.

    More than `count` are given only where there are more sizes than points; a size of 0 gets none.
    """
    total = math.fsum(sizes)
    exact = [count * size / total for size in sizes]
    given = [max(int(part), 1) if size else 0 for part, size in zip(exact, sizes, strict=True)]
    while sum(given) < count:
        given[max(range(len(exact)), key=lambda i: exact[i] - given[i] if sizes[i] else -math.inf)] += 1
    while sum(given) > count and max(given) > 1:
        given[min((i for i in range(len(exact)) if given[i] > 1), key=lambda i: exact[i] - given[i])] -= 1
    return given


def _unit_points(sampler: Sampler, count: int, piece: Piece, seed: Sequence[int]) -> Array:
    cube = piece.cube
    if not cube.dimension:
        return np.zeros((1, 0))
    return sampler.draw(count, cube, np.random.default_rng(list(seed)))
