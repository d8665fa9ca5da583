"""The columns of the result tables, with their types and units; `docs/tables.md` says what they mean.

The columns of settings come from the annotations of pinncore's settings, so all files of a table have the same schema
whatever the settings of their trials.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa

from pinncore.problems import PROBLEMS
from pinncore.settings import PHASES, TrainSettings

Section = Literal["train", "problem"]

TABLES = ("trials", "curves", "fields", "weights", "events")
SCHEMA_VERSION = 3
FIRST, SECOND = PHASES
LOSS_TERMS = {"nonlocal_strain": ("residual", "lrb", "btb")}

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
_RESULTS = (
    *_columns(pa.float64(), "1", "rel_l2 paper_metric process_zone_error distance_to_local mean_abs_du_de"),
    *_columns(pa.float64(), "1", "heldout_residual loss grad_norm"),
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


def trials_schema(problem: str = "nonlocal_strain", terms: Sequence[str] | None = None) -> pa.Schema:
    """Return the schema of `trials`, one row per trial and replicate: state, settings, metrics, costs, provenance."""
    term_columns = [_column(name, pa.float64(), "1") for name in _term_names(problem, terms)]
    after_loss = [field.name for field in _RESULTS].index("loss") + 1
    results = [*_RESULTS[:after_loss], *term_columns, *_RESULTS[after_loss:]]
    return _schema("trials", [*_IDENTITY, *_setting_fields(problem), *results])


def curves_schema(problem: str = "nonlocal_strain", terms: Sequence[str] | None = None) -> pa.Schema:
    """Return the schema of `curves`, the course of training: one row every `record_every` epochs or iterations."""
    terms_and_norms = ["loss", *_term_names(problem, terms), "grad_norm", "rel_l2"]
    return _schema(
        "curves",
        [
            *_columns(pa.int32(), None, "trial replicate"),
            *_columns(pa.string(), None, "phase"),
            *_columns(pa.int32(), "count", "step"),
            *_columns(pa.int64(), "count", "evaluations"),
            *_columns(pa.float64(), "1", " ".join(terms_and_norms)),
            *_columns(pa.float64(), "s", "time_s"),
        ],
    )


def fields_schema() -> pa.Schema:
    """Return the schema of `fields`: the predicted field at every Gauss point, the reference, the local strain."""
    return _schema(
        "fields",
        [
            *_columns(pa.int32(), None, "trial replicate"),
            *_columns(pa.float64(), "mm", "x_mm y_mm"),
            *_columns(pa.float64(), "1", "predicted reference local"),
        ],
    )


def weights_schema() -> pa.Schema:
    """Return the schema of `weights`: the weights of the kept epochs, one row per number."""
    return _schema(
        "weights",
        [
            *_columns(pa.int32(), None, "trial replicate"),
            *_columns(pa.int32(), "count", "epoch"),
            *_columns(pa.int32(), None, "layer row column"),
            *_columns(pa.float64(), "1", "value"),
        ],
    )


def events_schema() -> pa.Schema:
    """Return the schema of `events`: what happened when."""
    return _schema(
        "events",
        [
            *_columns(_TIME, None, "time"),
            *_columns(pa.int32(), None, "attempt trial pack"),
            *_columns(pa.string(), None, "event detail"),
        ],
    )


def setting_columns(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of a trials row that hold a resolved configuration, including the problem's name."""
    problem = {name: value for name, value in config["problem"].items() if name != "name"}
    settings = {column_of("train", name): value for name, value in config["train"].items()}
    settings |= {column_of("problem", name): value for name, value in problem.items()}
    return {"problem": config["problem"]["name"], **settings}


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
        hints = typing.get_type_hints(settings, include_extras=True)
        for field in dataclass_fields(settings):
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            result.append(Setting(section, field.name, column_of(section, field.name), hints[field.name], default))
    return tuple(result)


def config_of(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the resolved configuration in a trials row, as JSON values: the inverse of `setting_columns`."""
    config: dict[str, dict[str, Any]] = {"train": {}, "problem": {"name": row["problem"]}}
    for setting in all_settings(row["problem"]):
        value = row[setting.column]
        as_json = isinstance(value, str) and setting.hint is not str and value.startswith(("[", "{"))
        config[setting.section][setting.name] = json.loads(value) if as_json else value
    return config


def column_of(section: Section, name: str) -> str:
    """Return the trials column of a setting: its name, with the section in front where a metric has that name."""
    is_result = any(name == field.name for field in (*_IDENTITY, *_RESULTS))
    return f"{section}_{name}" if is_result else name


def _setting_fields(problem: str) -> list[pa.Field]:
    columns = [_column("problem", pa.string())]
    for setting in all_settings(problem):
        kind = _arrow_type(setting.hint)
        unit = "1" if kind == pa.float64() else "count" if kind == pa.int64() else None
        columns.append(_column(setting.column, kind, unit))
    return columns


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


def _term_names(problem: str, terms: Sequence[str] | None) -> list[str]:
    return [f"loss_{term}" for term in (LOSS_TERMS[problem] if terms is None else terms)]


def _schema(table: str, columns: Sequence[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"pinnsweep_table": table, "pinnsweep_schema_version": str(SCHEMA_VERSION)})
