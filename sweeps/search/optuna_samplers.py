"""Samplers of Optuna that learn from results: tpe, gp and nsga2.

Each proposal has its own in-memory study and sampler, built from the past trials. Trials that still train are RUNNING
in it: TPE and GP avoid repeating them (constant liar), so that packs do not fill with near-copies.
"""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ..spec.samplers import SAMPLERS
from ..spec.study_spec import StudySpec
from ..states import COMPLETE, PRUNED
from .learner import Learner, foreign
from .proposals import PastTrial, Proposal

_CANDIDATES: Final = 2048  # random points among which a Gaussian process looks for an allowed one


class OptunaLearner(Learner):
    """A sampler of Optuna on a mirror of the past trials.

    The trials of other studies come before those of this study; the last of them is at place -1.
    """

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        super().__init__(spec, history)
        self._warm = foreign(self.points, warm)
        self._frozen: dict[int, tuple[PastTrial, FrozenTrial]] = {}
        self._joint = {
            name: kind
            for name, kind in self.points.distributions.items()
            if not (self.points.space[name].when or kind.single())
        }

    @abstractmethod
    def _sampler(self, trials: Sequence[PastTrial], seed: int) -> BaseSampler:
        """Return a new sampler for one proposal."""

    def _attrs(self, sampler: Any) -> dict[str, Any]:
        """Return what is stored with a proposal in addition to its parameters."""
        return {}

    def _number(self, index: int) -> int:
        """Return the number of a trial in the mirror, where 0 is the new trial."""
        return 1 + len(self._warm) + index

    def _visible(self, index: int) -> list[PastTrial]:
        return self._warm + super()._visible(index)

    def _draw(self, index: int, trials: Sequence[PastTrial], seed: int) -> Proposal:
        space, distributions = self.points.space, self.points.distributions
        with quiet():
            sampler = self._sampler(trials, seed)
            trial = _ask([self._mirrored(past) for past in trials], sampler, objectives=self._objectives)
            params = self.points.choose(lambda name: space[name].decode(_suggest(trial, name, distributions[name])))
        return Proposal(params, self._attrs(sampler))

    def _mirrored(self, trial: PastTrial) -> FrozenTrial:
        """Return a trial as Optuna has it, built once for each state of the trial."""
        before, frozen = self._frozen.get(trial.index, (None, None))
        if frozen is not None and (before is trial or before == trial):
            return frozen
        params = {name: self.points.space[name].encode(value) for name, value in trial.params.items()}
        frozen = create_trial(
            state=TrialState[trial.state] if trial.is_finished else TrialState.RUNNING,
            values=trial.values,
            params=params,
            distributions={name: self.points.distributions[name] for name in params},
            # Optuna has no intermediate values for several objectives
            intermediate_values=dict(trial.rungs) if trial.state == PRUNED and self._objectives == 1 else {},
        )
        frozen.number = self._number(trial.index)
        self._frozen[trial.index] = trial, frozen
        return frozen


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages and warnings of Optuna about its studies and experimental features."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@final
class Tpe(OptunaLearner):
    """The tree-structured Parzen estimator (Watanabe 2023), on groups of fields where some are conditional."""

    traits = SAMPLERS["tpe"]

    def _sampler(self, trials: Sequence[PastTrial], seed: int) -> BaseSampler:
        if self.points.is_conditional:
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        return _Tpe(seed=seed, multivariate=True, constant_liar=True).within(self._joint)

    def _after_forbidden(self, trials: list[PastTrial], forbidden: dict[str, Any]) -> list[PastTrial]:
        """Return the trials with the forbidden proposal as bad as the worst, so that the next try goes elsewhere."""
        results = [trial.values for trial in trials if trial.values]
        if not results:
            return trials
        worst = tuple(max(column) for column in zip(*results, strict=True))
        return [*trials, PastTrial(1 + max(trial.index for trial in trials), forbidden, COMPLETE, worst)]


@final
class Gp(OptunaLearner):
    """A Gaussian process and the logarithm of the expected improvement (Ament et al. 2023).

    Conditional fields are drawn at random.
    """

    traits = SAMPLERS["gp"]
    tries = 20  # every try fits the process again

    def _sampler(self, trials: Sequence[PastTrial], seed: int) -> BaseSampler:
        sampler = _Gp(seed=seed, warn_independent_sampling=False).within(self._joint)
        return sampler.among(self._allows) if self.points.is_constrained else sampler

    def _allows(self, stored: Mapping[str, Any]) -> bool:
        return self.points.allows({name: self.points.space[name].decode(value) for name, value in stored.items()})


