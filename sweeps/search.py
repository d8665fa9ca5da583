"""Which configuration comes next: grid, random and quasi-random points, and a sampler that learns from results.

Grid, random and qmc points are functions of the study's seed and the trial's number alone, so a study killed
anywhere goes on as if it had not been. TPE is a function of these and of the results told so far.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import qmc

from .space import Dimension
from .spec import StudySpec
from .specchecks import grid_size

Space = Mapping[str, Dimension]

_FEISTEL_ROUNDS: Final = 4


class Search:
    """The trials of a study: how many, and the parameters of each.

    `history` are the trials of an earlier start. Parameters are plain values by field; `stored` and `distributions`
    are the same as Optuna keeps them.
    """

    def __init__(self, spec: StudySpec, history: Sequence[FrozenTrial] = ()) -> None:
        self._space = {name: spec.space[name] for name in sorted(spec.space)}  # the order in the file is no matter
        self._settings = spec.search
        self._sampler = _sampler(spec.search.sampler, self._space, spec.search.seed, history)

    @property
    def limit(self) -> int:
        """Number of trials to ask for altogether."""
        trials = self._settings.trials
        if self._settings.sampler != "grid":
            return int(trials or 0)
        size = grid_size(self._space)
        return size if trials is None else min(trials, size)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The dimensions as Optuna writes them."""
        return {name: kind.distribution() for name, kind in self._space.items()}

    def propose(self, number: int) -> dict[str, Any]:
        """Return the parameters of trial `number`; asked again, the same ones."""
        return self._sampler.propose(number)

    def stored(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as Optuna stores them: lists and mappings as JSON text."""
        return {name: kind.encode(params[name]) for name, kind in self._space.items()}

    def decoded(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that `stored` made of them."""
        return {name: kind.decode(stored[name]) for name, kind in self._space.items()}

    def tell(self, number: int, params: Mapping[str, Any], state: TrialState | str, value: float | None = None) -> None:
        """Report how a trial ended, for samplers that learn: COMPLETE with its objective, or FAIL."""
        state = TrialState[state] if isinstance(state, str) else state
        if state == TrialState.COMPLETE and (value is None or math.isnan(value)):
            state = TrialState.FAIL  # Optuna raises on a result that is not a number
        self._sampler.tell(number, self.stored(params), state, value if state == TrialState.COMPLETE else None)


class Sampler(ABC):
    """A rule that turns a trial's number into parameters."""

    @abstractmethod
    def propose(self, number: int) -> dict[str, Any]:
        """Return the parameters of trial `number`."""

    @abstractmethod
    def tell(self, number: int, stored: Mapping[str, Any], state: TrialState, value: float | None) -> None:
        """Learn from a finished trial, its parameters as Optuna stores them."""


class PureSampler(Sampler):
    """A sampler whose points are a function of seed and number."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def tell(self, number: int, stored: Mapping[str, Any], state: TrialState, value: float | None) -> None:
        """Learn nothing."""


@final
class Grid(PureSampler):
    """Every combination once, in an order drawn by the seed, so that any first part of it is a fair sample."""

    def propose(self, number: int) -> dict[str, Any]:
        size = grid_size(self._space)
        if not 0 <= number < size:
            raise IndexError(f"the grid has {size} combinations, so there is no trial {number}")
        index = shuffled(number, size, seed=self._seed)
        params = {}
        for name, kind in self._space.items():
            listed = kind.finite_values() or ()
            index, digit = divmod(index, len(listed))
            params[name] = listed[digit]
        return params


@final
class Random(PureSampler):
    """Independent draws, each trial from a generator of its own."""

    def propose(self, number: int) -> dict[str, Any]:
        draws = np.random.default_rng([self._seed, number]).random(len(self._space))
        return {name: kind.from_unit(float(u)) for (name, kind), u in zip(self._space.items(), draws, strict=True)}


@final
class QuasiRandom(PureSampler):
    """Scrambled Sobol points (Owen 1998), which fill the space more evenly than random ones."""

    def propose(self, number: int) -> dict[str, Any]:
        if not self._space:
            return {}
        sequence = qmc.Sobol(len(self._space), scramble=True, rng=np.random.default_rng(self._seed))
        if number:
            sequence.fast_forward(number)
        point = sequence.random(1)[0]
        return {name: kind.from_unit(float(u)) for (name, kind), u in zip(self._space.items(), point, strict=True)}


@final
class Tpe(Sampler):
    """Optuna's tree-structured Parzen estimator on a mirror of the study in memory.

    Each proposal has a sampler of its own, seeded by the study's seed and the trial's number, so that it depends on
    the trials and not on how often the process was started. Trials still training count as bad ones (constant liar),
    which keeps packs from filling with near-copies.
    """

    def __init__(self, space: Space, seed: int, history: Sequence[FrozenTrial]) -> None:
        self._space, self._seed = space, seed
        with _quiet():
            self._study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="minimize")
        for trial in sorted(history, key=lambda trial: trial.number):
            self._fill_up_to(trial.number)
            self._study.add_trial(_mirrored(trial))

    def propose(self, number: int) -> dict[str, Any]:
        trials = self._study.get_trials(deepcopy=False)
        if number < len(trials):
            if trials[number].params.keys() != self._space.keys():
                raise ValueError(f"trial {number} was passed over, and TPE goes on from the trials it has seen")
            return self._decoded(trials[number].params)
        self._fill_up_to(number)
        seed = stable_hash(self._seed, number) % 2**32
        self._study.sampler = TPESampler(seed=seed, multivariate=True, constant_liar=True)
        trial = self._study.ask(fixed_distributions={name: kind.distribution() for name, kind in self._space.items()})
        return self._decoded(trial.params)

    def tell(self, number: int, stored: Mapping[str, Any], state: TrialState, value: float | None) -> None:
        trials = self._study.get_trials(deepcopy=False)
        if number < len(trials):
            if not trials[number].state.is_finished():
                self._study.tell(number, value, state=state)
            return
        self._fill_up_to(number)
        distributions = {name: kind.distribution() for name, kind in self._space.items()}
        self._study.add_trial(create_trial(state=state, value=value, params=dict(stored), distributions=distributions))

    def _fill_up_to(self, number: int) -> None:
        """Keep the mirror's numbers those of the study where trials are missing."""
        while len(self._study.get_trials(deepcopy=False)) < number:
            self._study.add_trial(create_trial(state=TrialState.FAIL))

    def _decoded(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        return {name: kind.decode(stored[name]) for name, kind in self._space.items()}


def shuffled(index: int, size: int, *, seed: int) -> int:
    """Return where `index` lies in a permutation of range(size) drawn by `seed`, without making the permutation.

    A Feistel network permutes the next power of four; what falls outside is sent through again (Black and Rogaway
    2002, cycle walking).
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for turn in range(_FEISTEL_ROUNDS):
            left, right = right, left ^ (stable_hash(seed, turn, right) & mask)
        index = left << half_bits | right
        if index < size:
            return index


def stable_hash(*numbers: int) -> int:
    """Return a number of 64 bits that depends on `numbers` alone, on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big")


def _sampler(name: str, space: Space, seed: int, history: Sequence[FrozenTrial]) -> Sampler:
    match name:
        case "grid":
            return Grid(space, seed)
        case "random":
            return Random(space, seed)
        case "qmc":
            return QuasiRandom(space, seed)
        case "tpe":
            return Tpe(space, seed, history)
    raise ValueError(f"sampler must be one of grid, random, qmc, tpe, got {name!r}")


def _mirrored(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as TPE should see it: one that waits for its pack trains as good as already."""
    state = TrialState.RUNNING if trial.state == TrialState.WAITING else trial.state
    value = trial.value if state == TrialState.COMPLETE else None
    return create_trial(state=state, value=value, params=trial.params, distributions=trial.distributions)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a study that nobody but us sees."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
