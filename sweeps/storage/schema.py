"""The columns of the result tables, with their types and units; `docs/tables.md` says what they mean.

Columns of settings, metrics, loss terms and fields come from the record of the problem, so all files of a table have
the same schema whatever the settings of their trials.
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

from pinncore.problems.record import ProblemRecord
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
    *_columns(pa.int64(), "count", "epochs_done iterations_done kept_at"),
    *_columns(pa.int64(), "count", "first_evaluations second_evaluations evaluations"),
    *_columns(pa.float64(), "s", "first_seconds second_seconds seconds"),
    *_columns(_TIME, None, "started_at finished_at"),
    *_columns(pa.string(), None, "engine_used lbfgs_memory_used device device_name driver capability cpu host"),
    *_columns(pa.string(), None, "python_version torch_version numpy_version scipy_version numba_version"),
    *_columns(pa.string(), None, "pinnsweep_version code_version data_hash config_hash spec_hash"),
)


@functools.cache
def table_schema(table: str, problem: ProblemRecord) -> pa.Schema:
    """Return the schema of a table in studies of a problem."""
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
            columns = (*member, *(_column(column.name, pa.float64(), column.unit) for column in problem.fields))
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
    metadata = {"pinnsweep_table": table, "pinnsweep_schema_version": str(SCHEMA_VERSION), PROBLEM_KEY: problem.name}
    return pa.schema(columns, metadata=metadata)


def loss_columns(problem: ProblemRecord) -> tuple[str, ...]:
    """Return the columns of the loss and of its terms."""
    return ("loss", *(f"loss_{term}" for term in problem.terms))


def metric_columns(problem: ProblemRecord) -> tuple[str, ...]:
    """Return the columns of trials that depend on the course of the training: metrics, loss, its terms, gradient."""
    return (*(record.name for record in problem.metrics), *loss_columns(problem), "grad_norm")


def reserved_names(problem: ProblemRecord) -> dict[str, tuple[str, ...]]:
    """Return names that columns have already, as `settings` (columns of trials) and `fields` (of fields) must not."""
    own = [field.name for field in (*_IDENTITY, *_OUTCOME)]
    return {
        "settings": ("study", "problem", *own, *metric_columns(problem)),
        "fields": ("study", "trial", "replicate"),
    }


def setting_columns(config: Mapping[str, Mapping[str, Any]], problem: ProblemRecord) -> dict[str, Any]:
    """Return the columns of a trials row that hold a resolved configuration, including the problem's name."""
    values = {setting.column: config[setting.section][setting.name] for setting in all_settings(problem)}
    return {"problem": config["problem"]["name"], **values}


class Setting(NamedTuple):
    """A field of the study file's train or problem section: its trials column, type and default as JSON value."""

    section: Section
    name: str
    column: str
    hint: Any
    default: Any


@functools.cache
def all_settings(problem: ProblemRecord) -> tuple[Setting, ...]:
    """Return the settings of training and of a problem, in the order of their columns."""
    settings: list[tuple[Section, str, Any, Any]] = [
        ("train", field.name, hints(TrainSettings)[field.name], field.default)
        for field in dataclass_fields(TrainSettings)
    ]
    settings += [("problem", setting.name, setting.hint, setting.default) for setting in problem.settings]
    return tuple(
        Setting(
            section, name, column_of(section, name, problem), hint, list(given) if isinstance(given, tuple) else given
        )
        for section, name, hint, given in settings
    )


def config_of(row: Mapping[str, Any], problem: ProblemRecord) -> dict[str, dict[str, Any]]:
    """Return the resolved configuration in a trials row, as JSON values: the inverse of `setting_columns`."""
    config: dict[str, dict[str, Any]] = {"train": {}, "problem": {"name": row["problem"]}}
    for setting in all_settings(problem):
        value = row[setting.column]
        as_json = isinstance(value, str) and setting.hint is not str and value.startswith(("[", "{"))
        config[setting.section][setting.name] = json.loads(value) if as_json else value
    return config


def column_of(section: Section, name: str, problem: ProblemRecord) -> str:
    """Return the trials column of a setting: its name, with the section in front where a result has that name."""
    results = [field.name for field in (*_IDENTITY, *_OUTCOME)]
    return f"{section}_{name}" if name in (*results, *metric_columns(problem)) else name


def _setting_fields(problem: ProblemRecord) -> list[pa.Field]:
    columns = [_column("problem", pa.string())]
    for setting in all_settings(problem):
        kind = _arrow_type(setting.hint)
        unit = "1" if kind == pa.float64() else "count" if kind == pa.int64() else None
        columns.append(_column(setting.column, kind, unit))
    return columns


def _metric_fields(problem: ProblemRecord) -> list[pa.Field]:
    units = {record.name: record.unit for record in problem.metrics}
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
