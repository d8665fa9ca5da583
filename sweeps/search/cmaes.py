"""CMA-ES on ranges of numbers, its state made again from the trials told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
from cmaes import CMA

from ..states import COMPLETE, FAIL, PRUNED
from .learner import Learner
from .points import Points
from .proposals import PastTrial, Proposal

_FIRST_SPREAD: Final = 1 / 6  # of the unit interval, about its middle


@final
class CmaEs(Learner):
    """The covariance matrix adaptation evolution strategy (Hansen 2016), in shares of the probability of each field.

    Generation g are the places from g times the population on. A proposal is drawn from the state after the newest
    generation that has ended together with all before it. Only the order of results counts: complete trials by value,
    then pruned ones by how far they came, then failed ones. Fields that are inactive are drawn all the same, and have
    no effect.
    """

    def __init__(self, points: Points, *, history: Iterable[PastTrial]) -> None:
        super().__init__(points, history=history)
        self._population = self._settings.generation
        self._optimizer, self._learned = self._fresh(), 0

    def tell(self, index: int, state: str, values: tuple[float, ...] | None, rungs: Mapping[int, float]) -> None:
        super().tell(index, state, values, rungs)
        if index < self._learned * self._population:  # a failed trial was trained again
            self._start_over()

    def _draw(self, index: int, told: Sequence[PastTrial], seed: int) -> Proposal:
        optimizer = self._state(index // self._population)
        optimizer.reseed_rng(seed)
        return self._at(optimizer.ask().tolist(), Proposal({}))

    def _at(self, units: list[float], drawn: Proposal) -> Proposal:
        return Proposal(self.points.at(units[: len(self.points.space)]), {"units": units})

    def _state(self, generation: int) -> CMA:
        """Return the newest state that proposals of a generation may know."""
        ended = min(generation, self._settled_trials() // self._population)
        if ended < self._learned:
            self._start_over()
        for number in range(self._learned, ended):
            self._learn(number)
        self._learned = ended
        return self._optimizer

    def _start_over(self) -> None:
        self._optimizer, self._learned = self._fresh(), 0

    def _fresh(self) -> Any:
        fields = max(1, len(self.points.space))  # an empty space has one that means nothing
        unit_cube = np.tile([0.0, 1.0], (fields, 1))
        with np.errstate(divide="ignore"):  # in populations of 2 and 3, from which no covariance is learned
            return CMA(np.full(fields, 0.5), _FIRST_SPREAD, bounds=unit_cube, population_size=self._population)

    def _learn(self, generation: int) -> None:
        """Tell a generation in the order of its results; one that failed as a whole teaches nothing."""
        first = generation * self._population
        ranked = sorted((self._told[index] for index in range(first, first + self._population)), key=_rank)
        if ranked[0].state == FAIL:
            return
        self._optimizer.tell([(np.array(trial.attrs["units"]), float(rank)) for rank, trial in enumerate(ranked)])
        if self._optimizer.should_stop():  # converged to the last digit, or out of bounds
            self._optimizer = self._fresh()


def _rank(trial: PastTrial) -> tuple[float, ...]:
    """Return what a trial is sorted by, the best first."""
    if trial.state == COMPLETE:
        return (0, *(trial.values or ()), trial.index)
    if trial.state == PRUNED:
        furthest = max(trial.rungs, default=0)
        return (1, -furthest, trial.rungs.get(furthest, 0.0), trial.index)
    return (2, trial.index)
