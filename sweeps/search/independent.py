"""Samplers whose points depend only on the seed and the place in the sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from ..spec.samplers import SAMPLERS
from ..spec.study_spec import StudySpec
from .grid import Product, Table
from .points import MOST_TRIES, Points
from .proposals import PastTrial, Proposal, Search
from .seeds import shuffled

_BLOCK: Final = 256  # points of a Sobol sequence drawn at once


@final
class Grid(Search):
    """Every combination once, in an order drawn by the seed, so that the first trials are a fair sample."""

    traits = SAMPLERS["grid"]

    @cached_property
    def size(self) -> int:
        """Return the number of combinations that the constraints allow, counted at the first call.

        Raises `SweepError` where they allow none.
        """
        if not self._combinations.allowed:
            raise self.points.forbidden(self._combinations.size)
        return self._combinations.allowed

    def propose(self, index: int) -> Proposal:
        if not 0 <= index < self.size:
            raise IndexError(f"the grid has {self.size} combinations, so there is no trial {index}")
        return Proposal(self._combinations.point(self._shuffled(self._allowed.place(index))))

    @cached_property
    def _combinations(self) -> Product | Table:
        return (Table if self.points.is_conditional or self.points.is_constrained else Product)(self.points)

    @cached_property
    def _allowed(self) -> _Allowed:
        table = self._combinations
        return _Allowed(self.points, table.size, lambda place: table.allows(self._shuffled(place)))

    def _shuffled(self, place: int) -> int:
        return shuffled(place, self._combinations.size, seed=self._settings.seed)


@final
class Random(Search):
    """Independent draws, each place from its own generator; forbidden points are drawn again from the same one."""

    traits = SAMPLERS["random"]

    def propose(self, index: int) -> Proposal:
        return Proposal(self.points.at(self.units(index)))

    def units(self, index: int) -> list[float]:
        """Return an allowed point as shares of the probability of each field.

        Raises `SweepError` where none is found.
        """
        generator = np.random.default_rng([self._settings.seed, index])
        for _ in range(MOST_TRIES):
            units: list[float] = generator.random(len(self.points.space)).tolist()
            if not self.points.is_constrained or self.points.allows(self.points.at(units)):
                return units
        raise self.points.forbidden(MOST_TRIES)


@final
class QuasiRandom(Search):
    """Scrambled Sobol points (Owen 1998), which fill the space more evenly than random ones."""

    traits = SAMPLERS["qmc"]

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        super().__init__(spec)
        self._allowed = _Allowed(self.points, MOST_TRIES, lambda place: self.points.allows(self._point(place)))
        self._engine: Any = None
        self._block, self._units = -1, np.empty((0, 0))

    def propose(self, index: int) -> Proposal:
        return Proposal(self._point(self._allowed.place(index)))

    def _point(self, place: int) -> dict[str, Any]:
        if not self.points.space:
            return {}
        block, row = divmod(place, _BLOCK)
        if block != self._block:
            self._block, self._units = block, self._drawn(block * _BLOCK)
        return self.points.at(self._units[row].tolist())

    def _drawn(self, first: int) -> npt.NDArray[np.float64]:
        """Return a block of points from number `first` on; an earlier block than the last needs a new engine."""
        from scipy.stats import qmc  # takes a second to import

        if self._engine is None or self._engine.num_generated > first:
            fields = len(self.points.space)
            self._engine = qmc.Sobol(fields, scramble=True, rng=np.random.default_rng(self._settings.seed))
        if first > self._engine.num_generated:
            self._engine.fast_forward(first - self._engine.num_generated)
        return self._engine.random(_BLOCK)


@final
class Listed(Search):
    """The configurations of the study file, in their order; its check made sure that the constraints hold."""

    traits = SAMPLERS["list"]

    @property
    def size(self) -> int:
        return len(self._rows)

    @cached_property
    def _rows(self) -> tuple[dict[str, Any], ...]:
        return self.points.spec.listed

    def propose(self, index: int) -> Proposal:
        if not 0 <= index < self.size:
            raise IndexError(f"the list has {self.size} configurations, so there is no trial {index}")
        return Proposal(dict(self._rows[index]))


@final
class _Allowed:
    """The places of a sequence whose points the constraints allow, searched on demand."""

    def __init__(self, points: Points, most: int, allows: Callable[[int], bool]) -> None:
        self._points, self._most, self._allows = points, most, allows
        self._places: list[int] = []

    def place(self, index: int) -> int:
        """Return the place of the allowed point number `index`. Raises `SweepError` where there is none."""
        if not self._points.is_constrained:
            return index
        while len(self._places) <= index:
            first = self._places[-1] + 1 if self._places else 0
            place = next(filter(self._allows, range(first, first + self._most)), None)
            if place is None:
                raise self._points.forbidden(self._most)
            self._places.append(place)
        return self._places[index]
