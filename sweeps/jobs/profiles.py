"""`clusters.yaml`: the places where jobs run, by name; one file of the user's and one in the current folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from cluster import BACKENDS, INLINE, LOCAL, Profile

from ..errors import NOT_GIVEN, Mistake, SpecError
from ..spec import yaml_text
from ..spec.mistakes import Sections, did_you_mean, in_file_order, mistakes_of

FILE: Final = "clusters.yaml"
KINDS: Final = tuple(BACKENDS)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def profile_files() -> list[Path]:
    """Where profiles are looked for; of two with one name the later file's counts."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [Path(config).expanduser() / "pinnsweep" / FILE, Path(FILE)]


def find_profile(name: str) -> Profile:
    """The profile of that name. Raises `SpecError` where there is none, and with every mistake in it."""
    found = _sections()
    if name not in found:
        places = " or ".join(map(str, profile_files()))
        names = (LOCAL, INLINE, *found)
        hint = f"{did_you_mean(name, names)} Profiles stand in {places}."
        raise SpecError([Mistake("", name, "there is no profile of this name", hint)])
    return _read(name, *found[name])


def all_profiles() -> dict[str, Profile]:
    """Every profile by name. Raises `SpecError` with every mistake of every file."""
    profiles, mistakes = dict[str, Profile](), list[Mistake]()
    for name, section in _sections().items():
        try:
            profiles[name] = _read(name, *section)
        except SpecError as problem:
            mistakes += problem.mistakes
    if mistakes:
        raise SpecError(mistakes)
    return profiles


def profile_names() -> list[str]:
    """The names of all profiles, right or wrong. Raises `SpecError` for files that are none."""
    return list(_sections())


def _sections() -> dict[str, tuple[Path, Any]]:
    """Each profile's section as it stands, and the file it stands in. Raises `SpecError` for files that are none."""
    return {name: (file, section) for file in profile_files() for name, section in _sections_of(file)}


def _sections_of(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not text in UTF-8"
        raise SpecError([Mistake(str(file), NOT_GIVEN, f"this file cannot be read ({reason})")]) from None
    try:
        content, mistakes = yaml_text.read(text)
    except SpecError as problem:
        mistakes, content = list(problem.mistakes), {}
    mistakes += [
        Mistake(name, NOT_GIVEN, "must begin with a letter and hold letters, digits, '_' and '-', at most 40")
        for name in content
        if not _NAME.fullmatch(name)
    ]
    mistakes += [
        Mistake(name, NOT_GIVEN, "this name is taken by pinnsweep itself", "Give the profile another one.")
        for name in (LOCAL, INLINE)
        if name in content
    ]
    if mistakes:
        raise SpecError([_in_file(file, mistake) for mistake in mistakes])
    yield from content.items()


def _read(name: str, file: Path, section: Any) -> Profile:
    kind = section.get("kind") if isinstance(section, dict) else None
    if not isinstance(section, dict):
        rule = "must be a mapping of keys to values"
        mistakes = [Mistake(name, section, rule, f"Begin with kind: {' or '.join(KINDS)}.")]
    elif not isinstance(kind, str) or kind not in KINDS:
        value = kind if "kind" in section else NOT_GIVEN
        mistakes = [Mistake(f"{name}.kind", value, f"must be one of {', '.join(KINDS)}", _guess(kind))]
    else:
        values = {key: value for key, value in section.items() if key != "kind"}
        try:
            # as JSON, where a list may stand for a tuple although nothing else is converted
            return TypeAdapter(BACKENDS[kind].profile).validate_json(json.dumps(values), strict=True)
        except ValidationError as problem:
            mistakes = _explained(name, values, BACKENDS[kind].profile, problem)
    raise SpecError([_in_file(file, mistake) for mistake in mistakes])


def _explained(name: str, values: dict[str, Any], kind: type[Profile], problem: ValidationError) -> list[Mistake]:
    raw = {name: values}
    keys = {"": (name,), name: tuple(field.name for field in fields(kind))}
    errors: list[dict[str, Any]] = [{**error, "loc": (name, *error["loc"])} for error in problem.errors()]
    for error in errors:
        if error["type"] == "unexpected_keyword_argument":  # what a dataclass says of an unknown key
            error["type"] = "extra_forbidden"
    own = [Mistake(name, NOT_GIVEN, str(error["ctx"]["error"])) for error in errors if error["type"] == "value_error"]
    others = [error for error in errors if error["type"] != "value_error"]
    return in_file_order([*own, *mistakes_of(others, raw, Sections(keys, {}))], raw)


def _guess(kind: Any) -> str:
    return did_you_mean(kind, KINDS) if isinstance(kind, str) else ""


def _in_file(file: Path, mistake: Mistake) -> Mistake:
    place = f"{file}: {mistake.path}" if mistake.path else str(file)
    return Mistake(place, mistake.value, mistake.rule, mistake.hint)
