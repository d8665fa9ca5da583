"""Optuna's tables: the study and its trials, with every SQL statement on these tables.

Optuna creates the tables, so that any Optuna tool can open a study. The statements are our own: a change is one
transaction with the check that this writer still holds the study, and none scans the existing trials. Optuna's storage
API has no such check, and to enter, start and complete 500 trials takes it 14.0 ms a trial, these statements 3.2 ms
(Optuna 5.0, SQLite on a local disk). Optuna is imported only to write, as it takes a second.

A trial is entered as WAITING, with all its parameters. It is RUNNING only while a pack trains it; then COMPLETE, PRUNED
or FAIL, which is final.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from ..errors import StudyError
from ..states import COMPLETE, FINISHED, STATES, WAITING
from . import database as databases
from .database import Connection, Database, explained

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

REVISIONS: Final = ("v3.2.0.a",)  # of the tables, in the words of Optuna's migrations; Optuna 3.2 to 5.0 have this one
FENCE, HOLDER = "fence", "holder"  # attributes of the study: the writer, by number and in words
PATIENCE_S = 10.0  # how long a server may take to notice that a writer has ended
_LOCK_CLASS: Final = 0x70696E6E  # of advisory locks: "pinn"
_NOT_FINITE: Final = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}  # numbers that Optuna stores as words


@dataclass(slots=True)
class TrialRecord:
    """A trial in the database.

    `params` are as Optuna stores them, `distributions` the JSON text of each; `rungs` the intermediate values by step.
    """

    trial_id: int
    number: int
    state: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, str] = field(default_factory=dict)
    values: tuple[float, ...] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    system_attributes: dict[str, Any] = field(default_factory=dict)
    rungs: dict[int, float] = field(default_factory=dict)
    logged: dict[int, int] = field(default_factory=dict)  # by rung: a number that grows with every rung logged

    @property
    def plain_params(self) -> dict[str, Any]:
        """Return the parameters as a study file has them; Optuna stores lists and mappings as JSON text."""
        return {name: _plain(value) for name, value in self.params.items()}


class StudyReader:
    """One study, by name, in an open database; a context manager that closes it. Nothing is changed.

    With `check` the whole file of an SQLite database is checked first. Raises `StudyError` where the database is
    missing, damaged or of an unknown version of Optuna, or holds no such study.
    """

    def __init__(self, where: Database, name: str, *, check: bool = False) -> None:
        self.name = name
        self._connection = databases.connect(where)
        try:
            if check:
                _refuse_damaged(self._connection)
            study_id = _study_id(self._connection, name)
            if study_id is None:
                raise StudyError(
                    f"{where.label} holds no study {name!r}: restore it, set `state` back to where the database is, "
                    "or start a study with another name"
                )
            _refuse_other_version(self._connection)
        except BaseException:
            self.close()
            raise
        self.study_id = study_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def database(self) -> Database:
        """Return the database."""
        return self._connection.database

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def attributes(self) -> dict[str, Any]:
        """Return the user attributes of the study."""
        return _attributes(self._connection, self.study_id)

    def records(self, *, number: int | None = None, after: int = -1) -> list[TrialRecord]:
        """Return the trials whose trial_id is greater than `after`, or only the one with a `number`, in order."""
        only = "" if number is None else f" AND number = {number:d}"
        with self._connection.snapshot():
            rows = self._connection.rows(
                "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials "
                f"WHERE study_id = ? AND trial_id > ?{only} ORDER BY number",
                self.study_id,
                after,
            )
            trials = {row[0]: TrialRecord(row[0], row[1], row[2], _time(row[3]), _time(row[4])) for row in rows}

            def rows_of(table: str, columns: str, order: str) -> list[tuple[Any, ...]]:
                sql = f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN (SELECT trial_id FROM trials "
                sql += f"WHERE study_id = ? AND trial_id BETWEEN ? AND ?) ORDER BY trial_id, {order}"
                return self._connection.rows(sql, self.study_id, min(trials), max(trials)) if trials else []

            columns = "param_name, param_value, distribution_json"
            for trial_id, name, value, distribution in rows_of("trial_params", columns, "param_id"):
                trials[trial_id].params[sys.intern(name)] = _parameter(distribution, value)
                trials[trial_id].distributions[sys.intern(name)] = sys.intern(distribution)
            for trial_id, value, kind in rows_of("trial_values", "value, value_type", "objective"):
                trials[trial_id].values = (*(trials[trial_id].values or ()), _number(value, kind))
            for trial_id, name, text in rows_of("trial_user_attributes", "key, value_json", "key"):
                trials[trial_id].attributes[sys.intern(name)] = json.loads(text)
            for trial_id, name, text in rows_of("trial_system_attributes", "key, value_json", "key"):
                trials[trial_id].system_attributes[sys.intern(name)] = json.loads(text)
            columns = "trial_intermediate_value_id, step, intermediate_value, intermediate_value_type"
            for trial_id, order, step, value, kind in rows_of("trial_intermediate_values", columns, "step"):
                trials[trial_id].rungs[step] = _number(value, kind)
                trials[trial_id].logged[step] = order
        return list(trials.values())

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        sql = "SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state"
        return dict.fromkeys(STATES, 0) | dict(self._connection.rows(sql, self.study_id))

    def best(self) -> TrialRecord | None:
        """Return the complete trial with the lowest first objective, of equal ones the first; None without one."""
        leaders = self._connection.rows(
            "SELECT t.number FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id "
            f"WHERE t.study_id = ? AND t.state = '{COMPLETE}' AND v.objective = 0 ORDER BY "
            "CASE v.value_type WHEN 'INF_NEG' THEN 0 WHEN 'FINITE' THEN 1 ELSE 2 END, v.value, t.number LIMIT 1",
            self.study_id,
        )
        return self.records(number=leaders[0][0])[0] if leaders else None

    def numbers(self, state: str) -> list[int]:
        """Return the numbers of the trials in a state, in order."""
        sql = "SELECT number FROM trials WHERE study_id = ? AND state = ? ORDER BY number"
        return [number for (number,) in self._connection.rows(sql, self.study_id, state)]

    def attribute_by_trial(self, key: str) -> dict[int, Any]:
        """Return a user attribute of the trials that have it, by the number of the trial, in order."""
        sql = "SELECT t.number, a.value_json FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id "
        sql += "WHERE t.study_id = ? AND a.key = ? ORDER BY t.number"
        return {number: json.loads(text) for number, text in self._connection.rows(sql, self.study_id, key)}


class Ledger(StudyReader):
    """One study, by name, in one database. Opening an existing one changes nothing; `take` makes this its only writer.

    `create` creates database and study where they are missing; `objectives` is their number in a new study, all to be
    minimised. Raises `StudyError` as `StudyReader` does.
    """

    def __init__(self, where: Database, name: str, *, create: bool = False, objectives: int = 1) -> None:
        if create:
            _create(where, name, objectives)
        super().__init__(where, name, check=True)
        self._fence: int | None = None
        try:
            directions = self._connection.rows(
                "SELECT objective FROM study_directions WHERE study_id = ?", self.study_id
            )
            trials = self._connection.rows(
                "SELECT number, trial_id FROM trials WHERE study_id = ? ORDER BY trial_id", self.study_id
            )
            if [number for number, _ in trials] != list(range(len(trials))):
                raise StudyError(
                    f"{where.label}: the trials are not numbered 0, 1, 2 and so on: another program has written to it. "
                    "Restore it, or start a study with another name"
                )
        except BaseException:
            self.close()
            raise
        self.objectives = len(directions)
        self._ids = [int(trial_id) for _, trial_id in trials]  # trial_id by number; fixed once entered

    def __len__(self) -> int:
        """Return the number of trials entered."""
        return len(self._ids)

    def take(self, holder: str) -> int:
        """Become the only writer: earlier writers are refused from now on. Return the number of this writer.

        `holder` names the writer in words. Raises `StudyError` where a writer on the same server still holds the study,
        and where SQLite would keep a write-ahead log, which network file systems cannot share.
        """
        if self.database.is_shared:
            deadline = time.monotonic() + PATIENCE_S
            while not self._connection.rows("SELECT pg_try_advisory_lock(?, ?)", _LOCK_CLASS, self.study_id)[0][0]:
                if time.monotonic() > deadline:
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

    def enter(
        self,
        number: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        system_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter a trial with all its parameters, WAITING. Raises `StudyError` where its number is not the next one."""
        from optuna.distributions import distribution_to_json

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
                f"INSERT INTO trials (number, study_id, state) VALUES (?, ?, '{WAITING}') RETURNING trial_id",
                number,
                self.study_id,
            )
            self._connection.run_many(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
                [(trial_id, *row) for row in stored],
            )
            self._set("trial_user_attributes", trial_id, attributes)
            self._set("trial_system_attributes", trial_id, system_attributes or {})
            self._ids.append(int(trial_id))

    def mark(self, number: int, state: str, values: Sequence[float] | None = None) -> None:
        """Set the state of an unfinished trial; `values` are the objectives of a complete one.

        Raises `StudyError` for a finished trial, `ValueError` for an unknown state and for values that do not fit it.
        """
        if state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {state!r}")
        if len(values or ()) != (self.objectives if state == COMPLETE else 0):
            raise ValueError(f"COMPLETE, and nothing else, has {self.objectives} values, got {state} with {values}")
        if any(math.isnan(value) for value in values or ()):
            raise ValueError(f"the values of trial {number} must be numbers, got {values}")
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")
        with self.transaction():
            trial_id = self._unfinished(number)
            self._connection.run(
                "UPDATE trials SET state = ?, datetime_start = COALESCE(datetime_start, ?), datetime_complete = ? "
                "WHERE trial_id = ?",
                state,
                None if state == WAITING else now,
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
            self._connection.run(
                "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
                "VALUES (?, ?, ?, ?) ON CONFLICT (trial_id, step) DO UPDATE SET "
                "intermediate_value = excluded.intermediate_value, "
                "intermediate_value_type = excluded.intermediate_value_type",
                self._unfinished(number),
                rung,
                *_stored(value),
            )

    def annotate(self, number: int, key: str, value: Any) -> None:
        """Set a user attribute of an unfinished trial."""
        with self.transaction():
            self._set("trial_user_attributes", self._unfinished(number), {key: value})

    def set_attribute(self, name: str, value: Any) -> None:
        """Set a user attribute of the study."""
        self.set_attributes({name: value})

    def set_attributes(self, values: Mapping[str, Any]) -> None:
        """Set several user attributes of the study in one transaction."""
        with self.transaction():
            self._set("study_user_attributes", self.study_id, values)

    def delete_study(self) -> None:
        """Remove the study from the database for good."""
        import optuna

        with explained(self.database):
            optuna.delete_study(study_name=self.name, storage=self.database.url)

    def _set(self, table: str, owner_id: int, values: Mapping[str, Any]) -> None:
        """Set attributes in one of the tables STUDY_... or TRIAL_..._attributes."""
        owner = f"{table.partition('_')[0]}_id"
        self._connection.run_many(
            f"INSERT INTO {table} ({owner}, key, value_json) VALUES (?, ?, ?) "
            f"ON CONFLICT ({owner}, key) DO UPDATE SET value_json = excluded.value_json",
            [(owner_id, key, json.dumps(value)) for key, value in values.items()],
        )

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


def find_attributes(where: Database, name: str) -> dict[str, Any] | None:
    """Return the user attributes of a study, None where the database holds no such study."""
    with contextlib.closing(databases.connect(where)) as connection:
        study_id = _study_id(connection, name)
        return None if study_id is None else _attributes(connection, study_id)


def _study_id(connection: Connection, name: str) -> int | None:
    """Return the number of a study, None where the database holds no such study."""
    if connection.database.is_shared:
        has_tables = connection.rows("SELECT to_regclass('studies')")[0][0] is not None
    else:
        has_tables = bool(connection.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'studies'"))
    if not has_tables:
        return None
    ids = connection.rows("SELECT study_id FROM studies WHERE study_name = ?", name)
    return int(ids[0][0]) if ids else None


def _refuse_other_version(connection: Connection) -> None:
    """Raise `StudyError` for tables that these statements may not fit."""
    revision = ", ".join(version for (version,) in connection.rows("SELECT version_num FROM alembic_version"))
    if revision not in REVISIONS:
        raise StudyError(
            f"{connection.database.label} has Optuna's tables in version {revision or 'unknown'}, and this pinnsweep "
            f"knows {' and '.join(REVISIONS)} only. Restore it, or use the versions of pinnsweep and Optuna that made "
            "it"
        )


def _attributes(connection: Connection, study_id: int) -> dict[str, Any]:
    rows = connection.rows("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", study_id)
    return {key: json.loads(value) for key, value in rows}


def _refuse_damaged(connection: Connection) -> None:
    """Raise `StudyError` for a torn or overwritten SQLite file, of which SQLite itself reads a missing end as zeros."""
    file = connection.database.file
    if file is None:
        return
    with connection.snapshot():  # also rolls back an unfinished transaction of a killed writer
        pages, page_bytes = (connection.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "page_size"))
        verdict = connection.rows("PRAGMA quick_check(1)")[0][0]
        if file.stat().st_size < pages * page_bytes:
            verdict = f"it is shorter than its {pages} pages"
    if verdict != "ok":
        raise StudyError(
            f"{file} is damaged ({verdict.splitlines()[-1]}): restore it from a copy, or start a study with another "
            "name"
        )


def _create(where: Database, name: str, objectives: int) -> None:
    """Create the tables and the study in them with Optuna, where they are missing."""
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if where.file is None:
        databases.connect(where).close()  # gives better errors
    else:
        where.file.parent.mkdir(parents=True, exist_ok=True)
    settings = {} if where.is_shared else {"connect_args": {"timeout": databases.TIMEOUT_S}}
    with explained(where):
        try:
            storage = RDBStorage(where.url, engine_kwargs=settings)
        except RuntimeError as problem:  # tables of another version of Optuna
            raise StudyError(f"{where.label}: {' '.join(str(problem).split())}") from None
        try:
            directions = [optuna.study.StudyDirection.MINIMIZE] * objectives
            optuna.create_study(storage=storage, study_name=name, load_if_exists=True, directions=directions)
        finally:
            storage.remove_session()
            storage.engine.dispose()


# ---- values as Optuna stores them --------------------------------------------------------------------------------


def _parameter(distribution: str, value: float) -> Any:
    name, choices = _kind_and_choices(distribution)
    if name == "CategoricalDistribution":
        return choices[int(value)]
    return int(value) if name.startswith("Int") else float(value)


@functools.lru_cache(maxsize=4096)
def _kind_and_choices(distribution: str) -> tuple[str, tuple[Any, ...]]:
    content = json.loads(distribution)
    return content["name"], tuple(content["attributes"].get("choices", ()))


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _number(value: float | None, kind: str) -> float:
    return _NOT_FINITE[kind] if value is None else float(value)


def _stored(value: float) -> tuple[float | None, str]:
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return float(value), "FINITE"


def _time(stored: Any) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(stored) if isinstance(stored, str) else stored  # text in SQLite
