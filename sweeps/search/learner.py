"""The part shared by all samplers that learn: past trials, generations, and tries until the constraints hold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ..spec.study_spec import StudySpec
from ..states import COMPLETE, PRUNED, RUNNING
from .independent import Random
from .points import Points
from .proposals import PastTrial, Proposal, Search
from .seeds import stable_hash


class Learner(Search):
    """A sampler whose proposals are functions of the seed, the place and the past trials.

    Only these trials are remembered, and every draw has its own generator. Proposals therefore depend neither on how
    often the process was started nor on the order in which trials ended.
    """

    tries: ClassVar[int] = 100  # forbidden proposals before the point is drawn at random

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial]) -> None:
        super().__init__(spec)
        self._random = Random(spec)
        self._objectives = len(spec.objectives)
        self._trials = {trial.index: trial.checked(self._objectives) for trial in history}
        self._settled = 0

    @abstractmethod
    def _draw(self, index: int, trials: Sequence[PastTrial], seed: int) -> Proposal:
        """Return a proposal for place `index` based on `trials`, whether the constraints allow it or not."""

    def _at(self, units: list[float], drawn: Proposal) -> Proposal:
        """Return the proposal `drawn` with its point replaced by that at `units`."""
        return replace(drawn, params=self.points.at(units))

    def _after_forbidden(self, trials: list[PastTrial], forbidden: dict[str, Any]) -> list[PastTrial]:
        """Return the trials on which the next try is based, after a forbidden proposal."""
        return trials

    def propose(self, index: int) -> Proposal:
        if index in self._trials:
            return Proposal(dict(self._trials[index].params), dict(self._trials[index].attrs))
        if self._settings.deterministic:
            if not self.ready(index):
                raise ValueError(f"trial {index} must wait for the results of the previous generation")
            for before in range(self.generation_of(index).start, index):
                self.propose(before)
        proposal = self._allowed(index)
        self._trials[index] = PastTrial(index, proposal.params, RUNNING, attrs=proposal.attrs)
        return Proposal(dict(proposal.params), dict(proposal.attrs))

    def tell(
        self, index: int, state: str, values: tuple[float, ...] | None = None, rungs: Mapping[int, float] | None = None
    ) -> None:
        if index not in self._trials:
            raise ValueError(f"trial {index} was reported before it was proposed")
        before = self._trials[index]
        if before.state not in (COMPLETE, PRUNED):  # a failed trial may be trained again
            after = replace(before, state=state, values=values, rungs=rungs or {})
            self._trials[index] = after.checked(self._objectives)
            self._settled = min(self._settled, index)

    def generation_of(self, index: int) -> range:
        if not self._settings.deterministic:
            return range(index, index + 1)
        first = index - index % self._settings.generation
        return range(first, first + self._settings.generation)

    def ready(self, index: int) -> bool:
        return not self._settings.deterministic or self._settled_trials() >= self.generation_of(index).start

    def _allowed(self, index: int) -> Proposal:
        """Return a proposal that the constraints allow, drawn at random after `tries` forbidden ones."""
        trials = self._visible(index)
        for attempt in range(self.tries):
            drawn = self._draw(index, trials, stable_hash(self._settings.seed, index, attempt) % 2**32)
            if self.points.allows(drawn.params):
                return drawn
            trials = self._after_forbidden(trials, drawn.params)
        return self._at(self._random.units(index), drawn)

    def _visible(self, index: int) -> list[PastTrial]:
        """Return the trials that `index` may learn from, by index.

        In deterministic mode they end before `index`, and the results of its own generation are withheld.
        """
        if not self._settings.deterministic:
            return [self._trials[other] for other in sorted(self._trials)]
        first = self.generation_of(index).start
        return [self._trials[other] for other in range(first)] + [
            replace(self._trials[other], state=RUNNING, values=None, rungs={}) for other in range(first, index)
        ]

    def _settled_trials(self) -> int:
        """Return how many trials from the first on have ended without a gap."""
        while self._settled in self._trials and self._trials[self._settled].is_finished:
            self._settled += 1
        return self._settled


def foreign(points: Points, trials: Iterable[PastTrial]) -> list[PastTrial]:
    """Return the complete trials of other studies that are points of this space, at negative places."""
    checked = (replace(trial.checked(len(points.spec.objectives)), rungs={}, attrs={}) for trial in trials)
    fitting = [(points.fitting(trial.params), trial) for trial in checked if trial.state == COMPLETE]
    own = [replace(trial, params=params) for params, trial in fitting if params is not None]
    return [replace(trial, index=place - len(own)) for place, trial in enumerate(own)]
