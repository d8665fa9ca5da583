"""What a study file may hold, as pydantic models; those of `train`, `problem` and `space` are built from pinncore.

The rules of a field stand in the annotations of pinncore's settings and are read from there, for the field itself
and for every value it is swept over. Nothing else in the project imports pydantic.
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

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from pinncore.problems import PROBLEMS
from pinncore.settings import TrainSettings

from .descriptions import describe

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
_FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9_-]$|^[A-Za-z0-9]$"

Count = Annotated[int, Ge(1), Le(1_000_000)]


class SearchSettings(BaseModel):
    """How the space is searched, and for how long."""

    model_config = _STRICT

    sampler: Literal["random", "grid", "qmc", "tpe"] = Field(
        default="random",
        description="How trials are drawn: random; grid (every combination, in an order drawn by the seed); qmc "
        "(scrambled Sobol points, spread more evenly than random ones); tpe (learns from the finished trials).",
    )
    trials: Count | None = Field(
        default=None, description="Number of trials; may be left out with the sampler grid, for the whole grid."
    )
    objective: Literal["rel_l2", "paper_metric", "process_zone_error", "heldout_residual", "loss"] = Field(
        default="rel_l2", description="What is made small: rel_l2 is the relative L2 error to the reference field."
    )
    seed: Annotated[int, Ge(0)] = Field(default=0, description="Seed of the study; equal seeds draw equal trials.")
    replicates: Literal[1] = Field(default=1, description="Trainings of each configuration.")
    pruner: Literal["none"] = Field(default="none", description="What ends hopeless trials early.")


class ResourceSettings(BaseModel):
    """Where a pack trains and how many trials share one."""

    model_config = _STRICT

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where packs train; auto takes a GPU if there is one."
    )
    pack: Literal["auto"] | Count = Field(
        default="auto", description="Largest number of trials trained together in one process, or auto."
    )
    cpus_per_pack: Count = Field(default=1, description="CPU cores each pack gets.")
    gpus_per_pack: Annotated[float, Ge(0)] | None = Field(
        default=None, description="GPUs each pack gets, below 1 for a share; null: one on a GPU, none on a CPU."
    )


class BudgetSettings(BaseModel):
    """What ends a study before its last trial."""

    model_config = _STRICT

    hours: Annotated[float, Gt(0)] | None = Field(
        default=None, description="Hours after which no new trial starts; null sets no limit."
    )


class ResultSettings(BaseModel):
    """What is kept of each trial beside its row and its curves."""

    model_config = _STRICT

    fields: Literal["all", "none"] = Field(default="all", description="Trials whose predicted field is kept.")
    weights: Literal["all", "none"] = Field(default="all", description="Trials whose weights are kept.")


@functools.cache
def study_file(problem_names: tuple[str, ...]) -> type[BaseModel]:
    """Return the model of a study file whose problem is one of `problem_names`."""
    problems, swept = [], _hints(TrainSettings)
    for name in problem_names:
        named = {"name": (Literal[tuple(PROBLEMS)], Field(default=name, description="The equation that is solved."))}
        problems.append(_model(PROBLEMS[name].__name__, named | _own_fields(PROBLEMS[name])))
        swept |= _hints(PROBLEMS[name])
    dimensions = {name: (_dimension(name, hint), _optional(describe(name))) for name, hint in swept.items()}
    space = _model("Space", dimensions)
    train = _model("TrainSettings", _own_fields(TrainSettings))
    folder_name = Annotated[str, Field(pattern=_FOLDER_NAME)]
    return _model(
        "StudyFile",
        {
            "study": (folder_name, Field(description="Name of the study and of its folder.")),
            "problem": (
                functools.reduce(operator.or_, problems),
                _section(problems[0], "What is solved, on which data."),
            ),
            "search": (SearchSettings, _section(SearchSettings, "How the space is searched.")),
            "space": (space, _section(space, "The swept fields of train and problem.")),
            "train": (train, _section(train, "The network and its training, where not swept.")),
            "resources": (ResourceSettings, _section(ResourceSettings, "Where packs train.")),
            "budget": (BudgetSettings, _section(BudgetSettings, "What ends the study early.")),
            "results": (ResultSettings, _section(ResultSettings, "What is kept of each trial.")),
        },
    )


def section_keys(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the valid keys of each section of a study file; those of the file itself stand under ""."""
    models = {name: cast(Any, field.annotation) for name, field in model.model_fields.items()}
    inside = {name: tuple(section.model_fields) for name, section in models.items() if hasattr(section, "model_fields")}
    return {"": tuple(models), **inside}


def dimension_kinds(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the kinds of dimension each field may have, by field."""
    space = cast(Any, model.model_fields["space"].annotation)
    return {name: tuple(field.annotation.model_fields) for name, field in space.model_fields.items()}


def errors(model: type[BaseModel], content: Mapping[str, Any]) -> list[Any]:
    """Return pydantic's records of everything wrong in `content`."""
    try:
        validate(model, content)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def validate(model: type[BaseModel], content: Mapping[str, Any]) -> Any:
    """Return `content` as its model. Raises pydantic's `ValidationError`."""
    return model.model_validate_json(json.dumps(content))  # as JSON, strict validation takes lists for tuples


def _model(name: str, definitions: dict[str, Any], *, in_schema: dict[str, Any] | None = None) -> type[BaseModel]:
    config = ConfigDict(**_STRICT, json_schema_extra=in_schema)
    return create_model(name, __config__=config, **definitions)


def _section(model: type[BaseModel], sentence: str) -> Any:
    return Field(default_factory=model, description=sentence)


def _optional(sentence: str) -> Any:
    """Return the definition of a key that may be left out but not be null."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)

    return Field(default=None, description=sentence, json_schema_extra=without_default)


def _hints(settings: type) -> dict[str, Any]:
    hints = typing.get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings)}


def _own_fields(settings: type) -> dict[str, Any]:
    """Return the fields of a settings record as definitions of a model, with their own rules and defaults."""
    hints = _hints(settings)
    return {f.name: (hints[f.name], Field(default=f.default, description=describe(f.name))) for f in fields(settings)}


def _dimension(field: str, hint: Any) -> type[BaseModel]:
    """Return the model of the dimensions a field may have: every swept value obeys the rule of the field itself."""
    definitions: dict[str, Any] = {"choice": (Annotated[list[hint], MinLen(1)], _optional("One of these values."))}
    for number, *bounds in _numbers(hint):
        for kind, base, extra, sentence in (
            ("uniform", float, (), "A number from low to high, both included."),
            ("loguniform", float, (Gt(0),), "A number from low to high, every ratio equally likely."),
            ("int", int, (), "A whole number from low to high, both included."),
            ("logint", int, (Gt(0),), "A whole number from low to high, every ratio equally likely."),
        ):
            end = _annotated(base, *bounds, *extra)
            if base is int or number is float:
                definitions[kind] = (tuple[end, end], _optional(sentence))  # type: ignore[valid-type]
    return _model(f"{field}_dimension", definitions, in_schema={"minProperties": 1, "maxProperties": 1})


def _numbers(hint: Any) -> list[tuple[Any, ...]]:
    """Return those members of an annotation that are numbers: [(float, Gt(0))] of Annotated[float, Gt(0)] | None."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if is_union else (hint,)
    flat = [typing.get_args(member) if typing.get_origin(member) is Annotated else (member,) for member in members]
    return [member for member in flat if member[0] in (int, float)]


def _annotated(base: type, *bounds: Any) -> Any:
    return Annotated[(base, *bounds)] if bounds else base
