"""What Optuna's tables say: a study and its trials, read with plain statements, all at one moment."""

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
    """A trial as the database holds it; `params` as Optuna stores them, `rungs` the intermediate values by step."""

    number: int
    state: str
    params: dict[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    system_attributes: dict[str, Any] = field(default_factory=dict)
    rungs: dict[int, float] = field(default_factory=dict)
    logged: dict[int, int] = field(default_factory=dict)  # by rung, a number that grows with every rung logged


def refuse_damaged(connection: Connection) -> None:
    """Refuse a torn or overwritten SQLite file before anything is read from it; SQLite itself reads a missing end as
    zeros. Raises `StudyError`."""
    file = connection.database.file
    if file is None:
        return
    with connection.snapshot():  # which also rolls back what a killed writer left half done
        pages, page_bytes = (connection.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "page_size"))
        found = connection.rows("PRAGMA quick_check(1)")[0][0]
        if file.stat().st_size < pages * page_bytes:
            found = f"it is shorter than its {pages} pages"
    if found != "ok":
        raise StudyError(
            f"{file} is damaged ({found.splitlines()[-1]}): restore it from a copy, or start a study of another name"
        )


def study_id(connection: Connection, name: str) -> int:
    """The number of a study in its database. Raises `StudyError` where it is not there."""
    found = connection.rows("SELECT study_id FROM studies WHERE study_name = ?", name) if has_tables(connection) else []
    if not found:
        raise StudyError(
            f"{connection.database.label} holds no study {name!r}: restore it, put `state` back to where the "
            "database is, or start a study of another name"
        )
    return int(found[0][0])


def has_tables(connection: Connection) -> bool:
    """Whether Optuna's tables are in the database."""
    if connection.database.is_shared:
        return connection.rows("SELECT to_regclass('studies')")[0][0] is not None
    return bool(connection.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'studies'"))


def attributes(connection: Connection, study: int) -> dict[str, Any]:
    """User attributes of a study."""
    found = connection.rows("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", study)
    return {key: json.loads(value) for key, value in found}


def read(connection: Connection, study: int) -> list[TrialRecord]:
    """Every trial by number."""

    def about(table: str, columns: str, order: str) -> list[tuple[Any, ...]]:
        return connection.rows(
            f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN "
            f"(SELECT trial_id FROM trials WHERE study_id = ?) ORDER BY trial_id, {order}",
            study,
        )

    with connection.snapshot():
        found = connection.rows("SELECT trial_id, number, state FROM trials WHERE study_id = ?", study)
        trials = {trial_id: TrialRecord(number, state) for trial_id, number, state in found}
        for trial_id, name, value, distribution in about(
            "trial_params", "param_name, param_value, distribution_json", "param_id"
        ):
            trials[trial_id].params[sys.intern(name)] = parameter(distribution, value)
        for trial_id, value, kind in about("trial_values", "value, value_type", "objective"):
            trials[trial_id].values = (*(trials[trial_id].values or ()), number_of(value, kind))
        for trial_id, name, text in about("trial_user_attributes", "key, value_json", "key"):
            trials[trial_id].attributes[sys.intern(name)] = json.loads(text)
        for trial_id, name, text in about("trial_system_attributes", "key, value_json", "key"):
            trials[trial_id].system_attributes[sys.intern(name)] = json.loads(text)
        rung = "trial_intermediate_value_id, step, intermediate_value, intermediate_value_type"
        for trial_id, order, step, value, kind in about("trial_intermediate_values", rung, "step"):
            trials[trial_id].rungs[step] = number_of(value, kind)
            trials[trial_id].logged[step] = order
    return sorted(trials.values(), key=lambda trial: trial.number)


def counts(connection: Connection, study: int) -> dict[str, int]:
    """Number of trials in each state."""
    found = connection.rows("SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state", study)
    return dict.fromkeys(STATES, 0) | {name: int(number) for name, number in found}


def best(connection: Connection, study: int) -> tuple[int, tuple[float, ...], dict[str, Any]] | None:
    """Number, values and stored parameters of the complete trial of the lowest first objective, of equals the first."""
    found = connection.rows(
        "SELECT t.trial_id, t.number FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id "
        "WHERE t.study_id = ? AND t.state = 'COMPLETE' AND v.objective = 0 "
        "ORDER BY CASE v.value_type WHEN 'INF_NEG' THEN 0 WHEN 'FINITE' THEN 1 ELSE 2 END, v.value, t.number LIMIT 1",
        study,
    )
    if not found:
        return None
    trial_id, number = found[0]
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
    """A parameter as it was stored, from the number and the distribution that Optuna keeps of it."""
    name, choices = _distribution(distribution)
    if name == "CategoricalDistribution":
        return choices[int(value)]
    return int(value) if name.startswith("Int") else float(value)


def number_of(value: float | None, kind: str) -> float:
    """A result as it was told; Optuna keeps what is not finite as a word."""
    special = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}
    return special[kind] if value is None else float(value)


@functools.lru_cache(maxsize=4096)
def _distribution(text: str) -> tuple[str, tuple[Any, ...]]:
    content = json.loads(text)
    return content["name"], tuple(content["attributes"].get("choices", ()))
