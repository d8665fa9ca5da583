"""The columns of the result tables, with their types and units; `docs/tables.md` says what they mean.

Columns of settings, metrics, loss terms and fields come from the class of the problem, so all files of a table have the
same schema whatever the settings of their trials.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa

from pinncore.problems import PROBLEMS, Metric
from pinncore.settings import PHASES, TrainSettings, hints

Section = Literal["train", "problem"]

TABLES = ("trials", "curves", "fields", "weights", "events")
SCHEMA_VERSION = 3
FIRST, SECOND = PHASES
PROBLEM_KEY = "pinnsweep_problem"  # in the metadata of a file

_TIME = pa.timestamp("us", tz="UTC")


def _column(name: str, kind: pa.DataType, unit: str | None = None) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit} if unit else None)


def _columns(kind: pa.DataType, unit: str | None, names: str) -> tuple[pa.Field, ...]:
    return tuple(_column(name, kind, unit) for name in names.split())


_IDENTITY = (
    *_columns(pa.int32(), None, "trial replicate"),
    *_columns(pa.string(), None, "state"),
    *_columns(pa.int32(), None, "pack"),
    *_columns(pa.int64(), None, "seed"),
    *_columns(pa.int32(), None, "attempt duplicate_of retry_of"),
    *_columns(pa.string(), None, "taken_from"),
    *_columns(pa.bool_(), None, "rebatched"),
)
_OUTCOME = (
    *_columns(pa.string(), None, "stop_reason stop_advice failure"),
    *_columns(pa.int32(), "count", "parameters"),
    *_columns(pa.int64(), "count", "epochs_done iterations_done"),
    *_columns(pa.int64(), "count", "first_evaluations second_evaluations evaluations"),
    *_columns(pa.float64(), "s", "first_seconds second_seconds seconds"),
    *_columns(_TIME, None, "started_at finished_at"),
    *_columns(pa.string(), None, "engine_used lbfgs_memory_used device cpu host"),
    *_columns(pa.string(), None, "python_version torch_version numpy_version scipy_version numba_version"),
    *_columns(pa.string(), None, "pinnsweep_version code_version data_hash config_hash spec_hash"),
)


def table_schema(table: str, problem: str | None = None) -> pa.Schema:
    """Return the schema of a table in studies of a problem; without one, with the columns of all problems."""
    if problem is None:
        return pa.unify_schemas([_schema(table, name) for name in PROBLEMS], promote_options="permissive")
    return _schema(table, problem)


@functools.cache
def _schema(table: str, problem: str) -> pa.Schema:
    member, columns = _columns(pa.int32(), None, "trial replicate"), tuple[pa.Field, ...]()
    match table:
        case "trials":
            columns = (*_IDENTITY, *_setting_fields(problem), *_metric_fields(problem), *_OUTCOME)
        case "curves":
            columns = (
                *member,
                *_columns(pa.string(), None, "phase"),
                *_columns(pa.int32(), "count", "step"),
                *_columns(pa.int64(), "count", "evaluations"),
                *_columns(pa.float64(), "1", " ".join((*loss_columns(problem), "grad_norm", "rel_l2"))),
                *_columns(pa.float64(), "s", "time_s"),
            )
        case "fields":
            fields = (_column(column.name, pa.float64(), column.unit) for column in PROBLEMS[problem].field_columns())
            columns = (*member, *fields)
        case "weights":
            columns = (
                *member,
                *_columns(pa.int32(), "count", "epoch"),
                *_columns(pa.int32(), None, "layer row column"),
                *_columns(pa.float64(), "1", "value"),
            )
        case "events":
            columns = (
                *_columns(_TIME, None, "time"),
                *_columns(pa.int32(), None, "attempt trial pack"),
                *_columns(pa.string(), None, "event detail"),
            )
    metadata = {"pinnsweep_table": table, "pinnsweep_schema_version": str(SCHEMA_VERSION), PROBLEM_KEY: problem}
    return pa.schema(columns, metadata=metadata)


def problem_of(schema: pa.Schema) -> str | None:
    """Return the problem of a table's file; None where this version does not know it."""
    name = (schema.metadata or {}).get(PROBLEM_KEY.encode(), b"").decode()
    return name if name in PROBLEMS else None


