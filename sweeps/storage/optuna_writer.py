"""The study's memory: the tables of an Optuna RDB storage, so that any Optuna tool opens it.

A trial enters in one transaction with all its parameters, WAITING; it is RUNNING only while a pack really trains it;
then COMPLETE, PRUNED or FAIL, for good. Optuna makes the tables and says whether it knows their form; the statements
are our own, one transaction a call, and none looks through the trials that are there.
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
from . import database as states
from . import optuna_reader
from .database import Database, explained
from .optuna_reader import TrialRecord

FENCE, HOLDER = "fence", "holder"  # attributes of the study: who may write, by number and in words
PATIENCE_S = 10.0  # how long a server may take to notice that a writer is gone

_UPSERT_ATTRIBUTE = (
    "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (?, ?, ?) "
    "ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json"
)


class Ledger:
    """One study by name in one database; opening an existing one changes nothing, `take` makes this its only writer.

    `create` makes database and study where they are not there; `objectives`, all made small, are those of a new study.
    Raises `StudyError` where the database is missing, damaged, not Optuna's, or holds no such study.
    """

    def __init__(self, where: Database, name: str, *, create: bool = False, objectives: int = 1) -> None:
        if create:
            _make(where, name, objectives)
        self._connection = states.connect(where)
        try:
            optuna_reader.refuse_damaged(self._connection)
            self.study_id = optuna_reader.study_id(self._connection, name)
            if not create:
                _refuse_other_form(where)
            found = self._connection.rows(
                "SELECT number, trial_id FROM trials WHERE study_id = ? ORDER BY trial_id", self.study_id
            )
            self.objectives = len(
                self._connection.rows("SELECT objective FROM study_directions WHERE study_id = ?", self.study_id)
            )
        except BaseException:
            self._connection.close()
            raise
        self._ids = [int(trial_id) for _, trial_id in found]  # the trial_id of a number; fixed once entered
        self._fence: int | None = None
        if [number for number, _ in found] != list(range(len(found))):
            self.close()
            raise StudyError(
                f"{where.label}: the trials are not numbered 0, 1, 2 and so on: another program has written to it. "
                "Restore it, or start a study of another name"
            )

    def __len__(self) -> int:
        """Number of trials entered."""
        return len(self._ids)

    @property
    def database(self) -> Database:
        """Where it lies."""
        return self._connection.database

    def take(self, holder: str, *, clock: Callable[[], float] = time.monotonic) -> int:
        """Become the only writer: whoever wrote before is refused from now on. Returns the number of this taking.

        `holder` is who takes it, in words. Raises `StudyError` where a writer on the same server still holds it, or
        where SQLite would keep a write-ahead log, which network file systems cannot share.
        """
        if self.database.is_shared:
            deadline = clock() + PATIENCE_S
            while not self._connection.rows("SELECT pg_try_advisory_lock(?, ?)", _LOCK_CLASS, self.study_id)[0][0]:
                if clock() > deadline:
                    by = self.attributes().get(HOLDER, "another process")
                    raise StudyError(
                        f"the study in {self.database.label} is being run by {by}. Wait for it or stop it: "
                        "a study has one driver"
                    )
                time.sleep(0.2)
        else:
            self._connection.run("PRAGMA synchronous = FULL")
            mode = self._connection.rows("PRAGMA journal_mode = DELETE")[0][0]
            if mode != "delete":
                raise StudyError(
                    f"{self.database.label} keeps its journal as {mode!r}, which two machines cannot share. Close "
                    "every program that has it open and run the study again: it is switched back then"
                )
        self._fence = None
        with self.transaction():
            fence = int(self.attributes().get(FENCE, 0)) + 1
            self.set_attributes({FENCE: fence, HOLDER: holder})
        self._fence = fence
        return fence

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are made together, or none; one inside another is part of it.

        Raises `StudyError` where another writer has taken the study.
        """
        with self._connection.lock:
            entered, is_outer = len(self._ids), not self._connection.in_transaction
            try:
                with self._connection.transaction():
                    if is_outer:
                        self._refuse_fenced()
                    yield
            except BaseException:  # a commit that fails among them
                del self._ids[entered:]
                raise

    def records(self) -> list[TrialRecord]:
        """Every trial by number."""
        return optuna_reader.read(self._connection, self.study_id)

    def enter(
        self,
        number: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        system_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter a trial whole, WAITING; its number must be the next one."""
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
            for table, given in (
                ("trial_user_attributes", attributes),
                ("trial_system_attributes", system_attributes or {}),
            ):
                self._connection.run_many(
                    f"INSERT INTO {table} (trial_id, key, value_json) VALUES (?, ?, ?)",
                    [(trial_id, key, json.dumps(value)) for key, value in given.items()],
                )
            self._ids.append(int(trial_id))

    def mark(self, number: int, state: str, values: Sequence[float] | None = None) -> None:
        """Set a trial's state, with its objectives where it is COMPLETE. Raises `StudyError` for a finished trial."""
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
        """Keep an intermediate value of an unfinished trial; the last one at a rung counts."""
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
        """User attributes of the study."""
        return optuna_reader.attributes(self._connection, self.study_id)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set a user attribute of the study."""
        self.set_attributes({name: value})

    def set_attributes(self, values: Mapping[str, Any]) -> None:
        """Set user attributes of the study together."""
        with self.transaction():
            self._connection.run_many(
                _UPSERT_ATTRIBUTE, [(self.study_id, name, json.dumps(value)) for name, value in values.items()]
            )

    def counts(self) -> dict[str, int]:
        """Number of trials in each state."""
        return optuna_reader.counts(self._connection, self.study_id)

    def best(self) -> tuple[int, tuple[float, ...], dict[str, Any]] | None:
        """Number, values and stored parameters of the complete trial of the lowest first objective."""
        return optuna_reader.best(self._connection, self.study_id)

    def close(self) -> None:
        """Let the database go."""
        self._connection.close()

    def _unfinished(self, number: int) -> int:
        """The trial_id of a trial that can still be told."""
        if not 0 <= number < len(self._ids):
            raise ValueError(f"there is no trial {number}: {len(self._ids)} are entered")
        found = self._connection.rows("SELECT state FROM trials WHERE trial_id = ?", self._ids[number])
        if not found or found[0][0] in FINISHED:
            raise StudyError(
                f"trial {number} is {found[0][0] if found else 'gone'} in {self.database.label} and cannot be told "
                "again: another program writes to it. Close that program and run the study again"
            )
        return self._ids[number]

    def _refuse_fenced(self) -> None:
        """Refuse to write once another writer has taken the study."""
        if self._fence is None:
            return
        held = self._connection.rows(
            "SELECT value_json FROM study_user_attributes WHERE study_id = ? AND key = ?", self.study_id, FENCE
        )
        if not held or json.loads(held[0][0]) != self._fence:
            by = self.attributes().get(HOLDER, "another process")
            raise StudyError(
                f"the study in {self.database.label} was taken over by {by}: nothing more is written here. "
                "Let that one go on, or stop it and run the study again"
            )


_LOCK_CLASS = 0x70696E6E  # of advisory locks: "pinn"


def _stored(value: float) -> tuple[float | None, str]:
    """A number as Optuna keeps it."""
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return float(value), "FINITE"


def _make(where: Database, name: str, objectives: int) -> None:
    """Let Optuna make what is not there: the tables, and the study in them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if where.file is not None:
        where.file.parent.mkdir(parents=True, exist_ok=True)
    with _storage(where) as storage:
        optuna.create_study(storage=storage, study_name=name, load_if_exists=True, directions=["minimize"] * objectives)


def _refuse_other_form(where: Database) -> None:
    """Raise `StudyError` where the tables are of another version of Optuna than the one installed."""
    with _storage(where, skip_table_creation=True):
        pass


@contextlib.contextmanager
def _storage(where: Database, **options: Any) -> Iterator[Any]:
    from optuna.storages import RDBStorage

    if where.is_shared:
        states.connect(where).close()  # its errors are the better ones
    settings = {} if where.is_shared else {"connect_args": {"timeout": states.TIMEOUT_S}}
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
