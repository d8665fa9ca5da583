"""The study file as pydantic models; those of `train`, `problem` and `space` are built from pinncore.

The rules of a field are read from the annotations of pinncore's settings, for the field itself and for every value it
is swept over. Only this module and `sections` import pydantic.
"""

from __future__ import annotations

import functools
import json
import operator
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, cast

from annotated_types import Gt, MinLen
from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError, create_model

from pinncore.problems.record import ProblemRecord
from pinncore.settings import TrainSettings, description, hints

from .dimensions import KINDS, RANGES
from .sections import (
    LISTED,
    STRICT,
    BudgetSettings,
    NotifySettings,
    PrunerSettings,
    ResourceSettings,
    ResultSettings,
    SearchSettings,
    TrackSettings,
)

_WHEN = "The dimension exists where each of these other swept fields has the value given, or one of the list given."
_PROBLEM = "The equation to solve: a name, FILE.py:CLASS, or PACKAGE.MODULE:CLASS."
_FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9_-]$|^[A-Za-z0-9]$"


@functools.cache
def study_file(*records: ProblemRecord, for_editors: bool = False) -> type[BaseModel]:
    """Return the model of a study file for one problem; `for_editors` for each of several, or for a user's.

    The first problem is that of a file that names none.
    """
    problems, swept = [], hints(TrainSettings)
    for record in records:
        kind: Any = Literal[record.name] if for_editors else str
        given: dict[str, Any] = {"default": record.name} if record is records[0] else {}
        named = {"name": (kind, Field(description=_PROBLEM, **given))}
        problems.append(_model(record.class_name, named | _fields_of(record)))
        swept = swept | record.hints
    problems += [_users_problem()] if for_editors else []
    dimensions = {
        name: (_dimension(name, hint, tuple(swept)), _optional(description(hint))) for name, hint in swept.items()
    }
    space = _model("Space", dimensions)
    row = _model("Configuration", {name: (hint, _optional(description(hint))) for name, hint in swept.items()})
    metrics = [metric.name for record in records for metric in record.metrics if metric.is_objective]
    search = _search(row, tuple(dict.fromkeys([*metrics, "loss"])))
    train = _model("TrainSettings", _own_fields(TrainSettings))
    folder_name = Annotated[str, Field(pattern=_FOLDER_NAME)]
    return _model(
        "StudyFile",
        {
            "study": (folder_name, Field(description="Name of the study and of its folder.")),
            "problem": (
                functools.reduce(operator.or_, problems),
                _section(problems[0], "The problem to solve and its data."),
            ),
            "search": (search, _section(search, "How the space is searched.")),
            "space": (space, _section(space, "The swept fields of train and problem.")),
            "train": (train, _section(train, "The network and its training, where not swept.")),
            "resources": (ResourceSettings, _section(ResourceSettings, "Where packs train, and how many at once.")),
            "budget": (BudgetSettings, _section(BudgetSettings, "Limits that end the study early.")),
            "results": (ResultSettings, _section(ResultSettings, "What is kept of each trial.")),
            "track": (TrackSettings, _section(TrackSettings, "Trackers that finished trials are sent to.")),
            "notify": (NotifySettings, _section(NotifySettings, "Who is told about a run, and of what.")),
            "state": (
                str | None,
                Field(
                    default=None,
                    description="Where study.db is stored: null (in the study's folder), another folder, or "
                    "postgresql://... without a password, which libpq takes from PGPASSWORD or ~/.pgpass.",
                ),
            ),
        },
    )