def loss_columns(problem: str) -> tuple[str, ...]:
    """Return the columns of the loss and of its terms."""
    return ("loss", *(f"loss_{term}" for term in PROBLEMS[problem].terms))


def metric(name: str) -> Metric | None:
    """Return the metric of any problem that a column holds, None for another column."""
    records = (record for problem in PROBLEMS.values() for record in problem.metrics)
    return next((record for record in records if record.name == name), None)


def metric_columns(problem: str) -> tuple[str, ...]:
    """Return the columns of trials that depend on the course of the training: metrics, loss, its terms, gradient."""
    return (*(record.name for record in PROBLEMS[problem].metrics), *loss_columns(problem), "grad_norm")


def setting_columns(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of a trials row that hold a resolved configuration, including the problem's name."""
    settings = all_settings(config["problem"]["name"])
    values = {setting.column: config[setting.section][setting.name] for setting in settings}
    return {"problem": config["problem"]["name"], **values}


class Setting(NamedTuple):
    """A field of the study file's train or problem section: its trials column, type and default as JSON value."""

    section: Section
    name: str
    column: str
    hint: Any
    default: Any


@functools.cache
def all_settings(problem: str | None) -> tuple[Setting, ...]:
    """Return the settings of training and of a problem (None: of training alone), in the order of their columns."""
    sections: list[tuple[Section, type]] = [("train", TrainSettings)]
    if problem is not None:
        sections.append(("problem", PROBLEMS[problem]))
    result = []
    for section, settings in sections:
        for field in dataclass_fields(settings):
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            column = column_of(section, field.name, problem)
            result.append(Setting(section, field.name, column, hints(settings)[field.name], default))
    return tuple(result)


def config_of(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the resolved configuration in a trials row, as JSON values: the inverse of `setting_columns`."""
    config: dict[str, dict[str, Any]] = {"train": {}, "problem": {"name": row["problem"]}}
    for setting in all_settings(row["problem"]):
        value = row[setting.column]
        as_json = isinstance(value, str) and setting.hint is not str and value.startswith(("[", "{"))
        config[setting.section][setting.name] = json.loads(value) if as_json else value
    return config


def column_of(section: Section, name: str, problem: str | None) -> str:
    """Return the trials column of a setting: its name, with the section in front where a result has that name."""
    results = [field.name for field in (*_IDENTITY, *_OUTCOME)]
    results += ["loss", "grad_norm"] if problem is None else metric_columns(problem)
    return f"{section}_{name}" if name in results else name


def _setting_fields(problem: str) -> list[pa.Field]:
    columns = [_column("problem", pa.string())]
    for setting in all_settings(problem):
        kind = _arrow_type(setting.hint)
        unit = "1" if kind == pa.float64() else "count" if kind == pa.int64() else None
        columns.append(_column(setting.column, kind, unit))
    return columns


def _metric_fields(problem: str) -> list[pa.Field]:
    units = {record.name: record.unit for record in PROBLEMS[problem].metrics}
    return [_column(name, pa.float64(), units.get(name, "1")) for name in metric_columns(problem)]


def _arrow_type(hint: Any) -> pa.DataType:
    """Return the column type of an annotation; all but numbers and truth values are stored as text, lists as JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _arrow_type(arguments[0])
    if origin is Literal:
        kinds = {_arrow_type(type(value)) for value in arguments}
        return kinds.pop() if len(kinds) == 1 else pa.string()
    if origin in (typing.Union, types.UnionType):
        kinds = {_arrow_type(argument) for argument in arguments if argument is not type(None)}
        return kinds.pop() if len(kinds) == 1 else pa.string()
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(hint, pa.string())
