"""Profiles of the places where jobs run, from `clusters.yaml` of the user and of the current folder."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from cluster import BACKENDS, INLINE, LOCAL, Profile

from ..errors import NOT_GIVEN, Mistake, SpecError
from ..spec.mistakes import Sections, did_you_mean, in_file_order, mistakes_of
from .profile_files import in_file, profile_files, profile_sections

KINDS: Final = tuple(BACKENDS)


def find_profile(name: str) -> Profile:
    """Return the profile of a name. Raises `SpecError` where it does not exist, or with every mistake in it."""
    sections = profile_sections()
    if name not in sections:
        files = " or ".join(map(str, profile_files()))
        names = (LOCAL, INLINE, *sections)
        hint = f"{did_you_mean(name, names)} Profiles are defined in {files}."
        raise SpecError([Mistake("", name, "there is no profile of this name", hint)])
    return _read_profile(name, *sections[name])


def all_profiles() -> dict[str, Profile]:
    """Return all profiles by name. Raises `SpecError` with every mistake of every file."""
    profiles, mistakes = dict[str, Profile](), list[Mistake]()
    for name, section in profile_sections().items():
        try:
            profiles[name] = _read_profile(name, *section)
        except SpecError as problem:
            mistakes += problem.mistakes
    if mistakes:
        raise SpecError(mistakes)
    return profiles


def _read_profile(name: str, file: Path, section: Any) -> Profile:
    kind = section.get("kind") if isinstance(section, dict) else None
    if not isinstance(section, dict):
        rule = "must be a mapping of keys to values"
        mistakes = [Mistake(name, section, rule, f"Start with kind: {' or '.join(KINDS)}.")]
    elif not isinstance(kind, str) or kind not in KINDS:
        value = kind if "kind" in section else NOT_GIVEN
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        mistakes = [Mistake(f"{name}.kind", value, f"must be one of {', '.join(KINDS)}", hint)]
    else:
        values = {key: value for key, value in section.items() if key != "kind"}
        try:
            # from JSON, because strict validation then still accepts a list for a tuple
            return TypeAdapter(BACKENDS[kind].profile).validate_json(json.dumps(values), strict=True)
        except ValidationError as problem:
            mistakes = _profile_mistakes(name, values, BACKENDS[kind].profile, problem)
    raise SpecError([in_file(file, mistake) for mistake in mistakes])


def _profile_mistakes(
    name: str, values: dict[str, Any], kind: type[Profile], problem: ValidationError
) -> list[Mistake]:
    raw = {name: values}
    keys = {"": (name,), name: tuple(field.name for field in fields(kind))}
    errors: list[dict[str, Any]] = [{**error, "loc": (name, *error["loc"])} for error in problem.errors()]
    for error in errors:
        if error["type"] == "unexpected_keyword_argument":  # how a dataclass reports an unknown key
            error["type"] = "extra_forbidden"
    own = [Mistake(name, NOT_GIVEN, str(error["ctx"]["error"])) for error in errors if error["type"] == "value_error"]
    others = [error for error in errors if error["type"] != "value_error"]
    return in_file_order([*own, *mistakes_of(others, raw, Sections(keys, {}))], raw)