@final
class Nsga2(OptunaLearner):
    """The non-dominated sorting genetic algorithm (Deb et al. 2002).

    A generation is over when as many of its trials have ended as the population has members; a trial belongs to the
    generation in which it was proposed. The parents of a generation depend on the trials that had ended when it began,
    so its first trial stores them. Conditional fields are drawn at random.
    """

    traits = SAMPLERS["nsga2"]

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        super().__init__(spec, history, warm)
        self._parents: dict[int, list[int]] = {}
        for trial in self._trials.values():
            self._remember(trial.attrs)

    def propose(self, index: int) -> Proposal:
        proposal = super().propose(index)
        self._remember(proposal.attrs)
        return proposal

    def _remember(self, attrs: Mapping[str, Any]) -> None:
        if "parents" in attrs:
            self._parents[attrs["generation"]] = [self._number(index) for index in attrs["parents"]]

    def _sampler(self, trials: Sequence[PastTrial], seed: int) -> BaseSampler:
        generations = {self._number(trial.index): int(trial.attrs.get("generation", 0)) for trial in trials}
        newest = max(generations.values(), default=0)
        ended = sum(trial.is_finished and generations[self._number(trial.index)] == newest for trial in trials)
        size = self._settings.generation
        sampler = _Nsga2(population_size=size, seed=seed).within(self._joint)
        return sampler.of_generation(newest + (ended >= size), generations, dict(self._parents))

    def _attrs(self, sampler: Any) -> dict[str, Any]:
        generation, first = sampler.generation, self._number(0)
        if generation == 0 or generation in self._parents:
            return {"generation": generation}
        return {"generation": generation, "parents": [number - first for number in sampler.parents[generation]]}


def _ask(trials: Sequence[FrozenTrial], sampler: BaseSampler, *, objectives: int) -> Trial:
    """Return a new trial of a sampler that has seen `trials`, whose numbers must not be 0."""
    return optuna.create_study(storage=_Mirror(trials), sampler=sampler, directions=["minimize"] * objectives).ask()


class _Mirror(InMemoryStorage):
    """A storage that shows the trials it was created with, without the new one."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._shown = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._shown if states is None or trial.state in states]


def _suggest(trial: Trial, name: str, distribution: Any) -> Any:
    """Return the value that a trial chooses for a field within a distribution."""
    match distribution:
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_categorical(name, distribution.choices)


class _Within(BaseSampler):
    """A sampler that is given the fields it draws jointly, instead of inferring them from all trials."""

    _fields: dict[str, BaseDistribution]

    def within(self, fields: dict[str, BaseDistribution]) -> Self:
        """Return this sampler, with the fields it draws jointly."""
        self._fields = fields
        return self

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._fields


class _Tpe(_Within, TPESampler): ...


class _Gp(_Within, GPSampler):
    """The Gaussian process of Optuna, which looks for its best point among the allowed ones."""

    _allows: Callable[[Mapping[str, Any]], bool] | None = None

    def among(self, allows: Callable[[Mapping[str, Any]], bool]) -> Self:
        """Return this sampler, restricted to points for whose parameters, as Optuna stores them, `allows` is true."""
        self._allows = allows
        return self

    def _optimize_acqf(self, acqf: Any, best_params: Any) -> Any:
        """Return the best point or, where it is forbidden, the best of many allowed ones.

        Optuna: "users can override this method". In a version of Optuna without it, forbidden points are drawn until
        the tries are used up.
        """
        best, allows = super()._optimize_acqf(acqf, best_params), self._allows
        if allows is None or allows(acqf.search_space.get_unnormalized_param(best)):
            return best
        drawn = acqf.search_space.sample_normalized_params(_CANDIDATES, self._rng.rng)
        allowed = [point for point in drawn if allows(acqf.search_space.get_unnormalized_param(point))]
        return allowed[int(np.argmax(acqf.eval_acqf_no_grad(np.array(allowed))))] if allowed else best


class _Nsga2(_Within, NSGAIISampler):
    """NSGA-II that is given its generations instead of keeping them in the attributes of a study."""

    def of_generation(self, generation: int, generations: Mapping[int, int], parents: dict[int, list[int]]) -> Self:
        """Return this sampler for a trial of `generation`, the generations of all trials and the parents so far."""
        self.generation, self._generations, self.parents = generation, generations, parents
        return self

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return self.generation

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in complete if self._generations[trial.number] == generation]

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
        if len(self.get_parent_population(study, self.generation)) < 2:  # a child needs two parents
            return {}
        return super().sample_relative(study, trial, search_space)
