"""The study's memory: an Optuna RDB storage, so that any Optuna tool opens it.

A trial enters in one transaction with all its parameters, WAITING; it is RUNNING only while a pack really trains it;
then COMPLETE or FAIL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from .errors import StudyError

FILE = "study.db"
PACK, MEMBER, SEED, WINDOW = "pack", "member", "seed", "window"  # user attributes of a trial


class Ledger:
    """One Optuna study by name in one database."""

    def __init__(self, study_dir: Path, name: str, *, create: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._file = study_dir / FILE
        if not create and not (self._file.is_file() and self._file.stat().st_size):
            raise StudyError(f"{self._file} is missing or empty: restore it, or start a study of another name")
        with self._explained():
            url = f"sqlite:///{quote(str(self._file))}"
            self._storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
            if create:
                study = optuna.create_study(
                    storage=self._storage, study_name=name, load_if_exists=True, direction="minimize"
                )
            else:
                study = optuna.load_study(storage=self._storage, study_name=name)
        self.study_id = study._study_id

    def trials(self) -> list[FrozenTrial]:
        """Every trial by number."""
        with self._explained():
            return self._storage.get_all_trials(self.study_id, deepcopy=False)

    def create(
        self,
        number: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> None:
        """Enter a trial whole, WAITING; its number must be the next one."""
        template = create_trial(
            state=TrialState.WAITING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
        )
        with self._explained():
            trial_id = self._storage.create_new_trial(self.study_id, template_trial=template)
            entered = self._storage.get_trial_number_from_id(trial_id)
        if entered != number:
            raise StudyError(
                f"trial {number} could not be entered under its number: another process writes to the study's database"
            )

    def mark(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Set a trial's state; telling a finished trial again is refused by Optuna."""
        with self._explained():
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
            self._storage.set_trial_state_values(trial_id, state, None if value is None else [value])

    def attributes(self) -> dict[str, Any]:
        """User attributes of the study."""
        with self._explained():
            return self._storage.get_study_user_attrs(self.study_id)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set a user attribute of the study."""
        with self._explained():
            self._storage.set_study_user_attr(self.study_id, name, value)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the file where the database cannot be used."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError, RuntimeError, KeyError) as problem:
            raise StudyError(
                f"{self._file} cannot be used as the study's database ({_first_line(problem)}). "
                "Restore it, or start a study of another name"
            ) from None

    def close(self) -> None:
        """Let the database go."""
        self._storage.remove_session()
        self._storage.engine.dispose()


def counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Number of trials in each state that this service uses."""
    states = [trial.state.name for trial in trials]
    return {state: states.count(state) for state in ("COMPLETE", "FAIL", "RUNNING", "WAITING")}


def best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial of the lowest value, the earliest of equals."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)