def section_keys(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the valid keys of each section of a study file; "" is the file itself."""
    models = {name: cast(Any, field.annotation) for name, field in model.model_fields.items()}
    models["search.pruner"] = PrunerSettings
    models |= {f"track.{name}": field.annotation for name, field in TrackSettings.model_fields.items()}
    by_section = {
        name: tuple(field.alias or key for key, field in section.model_fields.items())
        for name, section in models.items()
        if hasattr(section, "model_fields")
    }
    return {"": tuple(model.model_fields), **by_section}


def dimension_kinds(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the kinds of dimension each field may have, by field."""
    space = cast(Any, model.model_fields["space"].annotation)
    return {
        name: tuple(kind for kind in field.annotation.model_fields if kind in KINDS)
        for name, field in space.model_fields.items()
    }


def errors(model: type[BaseModel], content: Mapping[str, Any]) -> list[Any]:
    """Return pydantic's error records on `content`."""
    try:
        validate(model, content)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def validate(model: type[BaseModel], content: Mapping[str, Any]) -> Any:
    """Return `content` as an instance of `model`. Raises pydantic's `ValidationError`."""
    return model.model_validate_json(json.dumps(content))  # in JSON, strict validation accepts lists as tuples


def _model(name: str, definitions: dict[str, Any], *, in_schema: dict[str, Any] | None = None) -> type[BaseModel]:
    config = ConfigDict(**STRICT, json_schema_extra=in_schema)
    return create_model(name, __config__=config, **definitions)


def _section(model: type[BaseModel], sentence: str) -> Any:
    return Field(default_factory=model, description=sentence)


def _optional(sentence: str, in_schema: Mapping[str, Any] | None = None) -> Any:
    """Return the definition of a key that may be left out but must not be null."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)
        schema.update(in_schema or {})

    return Field(default=None, description=sentence, json_schema_extra=without_default)


def _own_fields(settings: type) -> dict[str, Any]:
    """Return the fields of a settings record as definitions of a model, with their own rules and defaults."""
    kinds = hints(settings)
    return {
        field.name: (
            kinds[field.name],
            Field(default=field.default, description=description(kinds[field.name])),
        )
        for field in fields(settings)
    }


def _fields_of(record: ProblemRecord) -> dict[str, Any]:
    """Return the settings of a problem as definitions of a model."""
    return {
        setting.name: (setting.hint, Field(default=setting.default, description=setting.description))
        for setting in record.settings
    }


def _users_problem() -> type[BaseModel]:
    """Return the model of any user's problem, whose settings only its class knows; for the JSON schema."""
    name: Any = (Annotated[str, Field(pattern=r"\.py$|:")], Field(description=_PROBLEM))
    return create_model("OfTheUser", __config__=ConfigDict(extra="allow"), name=name)


def _search(row: type[BaseModel], objectives: tuple[str, ...]) -> type[SearchSettings]:
    """Return the model of the section search with these objectives; listed configurations are checked as `row`."""
    listed, objective = (SearchSettings.model_fields[name] for name in ("list_", "objective"))
    rows: Any = Annotated[Annotated[str, Tag("one")] | Annotated[list[row], MinLen(1), Tag("list")], LISTED]  # type: ignore[valid-type]
    one: Any = Literal[objectives]
    several = Annotated[tuple[one, ...], MinLen(2), Tag("list")]
    definitions: dict[str, Any] = {
        "objective": (
            Annotated[Annotated[one, Tag("one")] | several, LISTED],
            Field(default=objective.default, description=objective.description),
        ),
        "list_": (rows | None, Field(default=None, alias=listed.alias, description=listed.description)),
    }
    return create_model("SearchSettings", __base__=SearchSettings, **definitions)


def _dimension(field: str, hint: Any, swept: tuple[str, ...]) -> type[BaseModel]:
    """Return the model of the dimensions of a field; every swept value obeys the rule of the field itself."""
    definitions: dict[str, Any] = {"choice": (Annotated[list[hint], MinLen(1)], _optional("One of these values."))}
    for number, *bounds in _numbers(hint):
        for kind in RANGES:
            if kind.is_whole or number is float:
                end = _annotated(int if kind.is_whole else float, *bounds, *([Gt(0)] if kind.is_log else []))
                meaning = "every ratio equally likely" if kind.is_log else "both included"
                sentence = f"A {'whole number' if kind.is_whole else 'number'} from low to high, {meaning}."
                definitions[kind.kind] = (tuple[end, end], _optional(sentence))  # type: ignore[valid-type]
    one_kind = [{"required": [kind]} for kind in definitions]
    names = {"propertyNames": {"enum": [name for name in swept if name != field]}}
    definitions["when"] = (dict[str, Any], _optional(_WHEN, names))
    return _model(f"{field}_dimension", definitions, in_schema={"oneOf": one_kind})


def _numbers(hint: Any) -> list[tuple[Any, ...]]:
    """Return the members of an annotation that are numbers: [(float, Gt(0))] for Annotated[float, Gt(0)] | None."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if is_union else (hint,)
    flat = [typing.get_args(member) if typing.get_origin(member) is Annotated else (member,) for member in members]
    return [member for member in flat if member[0] in (int, float)]


def _annotated(base: type, *bounds: Any) -> Any:
    return Annotated[(base, *bounds)] if bounds else base
