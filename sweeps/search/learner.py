"""What all samplers that learn share: the trials told so far, generations, and tries until constraints hold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ..states import COMPLETE, PRUNED, RUNNING
from .independent import Random
from .points import Points
from .proposals import PastTrial, Proposal, Sampler
from .seeds import stable_hash


class Learner(Sampler):
    """A sampler whose proposals are functions of the seed, the place and the trials told.

    Nothing is remembered but these trials, and every draw has a generator of its own: so it is no matter how often
    the process was started, and in which order trials ended.
    """

    learns = True
    tries: ClassVar[int] = 100  # proposals that may be forbidden before the point is drawn at random

    def __init__(self, points: Points, *, history: Iterable[PastTrial]) -> None:
        self.points, self._settings = points, points.spec.search
        self._random = Random(points, self._settings.seed)
        self._objectives = len(points.spec.objectives)
        self._told = {trial.index: trial.checked(self._objectives) for trial in history}
        self._settled = 0

    @abstractmethod
    def _draw(self, index: int, told: Sequence[PastTrial], seed: int) -> Proposal:
        """Return a proposal for place `index` made from the trials `told`, allowed or not."""

    def _at(self, units: list[float], drawn: Proposal) -> Proposal:
        """Return the point at `units` in the place of what was drawn."""
        return replace(drawn, params=self.points.at(units))

    def _warned(self, told: list[PastTrial], forbidden: dict[str, Any]) -> list[PastTrial]:
        """Return the trials from which the next try is made, after a forbidden proposal."""
        return told

    def propose(self, index: int) -> Proposal:
        if index in self._told:
            return Proposal(dict(self._told[index].params), dict(self._told[index].attrs))
        if self._settings.deterministic:
            if not self.ready(index):
                raise ValueError(f"trial {index} waits for results of the generation before")
            for before in range(self.generation_of(index).start, index):
                self.propose(before)
        proposal = self._allowed(index)
        self._told[index] = PastTrial(index, proposal.params, RUNNING, attrs=proposal.attrs)
        return Proposal(dict(proposal.params), dict(proposal.attrs))

    def tell(self, index: int, state: str, values: tuple[float, ...] | None, rungs: Mapping[int, float]) -> None:
        if index not in self._told:
            raise ValueError(f"trial {index} was told before it was asked for")
        before = self._told[index]
        if before.state not in (COMPLETE, PRUNED):  # a failed one may be trained again
            self._told[index] = replace(before, state=state, values=values, rungs=rungs).checked(self._objectives)
            self._settled = min(self._settled, index)

    def generation_of(self, index: int) -> range:
        if not self._settings.deterministic:
            return range(index, index + 1)
        first = index - index % self._settings.generation
        return range(first, first + self._settings.generation)

    def ready(self, index: int) -> bool:
        return not self._settings.deterministic or self._settled_trials() >= self.generation_of(index).start

    def _allowed(self, index: int) -> Proposal:
        """Draw until the constraints hold, at last at random."""
        told = self._visible(index)
        for attempt in range(self.tries):
            drawn = self._draw(index, told, stable_hash(self._settings.seed, index, attempt) % 2**32)
            if self.points.allows(drawn.params):
                return drawn
            told = self._warned(told, drawn.params)
        return self._at(self._random.units(index), drawn)

    def _visible(self, index: int) -> list[PastTrial]:
        """Return the trials that `index` may learn from, by index.

        In deterministic mode the results of its own generation are held back, and later places are not there yet.
        """
        if not self._settings.deterministic:
            return [self._told[other] for other in sorted(self._told)]
        first = self.generation_of(index).start
        return [self._told[other] for other in range(first)] + [
            replace(self._told[other], state=RUNNING, values=None, rungs={}) for other in range(first, index)
        ]

    def _settled_trials(self) -> int:
        """Return how many trials from the first on have all ended."""
        while self._settled in self._told and self._told[self._settled].is_finished:
            self._settled += 1
        return self._settled


def foreign(points: Points, trials: Iterable[PastTrial]) -> list[PastTrial]:
    """Return those complete trials of other studies that are points of this space, at places before the first."""
    objectives = len(points.spec.objectives)
    fitting: list[tuple[dict[str, Any], PastTrial]] = []
    for trial in trials:
        params = points.fitting(trial.params)
        if params is not None and trial.checked(objectives).state == COMPLETE:
            fitting.append((params, trial.checked(objectives)))
    return [
        PastTrial(place - len(fitting), params, COMPLETE, trial.values) for place, (params, trial) in enumerate(fitting)
    ]
