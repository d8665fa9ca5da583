"""The database of a study, with the tables of an Optuna RDB storage, so that any Optuna tool can open it.

A trial is entered as WAITING, in one transaction with all its parameters. It is RUNNING only while a pack trains it;
then COMPLETE, PRUNED or FAIL, which is final. Optuna creates the tables and checks their version. The statements are
our own: one transaction a call, and none scans the existing trials.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json

from ..errors import StudyError
from ..states import FINISHED, STATES
from . import database as databases
from . import optuna_reader
from .database import Database, explained
from .optuna_reader import TrialRecord

FENCE, HOLDER = "fence", "holder"  # attributes of the study: the writer, by number and in words
PATIENCE_S = 10.0  # how long a server may take to notice that a writer has ended

_UPSERT_ATTRIBUTE = (
    "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (?, ?, ?) "
    "ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json"
)


class Ledger:
    """One study, by name, in one database. Opening an existing one changes nothing; `take` makes this its only writer.

    `create` creates database and study where they are missing; `objectives` is their number in a new study, all to be
    minimised.
    Raises `StudyError` where the database is missing, damaged, not Optuna's, or holds no such study.
    """

    def __init__(self, where: Database, name: str, *, create: bool = False, objectives: int = 1) -> None:
        if create:
            _create(where, name, objectives)
        self._connection = databases.connect(where)
        try:
            optuna_reader.refuse_damaged(self._connection)
            self.study_id = optuna_reader.study_id(self._connection, name)
            if not create:
                _refuse_other_optuna(where)
            trials = self._connection.rows(
                "SELECT number, trial_id FROM trials WHERE study_id = ? ORDER BY trial_id", self.study_id
            )
            self.objectives = len(
                self._connection.rows("SELECT objective FROM study_directions WHERE study_id = ?", self.study_id)
            )
        except BaseException:
            self._connection.close()
            raise
        self._ids = [int(trial_id) for _, trial_id in trials]  # trial_id by number; fixed once entered
        self._fence: int | None = None
        if [number for number, _ in trials] != list(range(len(trials))):
            self.close()
            raise StudyError(
                f"{where.label}: the trials are not numbered 0, 1, 2 and so on: another program has written to it. "
                "Restore it, or start a study with another name"
            )

    def __len__(self) -> int:
        """Return the number of trials entered."""
        return len(self._ids)

    @property
    def database(self) -> Database:
        """Return the database."""
        return self._connection.database

    def take(self, holder: str, *, clock: Callable[[], float] = time.monotonic) -> int:
        """Become the only writer: earlier writers are refused from now on. Return the number of this writer.

        `holder` names the writer in words. Raises `StudyError` where a writer on the same server still holds the study,
        and where SQLite would keep a write-ahead log, which network file systems cannot share.
        """
        if self.database.is_shared:
            deadline = clock() + PATIENCE_S
            while not self._connection.rows("SELECT pg_try_advisory_lock(?, ?)", _LOCK_CLASS, self.study_id)[0][0]:
                if clock() > deadline:
                    other = self.attributes().get(HOLDER, "another process")
                    raise StudyError(
                        f"the study in {self.database.label} is being run by {other}. Wait for it or stop it: "
                        "a study has only one driver"
                    )
                time.sleep(0.2)
        else:
            self._connection.run("PRAGMA synchronous = FULL")
            mode = self._connection.rows("PRAGMA journal_mode = DELETE")[0][0]
            if mode != "delete":
                raise StudyError(
                    f"{self.database.label} keeps its journal as {mode!r}, which two machines cannot share. Close "
                    "every program that has it open and run the study again: that switches it back"
                )
        self._fence = None
        with self.transaction():
            fence = int(self.attributes().get(FENCE, 0)) + 1
            self.set_attributes({FENCE: fence, HOLDER: holder})
        self._fence = fence
        return fence

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes inside together, or none; a nested transaction is part of the outer one.

        Raises `StudyError` where another writer has taken the study.
        """
        with self._connection.lock:
            entered, is_outer = len(self._ids), not self._connection.in_transaction
            try:
                with self._connection.transaction():
                    if is_outer:
                        self._refuse_fenced()
                    yield
            except BaseException:  # also where the commit fails
                del self._ids[entered:]
                raise

    def records(self) -> list[TrialRecord]:
        """Return every trial, in the order of their numbers."""
        return optuna_reader.read(self._connection, self.study_id)

    def enter(
        self,
        number: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        system_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter a trial with all its parameters, WAITING. Raises `StudyError` where its number is not the next one."""
        stored = [
            (name, float(distributions[name].to_internal_repr(value)), distribution_to_json(distributions[name]))
            for name, value in params.items()
        ]
        with self.transaction():
            last = self._connection.rows(
                "SELECT trial_id FROM trials WHERE study_id = ? ORDER BY trial_id DESC LIMIT 1", self.study_id
            )
            if number != len(self._ids) or [row[0] for row in last] != self._ids[-1:]:
                raise StudyError(
                    f"trial {number} could not be entered under its number into {self.database.label}: another "
                    "program writes to it. Close that program and run the study again"
                )
            ((trial_id,),) = self._connection.rows(
                "INSERT INTO trials (number, study_id, state) VALUES (?, ?, 'WAITING') RETURNING trial_id",
                number,
                self.study_id,
            )
            self._connection.run_many(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
                [(trial_id, *row) for row in stored],
            )
            for table, values in (
                ("trial_user_attributes", attributes),
                ("trial_system_attributes", system_attributes or {}),
            ):
                self._connection.run_many(
                    f"INSERT INTO {table} (trial_id, key, value_json) VALUES (?, ?, ?)",
                    [(trial_id, key, json.dumps(value)) for key, value in values.items()],
                )
            self._ids.append(int(trial_id))

    def mark(self, number: int, state: str, values: Sequence[float] | None = None) -> None:
        """Set a trial's state, with its objectives where it is COMPLETE.

        Raises `StudyError` for a finished trial, `ValueError` for an unknown state and for values that do not fit it.
        """
        if state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {state!r}")
        if len(values or ()) != (self.objectives if state == "COMPLETE" else 0):
            raise ValueError(f"COMPLETE, and nothing else, has {self.objectives} values, got {state} with {values}")
        if any(math.isnan(value) for value in values or ()):
            raise ValueError(f"the values of trial {number} must be numbers, got {values}")
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")
        started = None if state == "WAITING" else now
        with self.transaction():
            trial_id = self._unfinished(number)
            self._connection.run(
                "UPDATE trials SET state = ?, datetime_start = COALESCE(datetime_start, ?), datetime_complete = ? "
                "WHERE trial_id = ?",
                state,
                started,
                now if state in FINISHED else None,
                trial_id,
            )
            self._connection.run_many(
                "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, ?)",
                [(trial_id, index, *_stored(value)) for index, value in enumerate(values or ())],
            )

    def log_rung(self, number: int, rung: int, value: float) -> None:
        """Store an intermediate value of an unfinished trial; the last one at a rung counts."""
        with self.transaction():
            trial_id = self._unfinished(number)
            self._connection.run(
                "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
                "VALUES (?, ?, ?, ?) ON CONFLICT (trial_id, step) DO UPDATE SET "
                "intermediate_value = excluded.intermediate_value, "
                "intermediate_value_type = excluded.intermediate_value_type",
                trial_id,
                rung,
                *_stored(value),
            )

    def annotate(self, number: int, key: str, value: Any) -> None:
        """Set a user attribute of an unfinished trial."""
        with self.transaction():
            trial_id = self._unfinished(number)
            self._connection.run(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?) "
                "ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json",
                trial_id,
                key,
                json.dumps(value),
            )

    def attributes(self) -> dict[str, Any]:
        """Return the user attributes of the study."""
        return optuna_reader.attributes(self._connection, self.study_id)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set a user attribute of the study."""
        self.set_attributes({name: value})

    def set_attributes(self, values: Mapping[str, Any]) -> None:
        """Set several user attributes of the study in one transaction."""
        with self.transaction():
            self._connection.run_many(
                _UPSERT_ATTRIBUTE, [(self.study_id, name, json.dumps(value)) for name, value in values.items()]
            )

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        return optuna_reader.counts(self._connection, self.study_id)

    def best(self) -> tuple[int, tuple[float, ...], dict[str, Any]] | None:
        """Return number, values and stored parameters of the complete trial with the lowest first objective."""
        return optuna_reader.best(self._connection, self.study_id)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _unfinished(self, number: int) -> int:
        """Return the trial_id of a trial. Raises `StudyError` where it is finished or gone."""
        if not 0 <= number < len(self._ids):
            raise ValueError(f"there is no trial {number}: {len(self._ids)} are entered")
        rows = self._connection.rows("SELECT state FROM trials WHERE trial_id = ?", self._ids[number])
        if not rows or rows[0][0] in FINISHED:
            raise StudyError(
                f"trial {number} is {rows[0][0] if rows else 'gone'} in {self.database.label} and cannot be changed "
                "any more: another program writes to it. Close that program and run the study again"
            )
        return self._ids[number]

    def _refuse_fenced(self) -> None:
        """Raise `StudyError` where another writer has taken the study."""
        if self._fence is None:
            return
        fences = self._connection.rows(
            "SELECT value_json FROM study_user_attributes WHERE study_id = ? AND key = ?", self.study_id, FENCE
        )
        if not fences or json.loads(fences[0][0]) != self._fence:
            other = self.attributes().get(HOLDER, "another process")
            raise StudyError(
                f"the study in {self.database.label} was taken over by {other}: nothing more is written here. "
                "Let that one continue, or stop it and run the study again"
            )


_LOCK_CLASS = 0x70696E6E  # of advisory locks: "pinn"


def _stored(value: float) -> tuple[float | None, str]:
    """Return a number as Optuna stores it."""
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return float(value), "FINITE"


def _create(where: Database, name: str, objectives: int) -> None:
    """Create the tables and the study in them with Optuna, where they are missing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if where.file is not None:
        where.file.parent.mkdir(parents=True, exist_ok=True)
    with _storage(where) as storage:
        optuna.create_study(storage=storage, study_name=name, load_if_exists=True, directions=["minimize"] * objectives)


def _refuse_other_optuna(where: Database) -> None:
    """Raise `StudyError` where the tables are of another version of Optuna than the one installed."""
    with _storage(where, skip_table_creation=True):
        pass


@contextlib.contextmanager
def _storage(where: Database, **options: Any) -> Iterator[Any]:
    from optuna.storages import RDBStorage

    if where.is_shared:
        databases.connect(where).close()  # gives better errors
    settings = {} if where.is_shared else {"connect_args": {"timeout": databases.TIMEOUT_S}}
    with explained(where):
        try:
            storage = RDBStorage(where.url, engine_kwargs=settings, **options)
        except RuntimeError as problem:
            raise StudyError(f"{where.label}: {' '.join(str(problem).split())}") from None
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
