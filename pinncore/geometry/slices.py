"""Slices: some coordinates at one value, inside a domain or at its edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .checks import Array, known_names, number
from .pieces import NEAR, Columns, Flat, Piece
from .predicates import holds
from .region import Pieced, Region
from .solids import Solid


class At(Pieced):
    """A slice such as `At(x=0.5)`, or a single point where every coordinate has a value; its domain bounds the others.

    Values may be symbols; they are checked when numbers are asked for. Raises `SettingError`.
    """

    def __init__(self, **values: Any) -> None:
        if not values:
            raise SettingError("At", values, "must have a coordinate", "Write At(x=0.5).")
        self.values: Final = values
        self._domain: Solid | None = None
        self._predicates: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"At({', '.join(f'{name}={value}' for name, value in self.values.items())})"

    def within(self, domain: Region | None) -> At:
        return self._with(domain if isinstance(domain, Solid) else None, self._predicates)

    def where(self, predicate: Any) -> At:
        return self._with(self._domain, (*self._predicates, predicate))

    def _with(self, domain: Solid | None, predicates: tuple[Any, ...]) -> At:
        slice_ = At(**self.values)
        slice_._domain, slice_._predicates = domain, predicates
        return slice_

    @property
    def pieces(self) -> Sequence[Piece]:
        values = {name: number(f"At({name})", value) for name, value in self.values.items()}
        fixed = {name: (value, value) for name, value in values.items()}
        if self._domain is None:
            return [Flat(fixed)]
        limits = self._domain.limits
        known_names("At", fixed, limits)
        for name, value in values.items():
            low, high = limits[name]
            if not low - NEAR * (high - low) <= value <= high + NEAR * (high - low):
                raise SettingError(f"At({name})", value, f"must be in the domain, {low:g} to {high:g}")
        return [Flat({**limits, **fixed})]

    def admits(self, piece: Piece, columns: Columns) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        inside = np.ones(np.shape(next(iter(columns.values()))), dtype=bool)
        if self._domain is not None:
            inside &= self._domain.covers(columns, NEAR)
        for predicate in self._predicates:
            inside &= holds(predicate, {name: columns[name] for name in piece.bounds})
        return dict(columns), inside
