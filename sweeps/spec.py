"""The study file, checked: what is searched, on which problem, with what training, in which resources.

A file goes from text to a `StudySpec` in one call that finds every mistake at once. The rules of `train` and
`problem` are those of pinncore's settings, read from their annotations: none stands here a second time.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pinncore.problems import PROBLEMS
from pinncore.settings import TrainSettings

from . import specchecks, specfile, specinputs, specmodel
from .errors import NOT_GIVEN, Mistake, SpecError
from .space import Dimension, dimension
from .specmistakes import Sections, in_file_order, mistakes_of
from .specmodel import BudgetSettings as BudgetSettings
from .specmodel import ResourceSettings as ResourceSettings
from .specmodel import ResultSettings as ResultSettings
from .specmodel import SearchSettings as SearchSettings


@dataclass(frozen=True)
class StudySpec:
    """A study file without mistakes.

    `problem` (with its `name`) and `train` hold every field that is not swept, as plain JSON values with absolute
    paths; `space` holds the swept ones.
    """

    study: str
    problem: dict[str, Any]
    train: dict[str, Any]
    search: SearchSettings
    space: dict[str, Dimension]
    resources: ResourceSettings
    budget: BudgetSettings
    results: ResultSettings

    def config(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the whole configuration of one trial, `{"train": {...}, "problem": {"name": ..., ...}}`."""
        if set(params) != set(self.space):
            raise ValueError(f"params must name exactly {sorted(self.space)}, got {sorted(params)}")
        problem_class = PROBLEMS[self.problem["name"]]
        return {
            "train": _whole(TrainSettings, {**self.train, **params}),
            "problem": {"name": self.problem["name"], **_whole(problem_class, {**self.problem, **params})},
        }

    def to_plain(self) -> dict[str, Any]:
        """Return the study as the plain values of a study file, every default written out."""
        space = {name: {kind.kind: kind.arguments()} for name, kind in self.space.items()}
        named = {"search": self.search, "resources": self.resources, "budget": self.budget, "results": self.results}
        sections = {name: section.model_dump(mode="json") for name, section in named.items()}
        return copy.deepcopy(
            {
                "study": self.study,
                "problem": self.problem,
                "search": sections.pop("search"),
                "space": space,
                "train": self.train,
                **sections,
            }
        )

    def to_yaml(self) -> str:
        """Return the canonical study file; reading it gives this study again, from any folder."""
        return specfile.write(self.to_plain())

    def sha256(self) -> str:
        """Return a hash of everything in the study file, whatever its order, layout or unwritten defaults."""
        return _sha256(self.to_plain())

    def values(self, field: str) -> tuple[Any, ...]:
        """Return what a field may be: its one value, every choice, or both ends of its range; nothing if unknown."""
        if field in self.space:
            return tuple(self.space[field].corners())
        fixed = {**self.problem, **self.train}
        return (fixed[field],) if field in fixed else ()

    def section_of(self, field: str) -> str:
        """Return where a field stands: train, problem or space."""
        return "space" if field in self.space else "train" if field in self.train else "problem"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and likely to mislead, one sentence each."""
        return specchecks.warnings(self)


def load_spec(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Read the study file at `path`, with `overrides` such as `train.adam_epochs=500` on top. Raises `SpecError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SpecError([Mistake(str(path), NOT_GIVEN, _unreadable(error))]) from None
    return parse_spec(text, base=path.absolute().parent, overrides=overrides)


def parse_spec(text: str, *, base: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Read a study file's text; relative paths in it start at `base`. Raises `SpecError` with every mistake."""
    raw, mistakes = specfile.read(text)
    mistakes += specfile.override(raw, overrides)
    model = specmodel.study_file((_problem_name(raw),))
    sections = Sections(specmodel.section_keys(model), specmodel.dimension_kinds(model))
    raw = {name: section for name, section in raw.items() if section is not None or name not in sections.keys}
    known = {mistake.path for mistake in mistakes}
    mistakes += [m for m in mistakes_of(specmodel.errors(model, raw), raw, sections) if m.path not in known]
    mistakes += specchecks.of_structure(raw, sections)
    spec = _assemble(model, _readable_part(model, raw), base)
    mistakes += specchecks.of_content(spec, unsure=specchecks.unsure_fields(mistakes, sections))
    if mistakes:
        raise SpecError(in_file_order(mistakes, raw))
    return spec


