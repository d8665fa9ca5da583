"""Samplers of Optuna that learn from results: tpe, gp and nsga2.

Each proposal has a study in memory and a sampler of its own, made from the trials told so far. Trials that still train
stand in it as RUNNING: TPE and GP take care not to repeat them (constant liar), which keeps packs from filling with
near-copies.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..states import COMPLETE, PRUNED
from .learner import Learner, foreign
from .optuna_mirror import ask, quiet, suggest
from .points import Points
from .proposals import PastTrial, Proposal

_CANDIDATES: Final = 2048  # points among which a Gaussian process looks for an allowed one


class OptunaLearner(Learner):
    """A sampler of Optuna on a mirror of the trials told.

    The trials of other studies come before this study's own: place -1 is the last of them.
    """

    def __init__(self, points: Points, *, history: Iterable[PastTrial], warm: Iterable[PastTrial]) -> None:
        super().__init__(points, history=history)
        self._warm = foreign(points, warm)
        self._frozen: dict[int, tuple[PastTrial, FrozenTrial]] = {}
        self._together = {
            name: kind for name, kind in points.distributions.items() if not (points.space[name].when or kind.single())
        }

    @abstractmethod
    def _sampler(self, told: Sequence[PastTrial], seed: int) -> BaseSampler:
        """Return a fresh sampler for one proposal."""

    def _attrs(self, sampler: Any) -> dict[str, Any]:
        """Return what must be known of a proposal beside its parameters."""
        return {}

    def _number(self, index: int) -> int:
        """Return the number in the mirror; 0 is the trial that is asked for."""
        return 1 + len(self._warm) + index

    def _visible(self, index: int) -> list[PastTrial]:
        return self._warm + super()._visible(index)

    def _draw(self, index: int, told: Sequence[PastTrial], seed: int) -> Proposal:
        space, distributions = self.points.space, self.points.distributions
        with quiet():
            sampler = self._sampler(told, seed)
            trial = ask([self._mirrored(trial) for trial in told], sampler, objectives=self._objectives)
            params = self.points.choose(lambda name: space[name].decode(suggest(trial, name, distributions[name])))
        return Proposal(params, self._attrs(sampler))

    def _mirrored(self, told: PastTrial) -> FrozenTrial:
        """Return a trial as Optuna has it, made once for each state it is in."""
        known, frozen = self._frozen.get(told.index, (None, None))
        if frozen is not None and (known is told or known == told):
            return frozen
        params = {name: self.points.space[name].encode(value) for name, value in told.params.items()}
        frozen = create_trial(
            state=TrialState[told.state] if told.is_finished else TrialState.RUNNING,
            values=told.values,
            params=params,
            distributions={name: self.points.distributions[name] for name in params},
            # for several objectives Optuna knows no intermediate values
            intermediate_values=dict(told.rungs) if told.state == PRUNED and self._objectives == 1 else {},
        )
        frozen.number = self._number(told.index)
        self._frozen[told.index] = told, frozen
        return frozen


@final
class Tpe(OptunaLearner):
    """The tree-structured Parzen estimator (Watanabe 2023), on groups of fields where some are conditional."""

    def _sampler(self, told: Sequence[PastTrial], seed: int) -> BaseSampler:
        if self.points.is_conditional:
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        return _Tpe(seed=seed, multivariate=True, constant_liar=True).within(self._together)

    def _warned(self, told: list[PastTrial], forbidden: dict[str, Any]) -> list[PastTrial]:
        """Let a forbidden proposal count as bad as the worst trial: otherwise the next try may end where it did."""
        results = [trial.values for trial in told if trial.values]
        if not results:
            return told
        worst = tuple(max(column) for column in zip(*results, strict=True))
        return [*told, PastTrial(1 + max(trial.index for trial in told), forbidden, COMPLETE, worst)]


@final
class Gp(OptunaLearner):
    """A Gaussian process and the logarithm of the expected improvement (Ament et al. 2023).

    Conditional fields are drawn at random.
    """

    tries = 20  # each takes as long as a fit

    def _sampler(self, told: Sequence[PastTrial], seed: int) -> BaseSampler:
        sampler = _Gp(seed=seed, warn_independent_sampling=False).within(self._together)
        return sampler.among(self._allows) if self.points.is_constrained else sampler

    def _allows(self, stored: Mapping[str, Any]) -> bool:
        return self.points.allows({name: self.points.space[name].decode(value) for name, value in stored.items()})


@final
class Nsga2(OptunaLearner):
    """The non-dominated sorting genetic algorithm (Deb et al. 2002).

    A generation is over when as many of its trials as the population counts have ended; a trial belongs to the
    generation it was asked in. Which parents a generation was bred from depends on what had ended when it began, so the
    first trial of each remembers them. Conditional fields are drawn at random.
    """

    def __init__(self, points: Points, *, history: Iterable[PastTrial], warm: Iterable[PastTrial]) -> None:
        super().__init__(points, history=history, warm=warm)
        self._parents: dict[int, list[int]] = {}
        for trial in self._told.values():
            self._remember(trial.attrs)

    def propose(self, index: int) -> Proposal:
        proposal = super().propose(index)
        self._remember(proposal.attrs)
        return proposal

    def _remember(self, attrs: Mapping[str, Any]) -> None:
        if "parents" in attrs:
            self._parents[attrs["generation"]] = [self._number(index) for index in attrs["parents"]]

    def _sampler(self, told: Sequence[PastTrial], seed: int) -> BaseSampler:
        born = {self._number(trial.index): int(trial.attrs.get("generation", 0)) for trial in told}
        newest = max(born.values(), default=0)
        ended = sum(trial.is_finished and born[self._number(trial.index)] == newest for trial in told)
        size = self._settings.generation
        sampler = _Nsga2(population_size=size, seed=seed).within(self._together)
        return sampler.bred(newest + (ended >= size), born, dict(self._parents))

    def _attrs(self, sampler: Any) -> dict[str, Any]:
        generation, first = sampler.generation, self._number(0)
        if generation == 0 or generation in self._parents:
            return {"generation": generation}
        return {"generation": generation, "parents": [number - first for number in sampler.parents[generation]]}


class _Within(BaseSampler):
    """A sampler that is told which fields it draws together, and need not find out from all trials."""

    _fields: dict[str, BaseDistribution]

    def within(self, fields: dict[str, BaseDistribution]) -> Self:
        """Return this sampler for these fields."""
        self._fields = fields
        return self

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._fields


class _Tpe(_Within, TPESampler): ...


class _Gp(_Within, GPSampler):
    """The Gaussian process of Optuna, made to look for its best point among the allowed ones."""

    _allows: Callable[[Mapping[str, Any]], bool] | None = None

    def among(self, allows: Callable[[Mapping[str, Any]], bool]) -> Self:
        """Return this sampler for points that `allows` accepts, given parameters as Optuna stores them."""
        self._allows = allows
        return self

    def _optimize_acqf(self, acqf: Any, best_params: Any) -> Any:
        """Return the best point; where that is forbidden, the best of many allowed ones (Optuna: "users can override
        this method"). A version without it asks in vain until a point is drawn at random."""
        best, allows = super()._optimize_acqf(acqf, best_params), self._allows
        if allows is None or allows(acqf.search_space.get_unnormalized_param(best)):
            return best
        drawn = acqf.search_space.sample_normalized_params(_CANDIDATES, self._rng.rng)
        allowed = [point for point in drawn if allows(acqf.search_space.get_unnormalized_param(point))]
        return allowed[int(np.argmax(acqf.eval_acqf_no_grad(np.array(allowed))))] if allowed else best


class _Nsga2(_Within, NSGAIISampler):
    """NSGA-II that is given its generations instead of keeping them in the attributes of a study."""

    def bred(self, generation: int, born: Mapping[int, int], parents: dict[int, list[int]]) -> Self:
        """Return this sampler for a trial of a generation, with that of every trial and the parents known so far."""
        self.generation, self._born, self.parents = generation, born, parents
        return self

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return self.generation

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in complete if self._born[trial.number] == generation]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        if generation == 0:
            return []
        if generation not in self.parents:
            self.parents[generation] = sorted(trial.number for trial in self.select_parent(study, generation))
        complete = {trial.number: trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
        return [complete[number] for number in self.parents[generation] if number in complete]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if len(self.get_parent_population(study, self.generation)) < 2:  # a child has two
            return {}
        return super().sample_relative(study, trial, search_space)
