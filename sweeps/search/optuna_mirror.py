"""An in-memory study of Optuna that shows trials to a sampler and asks it for one more."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Container, Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState


def ask(trials: Sequence[FrozenTrial], sampler: BaseSampler, *, objectives: int) -> Trial:
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


def suggest(trial: Trial, name: str, distribution: Any) -> Any:
    """Return the value that a trial chooses for a field within a distribution."""
    match distribution:
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_categorical(name, distribution.choices)


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
