"""Which points of a field a picture shows: all of one or two coordinates, slices through the middle of more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinncore.problems import Column

from .drawing import Array
from .surfaces import levels_of

_FEWEST: Final = 9  # points of a slice; where fewer lie on the nearest plane, those near it are taken too


@dataclass(frozen=True)
class View:
    """The `points` (indices) that are drawn over the coordinates `axes` (their numbers).

    `held` are the other coordinates, each with its lowest and highest value there.
    """

    axes: tuple[int, ...]
    points: NDArray[np.int64]
    held: tuple[tuple[Column, float, float], ...] = ()

    @property
    def place(self) -> str:
        """Return where the other coordinates are, empty where there are none: "z = 0.5 m, t = 1 s"."""
        return ", ".join(f"{column.symbol} {_between(low, high, column.unit)}" for column, low, high in self.held)


def views_of(coordinates: Sequence[Column], values: Sequence[Array], *, few: bool = False) -> tuple[View, ...]:
    """Return what is drawn of points, whose coordinates are `values` [coordinates][points].

    Of three coordinates, every two have a slice; of four, the first and the last two; with `few`, the first two alone.
    """
    number = len(coordinates)
    everything = np.arange(len(values[0]))
    if number < 3:
        return (View(tuple(range(number)), everything),)
    pairs = {3: ((0, 1), (0, 2), (1, 2)), 4: ((0, 1), (2, 3))}[number]
    return tuple(_slice(coordinates, values, axes) for axes in pairs[: 1 if few else None])


def _slice(coordinates: Sequence[Column], values: Sequence[Array], axes: tuple[int, int]) -> View:
    """Return the points on the grid planes that are nearest to the middle of the other coordinates."""
    held = [axis for axis in range(len(coordinates)) if axis not in axes]
    distance = np.zeros(len(values[0]))
    on_planes = np.ones(len(values[0]), dtype=bool)
    for axis in held:
        levels, number = levels_of(values[axis])
        share = np.abs(levels - (levels[0] + levels[-1]) / 2) / (float(np.ptp(levels)) or 1.0)
        on_planes &= number == share.round(9).argmin()  # of two that are as near, the lower one
        distance = np.maximum(distance, share[number])
    points = np.flatnonzero(on_planes)
    if len(points) < _FEWEST:  # scattered points
        wanted = max(_FEWEST, round(len(distance) ** (len(axes) / len(coordinates))))
        points = np.sort(np.argsort(distance, kind="stable")[:wanted])
    places = ((coordinates[axis], values[axis][points]) for axis in held)
    return View(axes, points, tuple((column, float(at.min()), float(at.max())) for column, at in places))


def _between(low: float, high: float, unit: str) -> str:
    ends = [f"{low:.3g}"] if f"{low:.3g}" == f"{high:.3g}" else [f"{low:.3g}", f"{high:.3g}"]
    number = "= " + ends[0] if len(ends) == 1 else f"from {ends[0]} to {ends[1]}"
    return number if unit == "1" else f"{number} {unit}"
