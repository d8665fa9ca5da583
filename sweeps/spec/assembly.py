"""From the plain content of a study file to the parts of a study: what is wrong left out, paths absolute."""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Final

from ..errors import Mistake
from . import assembly_space, configurations, model
from .mistakes import Sections, keys_in
from .sections import SearchSettings
from .sources import DATA_FILES, FILE_PREFIX, absolute_source

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def readable_part(file_model: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file without whatever is wrong in it, so that the rest can be checked all the same."""
    content: Any = {"study": None} | {name: section for name, section in raw.items() if name in file_model.model_fields}
    content = copy.deepcopy(content)
    while wrong := {_smallest_part(tuple(keys_in(content, error))) for error in model.errors(file_model, content)}:
        for *outer, last in sorted(wrong, key=_position, reverse=True):  # later values first
            del functools.reduce(lambda place, key: place[key], outer, content)[last]
        content.setdefault("study", "unnamed")
    return content


def assembled(
    file_model: Any, content: Mapping[str, Any], sections: Sections, base: Path, *, unsure: Set[str]
) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the parts of a study by name, and what is wrong with the conditions of its space.

    `content` is the readable part of the file; relative paths in it start at `base`. Of the fields in `unsure`,
    which have a mistake, nothing is said.
    """
    file = model.validate(file_model, content)

    def absolute(field: str, value: Any) -> Any:
        return _absolute(field, value, base)

    search = file.search.model_dump(mode="json", by_alias=True, exclude_unset=True)
    rows = [{name: absolute(name, value) for name, value in row.items()} for row in search.get("list") or ()]
    search["list"] = rows or None
    for key in ("warm_start", "reuse"):
        search[key] = [_absolute_path(folder, base) for folder in getattr(file.search, key)]
    dimensions = file.space.model_dump(mode="json", exclude_unset=True)
    written = {name: dimensions[name] for name in content.get("space", {})}
    space, mistakes = assembly_space.built(written, sections.keys["space"], unsure, absolute)
    if file.search.sampler == "list":
        space = dict(configurations.dimensions(rows))
        always = {name for name in space if all(name in row for row in rows)}
    else:
        always = {name for name, kind in space.items() if not kind.when}

    def fixed(section: Any) -> dict[str, Any]:
        whole = section.model_dump(mode="json").items()
        return {name: absolute(name, value) for name, value in whole if name not in always}

    return {
        "study": file.study,
        "problem": fixed(file.problem),
        "train": fixed(file.train),
        "search": model.validate(SearchSettings, search),
        "space": space,
        "resources": file.resources,
        "budget": file.budget,
        "results": file.results,
        "state": file.state if file.state is None or URL.match(file.state) else _absolute_path(file.state, base),
    }, mistakes


def _position(place: tuple[str | int, ...]) -> tuple[int, list[int]]:
    return len(place), [key for key in place if isinstance(key, int)]


def _smallest_part(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return what must go with a mistake: one value of a choice or of a listed row, else the whole key of a section."""
    in_choice = place[0] == "space" and place[2:3] == ("choice",)
    in_row = place[:2] == ("search", "list")
    return place[: 4 if (in_choice or in_row) and len(place) > 3 else 2]


def _absolute(field: str, value: Any, base: Path) -> Any:
    """Return a value of `init` or `data` with its paths made absolute, and any other as it is."""
    if field == "init" and isinstance(value, str):
        if value.startswith(FILE_PREFIX):
            return FILE_PREFIX + _absolute_path(value.removeprefix(FILE_PREFIX), base)
        return absolute_source(value, base)
    if field == "data" and isinstance(value, dict):
        return {
            key: _absolute_path(item, base) if key in DATA_FILES and isinstance(item, str) else item
            for key, item in value.items()
        }
    return value


def _absolute_path(path: str, base: Path) -> str:
    return os.path.abspath(base / os.path.expanduser(path))
