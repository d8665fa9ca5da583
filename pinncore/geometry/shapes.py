"""Boxes and balls."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .checks import Interval, interval, is_symbol, number
from .pieces import Columns, Flat, Limits, Piece, Round, distances, within
from .solids import Solid

MOST_COORDINATES: Final = 4


class Box(Solid):
    """An interval of each of one to four coordinates: `Box(x=(-1, 1), t=(0, 1))`.

    Bounds may be symbols; they are checked when numbers are asked for. As a hole it may have fewer coordinates than
    its domain. Raises `SettingError`.
    """

    def __init__(self, **bounds: tuple[Any, Any]) -> None:
        if not 1 <= len(bounds) <= MOST_COORDINATES:
            raise SettingError("Box", list(bounds), f"must have 1 to {MOST_COORDINATES} coordinates")
        for name, ends in bounds.items():
            if not isinstance(ends, (tuple, list)) or len(ends) != 2:
                raise SettingError(f"Box({name})", ends, "must be two ends", f"Write Box({name}=(0, 1)).")
        self.bounds: Final = {name: (low, high) for name, (low, high) in bounds.items()}

    def __repr__(self) -> str:
        return f"Box({', '.join(f'{name}={ends}' for name, ends in self.bounds.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and list(self.bounds.items()) == list(other.bounds.items())

    def __hash__(self) -> int:
        return hash(tuple(self.bounds.items()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.bounds)

    @property
    def limits(self) -> dict[str, Interval]:
        return {name: interval(f"Box({name})", ends) for name, ends in self.bounds.items()}

    @property
    def has_symbols(self) -> bool:
        return any(is_symbol(end) for ends in self.bounds.values() for end in ends)

    def covers(self, columns: Columns, margin: float) -> NDArray[np.bool_]:
        return within(self.limits, columns, margin)

    def surfaces(self, limits: Limits) -> list[Piece]:
        ours = self.limits
        bounds = {name: ours.get(name, ends) for name, ends in limits.items()}
        return [
            Flat({**bounds, name: (end, end)}, name, bool(is_upper))
            for name in ours
            for is_upper, end in enumerate(ours[name])
        ]


class Ball(Solid):
    """A disk in two coordinates or a ball in three: `Disk(x=0.2, y=0.2, r=0.05)`, by centre and radius.

    Further coordinates of its domain are free: in a box of x, y and t a disk is a cylinder. Raises `SettingError`.
    """

    def __init__(self, *, r: Any, **centre: Any) -> None:
        if len(centre) not in (2, 3):
            raise SettingError("Ball", list(centre), "must have 2 or 3 coordinates", "Write Disk(x=0, y=0, r=1).")
        self.centre, self.radius = centre, r

    def __repr__(self) -> str:
        centre = "".join(f"{name}={value}, " for name, value in self.centre.items())
        return f"{'Disk' if len(self.centre) == 2 else 'Ball'}({centre}r={self.radius})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ball) and (list(self.centre.items()), self.radius) == (
            list(other.centre.items()),
            other.radius,
        )

    def __hash__(self) -> int:
        return hash((*self.centre.items(), self.radius))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.centre)

    @property
    def limits(self) -> dict[str, Interval]:
        centre, radius = self._numbers
        return {name: (value - radius, value + radius) for name, value in centre.items()}

    @property
    def _numbers(self) -> tuple[dict[str, float], float]:
        radius = number("Ball(r)", self.radius)
        if radius <= 0:
            raise SettingError("Ball(r)", radius, "must be greater than 0")
        return {name: number(f"Ball({name})", value) for name, value in self.centre.items()}, radius

    @property
    def has_symbols(self) -> bool:
        return any(is_symbol(value) for value in (self.radius, *self.centre.values()))

    def covers(self, columns: Columns, margin: float) -> NDArray[np.bool_]:
        centre, radius = self._numbers
        return distances(centre, columns) <= (1 + margin) * radius

    def surfaces(self, limits: Limits) -> list[Piece]:
        return [Round(limits, *self._numbers)]


Disk = Ball