def build_settings(config: Mapping[str, Mapping[str, Any]]) -> tuple[TrainSettings, Any]:
    """Return the settings records of a configuration. Raises `pinncore.errors.SettingError` for an impossible one."""
    problem = dict(config["problem"])
    problem_class = PROBLEMS[problem.pop("name")]
    return TrainSettings(**_with_tuples(config["train"])), problem_class(**_with_tuples(problem))


def config_sha256(config: Mapping[str, Any]) -> str:
    """Return the hash of a configuration: equal configurations, equal hashes, whatever the order of keys."""
    return _sha256(config)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, for editors that complete and check as one types."""
    schema = specmodel.study_file(tuple(PROBLEMS)).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _problem_name(raw: Mapping[str, Any]) -> str:
    """Return the problem a file names, or the first one where it names none that exists."""
    problem = raw.get("problem")
    name = problem.get("name") if isinstance(problem, dict) else None
    return name if isinstance(name, str) and name in PROBLEMS else next(iter(PROBLEMS))


def _readable_part(model: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file without whatever is wrong in it, so that the rest can be checked all the same."""
    content: Any = {"study": None} | {name: section for name, section in raw.items() if name in model.model_fields}
    content = copy.deepcopy(content)
    while wrong := {_smallest_part(error["loc"]) for error in specmodel.errors(model, content)}:
        for *outer, last in sorted(wrong, key=lambda keys: (len(keys), *keys[3:]), reverse=True):  # later values first
            del functools.reduce(lambda place, key: place[key], outer, content)[last]
        content.setdefault("study", "unnamed")
    return content


def _smallest_part(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return what must go with a mistake: one value of a choice, else the whole key of a section."""
    return place[: 4 if place[0] == "space" and place[2:3] == ("choice",) and len(place) > 3 else 2]


def _assemble(model: Any, content: Mapping[str, Any], base: Path) -> StudySpec:
    """Return valid content as a study, its paths absolute and its space in the order of the file."""
    file = specmodel.validate(model, content)
    dimensions = file.space.model_dump(mode="json", exclude_unset=True)
    space: dict[str, Dimension] = {}
    for name in (name for name in content.get("space", {}) if dimensions[name]):
        kind, arguments = next(iter(dimensions[name].items()))
        space[name] = dimension(kind, [_absolute(name, value, base) for value in arguments])

    def fixed(section: Any) -> dict[str, Any]:
        whole = section.model_dump(mode="json").items()
        return {name: _absolute(name, value, base) for name, value in whole if name not in space}

    return StudySpec(
        study=file.study,
        problem=fixed(file.problem),
        train=fixed(file.train),
        search=file.search,
        space=space,
        resources=file.resources,
        budget=file.budget,
        results=file.results,
    )


def _absolute(field: str, value: Any, base: Path) -> Any:
    """Return a value of `init` or `data` with its paths made absolute, and any other as it is."""

    def absolute(path: str) -> str:
        return os.path.abspath(base / os.path.expanduser(path))

    if field == "init" and value.startswith(specinputs.FILE_PREFIX):
        return specinputs.FILE_PREFIX + absolute(value.removeprefix(specinputs.FILE_PREFIX))
    if field == "data" and isinstance(value, dict):
        return {
            key: absolute(item) if key in specinputs.DATA_FILES and isinstance(item, str) else item
            for key, item in value.items()
        }
    return value


def _whole(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of every field of a settings record, whole numbers of its float fields as floats."""
    floats = {field.name for field in fields(settings) if isinstance(field.default, float)}
    return {f.name: float(values[f.name]) if f.name in floats else values[f.name] for f in fields(settings)}


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _unreadable(error: Exception) -> str:
    """Return why a study file cannot be read."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "this is a folder, not a study file"
        case OSError():
            return f"this file cannot be read ({error.strerror})"
    return "this file is not text in UTF-8"
