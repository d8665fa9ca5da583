"""CMA-ES on ranges of numbers; its state is computed from the trials reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, final

import numpy as np

from ..spec.samplers import SAMPLERS
from ..spec.study_spec import StudySpec
from ..states import COMPLETE, FAIL, PRUNED
from .learner import Learner
from .proposals import PastTrial, Proposal

if TYPE_CHECKING:
    from cmaes import CMA

_FIRST_SPREAD: Final = 1 / 6  # standard deviation of the first generation, around the middle of the unit interval


@final
class CmaEs(Learner):
    """The covariance matrix adaptation evolution strategy (Hansen 2016), in shares of the probability of each field.

    Generation g begins at place g times the population size. A proposal is drawn from the state after the newest
    generation that has ended together with all generations before it. Only the order of results counts: complete trials
    by value, then pruned trials by how far they came, then failed trials. Inactive fields are drawn without effect.
    """

    traits = SAMPLERS["cmaes"]

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        super().__init__(spec, history)
        self._population, self._generations = self._settings.generation, 0
        self._start_over()

    def tell(
        self, index: int, state: str, values: tuple[float, ...] | None = None, rungs: Mapping[int, float] | None = None
    ) -> None:
        super().tell(index, state, values, rungs)
        if index < self._generations * self._population:  # a failed trial was trained again
            self._start_over()

    def _draw(self, index: int, trials: Sequence[PastTrial], seed: int) -> Proposal:
        optimizer = self._state(index // self._population)
        optimizer.reseed_rng(seed)
        return self._at(optimizer.ask().tolist(), Proposal({}))

    def _at(self, units: list[float], drawn: Proposal) -> Proposal:
        return Proposal(self.points.at(units[: len(self.points.space)]), {"units": units})

    def _state(self, generation: int) -> CMA:
        """Return the newest state on which proposals of a generation may depend."""
        ended = min(generation, self._settled_trials() // self._population)
        if ended < self._generations:
            self._start_over()
        for number in range(self._generations, ended):
            self._learn(number)
        self._generations = ended
        return self._optimizer

    def _start_over(self) -> None:
        self._optimizer, self._generations = self._fresh(), 0

    def _fresh(self) -> CMA:
        from cmaes import CMA  # takes a second to import

        fields = max(1, len(self.points.space))  # an empty space gets one field without effect
        unit_cube = np.tile([0.0, 1.0], (fields, 1))
        with np.errstate(divide="ignore"):  # populations of 2 and 3 teach no covariance
            return CMA(np.full(fields, 0.5), _FIRST_SPREAD, bounds=unit_cube, population_size=self._population)

    def _learn(self, generation: int) -> None:
        """Update the state with the ranking of a generation; a generation of failed trials changes nothing."""
        first = generation * self._population
        ranked = sorted((self._trials[index] for index in range(first, first + self._population)), key=_rank)
        if ranked[0].state == FAIL:
            return
        self._optimizer.tell([(np.array(trial.attrs["units"]), float(rank)) for rank, trial in enumerate(ranked)])
        if self._optimizer.should_stop():  # converged to the last digit, or diverged
            self._optimizer = self._fresh()


def _rank(trial: PastTrial) -> tuple[float, ...]:
    """Return the sort key of a trial; the best trial has the smallest key."""
    if trial.state == COMPLETE:
        return (0, *(trial.values or ()), trial.index)
    if trial.state == PRUNED:
        furthest = max(trial.rungs, default=0)
        return (1, -furthest, trial.rungs.get(furthest, 0.0), trial.index)
    return (2, trial.index)
