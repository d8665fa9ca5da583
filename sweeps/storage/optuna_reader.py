"""A reader of Optuna's tables: a study and its trials, read with plain SQL from one state of the database."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from ..errors import StudyError
from ..states import STATES
from .database import Connection


@dataclass(slots=True)
class TrialRecord:
    """A trial in the database; `params` are as Optuna stores them, `rungs` the intermediate values by step."""

    number: int
    state: str
    params: dict[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    system_attributes: dict[str, Any] = field(default_factory=dict)
    rungs: dict[int, float] = field(default_factory=dict)
    logged: dict[int, int] = field(default_factory=dict)  # by rung: a number that grows with every rung logged


def refuse_damaged(connection: Connection) -> None:
    """Raise `StudyError` for a torn or overwritten SQLite file, before anything is read from it.

    SQLite itself reads a missing end as zeros.
    """
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


def study_id(connection: Connection, name: str) -> int:
    """Return the number of a study in its database. Raises `StudyError` where there is no such study."""
    ids = connection.rows("SELECT study_id FROM studies WHERE study_name = ?", name) if has_tables(connection) else []
    if not ids:
        raise StudyError(
            f"{connection.database.label} holds no study {name!r}: restore it, set `state` back to where the "
            "database is, or start a study with another name"
        )
    return int(ids[0][0])


def has_tables(connection: Connection) -> bool:
    """Return whether Optuna's tables are in the database."""
    if connection.database.is_shared:
        return connection.rows("SELECT to_regclass('studies')")[0][0] is not None
    return bool(connection.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'studies'"))


def attributes(connection: Connection, study: int) -> dict[str, Any]:
    """Return the user attributes of a study."""
    rows = connection.rows("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", study)
    return {key: json.loads(value) for key, value in rows}


def read(connection: Connection, study: int) -> list[TrialRecord]:
    """Return every trial, in the order of their numbers."""

    def rows_of(table: str, columns: str, order: str) -> list[tuple[Any, ...]]:
        return connection.rows(
            f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN "
            f"(SELECT trial_id FROM trials WHERE study_id = ?) ORDER BY trial_id, {order}",
            study,
        )

    with connection.snapshot():
        rows = connection.rows("SELECT trial_id, number, state FROM trials WHERE study_id = ?", study)
        trials = {trial_id: TrialRecord(number, state) for trial_id, number, state in rows}
        for trial_id, name, value, distribution in rows_of(
            "trial_params", "param_name, param_value, distribution_json", "param_id"
        ):
            trials[trial_id].params[sys.intern(name)] = parameter(distribution, value)
        for trial_id, value, kind in rows_of("trial_values", "value, value_type", "objective"):
            trials[trial_id].values = (*(trials[trial_id].values or ()), number_of(value, kind))
        for trial_id, name, text in rows_of("trial_user_attributes", "key, value_json", "key"):
            trials[trial_id].attributes[sys.intern(name)] = json.loads(text)
        for trial_id, name, text in rows_of("trial_system_attributes", "key, value_json", "key"):
            trials[trial_id].system_attributes[sys.intern(name)] = json.loads(text)
        rung = "trial_intermediate_value_id, step, intermediate_value, intermediate_value_type"
        for trial_id, order, step, value, kind in rows_of("trial_intermediate_values", rung, "step"):
            trials[trial_id].rungs[step] = number_of(value, kind)
            trials[trial_id].logged[step] = order
    return sorted(trials.values(), key=lambda trial: trial.number)


def counts(connection: Connection, study: int) -> dict[str, int]:
    """Return the number of trials in each state."""
    rows = connection.rows("SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state", study)
    return dict.fromkeys(STATES, 0) | {name: int(number) for name, number in rows}


def best(connection: Connection, study: int) -> tuple[int, tuple[float, ...], dict[str, Any]] | None:
    """Return number, values and stored parameters of the complete trial with the lowest first objective.

    Of equal trials it is the first; None where no trial is complete.
    """
    leaders = connection.rows(
        "SELECT t.trial_id, t.number FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id "
        "WHERE t.study_id = ? AND t.state = 'COMPLETE' AND v.objective = 0 "
        "ORDER BY CASE v.value_type WHEN 'INF_NEG' THEN 0 WHEN 'FINITE' THEN 1 ELSE 2 END, v.value, t.number LIMIT 1",
        study,
    )
    if not leaders:
        return None
    trial_id, number = leaders[0]
    values = connection.rows(
        "SELECT value, value_type FROM trial_values WHERE trial_id = ? ORDER BY objective", trial_id
    )
    params = connection.rows(
        "SELECT param_name, distribution_json, param_value FROM trial_params WHERE trial_id = ? ORDER BY param_id",
        trial_id,
    )
    return (
        int(number),
        tuple(number_of(value, kind) for value, kind in values),
        {name: parameter(distribution, value) for name, distribution, value in params},
    )


def parameter(distribution: str, value: float) -> Any:
    """Return a parameter from the number and the distribution that Optuna stores."""
    name, choices = _distribution(distribution)
    if name == "CategoricalDistribution":
        return choices[int(value)]
    return int(value) if name.startswith("Int") else float(value)


def number_of(value: float | None, kind: str) -> float:
    """Return a result as a number; Optuna stores values that are not finite as a word."""
    special = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}
    return special[kind] if value is None else float(value)


@functools.lru_cache(maxsize=4096)
def _distribution(text: str) -> tuple[str, tuple[Any, ...]]:
    content = json.loads(text)
    return content["name"], tuple(content["attributes"].get("choices", ()))
