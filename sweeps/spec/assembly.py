"""From the plain content of a study file to the parts of a study: mistakes left out, paths made absolute."""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Callable, Collection, Mapping, Set
from pathlib import Path
from typing import Any, Final

from ..errors import NOT_GIVEN, Mistake
from . import configurations, model
from .conditions import never_active, possible_values, with_conditions
from .dimensions import KINDS, Dimension, Range, dimension
from .mistakes import Sections, did_you_mean, keys_in
from .sections import SearchSettings, TrackSettings
from .sources import DATA_FILES, FILE_PREFIX, absolute_source

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_Absolute = Callable[[str, Any], Any]  # returns the value of a field with its paths made absolute


def readable_part(file_model: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file without its mistakes, so that the rest can be checked all the same."""
    content: Any = {"study": None} | {name: section for name, section in raw.items() if name in file_model.model_fields}
    content = copy.deepcopy(content)
    while wrong := {_smallest_part(tuple(keys_in(content, error))) for error in model.errors(file_model, content)}:
        for *outer, last in sorted(wrong, key=_position, reverse=True):  # later values first
            del functools.reduce(lambda place, key: place[key], outer, content)[last]
        content.setdefault("study", "unnamed")
    return content


def assemble(
    file_model: Any, content: Mapping[str, Any], sections: Sections, base: Path, *, unsure: Set[str]
) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the parts of a study by name, and the mistakes in the conditions of its space.

    `content` is the readable part of the file; its relative paths start at `base`. The fields in `unsure` have a
    mistake already and are not reported again.
    """
    file = model.validate(file_model, content)
    absolute = functools.partial(_absolute, base=base)
    search = file.search.model_dump(mode="json", by_alias=True, exclude_unset=True)
    rows = [{name: absolute(name, value) for name, value in row.items()} for row in search.get("list") or ()]
    search["list"] = rows or None
    for key in ("warm_start", "reuse"):
        search[key] = [_absolute_path(folder, base) for folder in getattr(file.search, key)]
    search["branch_of"] = file.search.branch_of and _absolute_path(file.search.branch_of, base)
    dimensions = file.space.model_dump(mode="json", exclude_unset=True)
    written = {name: dimensions[name] for name in content.get("space", {})}
    space, mistakes = _space(written, sections.keys["space"], unsure, absolute)
    if file.search.traits.reads_list:
        space = dict(configurations.dimensions(rows))
        always_given = {name for name in space if all(name in row for row in rows)}
    else:
        always_given = {name for name, kind in space.items() if not kind.when}

    def fixed(section: Any) -> dict[str, Any]:
        values = section.model_dump(mode="json").items()
        return {name: absolute(name, value) for name, value in values if name not in always_given}

    return {
        "study": file.study,
        "problem": fixed(file.problem),
        "train": fixed(file.train),
        "search": model.validate(SearchSettings, search),
        "space": space,
        "resources": file.resources,
        "budget": file.budget,
        "results": file.results,
        "track": _track(file.track, base),
        "notify": file.notify,
        "state": file.state if file.state is None or URL.match(file.state) else _absolute_path(file.state, base),
    }, mistakes


def _position(place: tuple[str | int, ...]) -> tuple[int, list[int]]:
    return len(place), [key for key in place if isinstance(key, int)]


def _smallest_part(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return what to remove with a mistake: one value of a choice or of a listed row, else a whole key of a section."""
    in_choice = place[0] == "space" and place[2:3] == ("choice",)
    in_row = place[:2] == ("search", "list")
    return place[: 4 if (in_choice or in_row) and len(place) > 3 else 2]


# ---- the space ----


def _space(
    written: Mapping[str, Mapping[str, Any]], fields: Collection[str], unsure: Set[str], absolute: _Absolute
) -> tuple[dict[str, Dimension], list[Mistake]]:
    """Return the space of the readable part of a file, and the mistakes in its conditions, which are left out.

    `fields` are all fields that can be swept; those in `unsure` have a mistake already and are not reported again.
    """
    space: dict[str, Dimension] = {}
    for name, content in written.items():
        for kind in [key for key in content if key in KINDS][:1]:
            space[name] = dimension(kind, [absolute(name, value) for value in content[kind]])
    mistakes: list[Mistake] = []
    conditions: dict[str, dict[str, list[Any]]] = {name: {} for name in space}
    for name, allowed in conditions.items():
        for parent, value in written[name].get("when", {}).items():
            place = f"space.{name}.when.{parent}"
            if parent in unsure:
                allowed[parent] = []
            elif parent in space:
                values = [absolute(parent, item) for item in value] if isinstance(value, list) else value
                allowed[parent], wrong = _possible_values(space[parent], parent, absolute(parent, values), place)
                mistakes += wrong
            else:
                mistakes.append(_not_swept(parent, value, place, fields, [other for other in space if other != name]))
    complete = {name: allowed for name, allowed in conditions.items() if all(allowed.values())}
    space, circles = with_conditions(space, complete)
    mistakes += [_circle(circle) for circle in circles]
    rule, hint = "holds for no combination of the other dimensions", "Check the conditions of the dimensions it names."
    never = (name for name, kind in space.items() if kind.when and never_active(space, name))
    return space, mistakes + [Mistake(f"space.{name}.when", NOT_GIVEN, rule, hint) for name in never]


def _possible_values(kind: Dimension, parent: str, value: Any, place: str) -> tuple[list[Any], list[Mistake]]:
    """Return the values of `parent` that a condition names, and the others as mistakes."""
    values = possible_values(kind, value)
    if values is None:
        rule = f"{parent} is continuous, so a condition cannot name one of its values"
        return [], [Mistake(place, value, rule, "Let it depend on a choice or a range of whole numbers.")]
    possible, impossible = values
    if not possible and not impossible:
        return [], [Mistake(place, value, "must list at least 1 value")]
    hint = "Valid: whole numbers from {} to {}.".format(*kind.arguments()) if isinstance(kind, Range) else ""
    rule = f"is not a value of space.{parent}"
    choices = [str(own) for own in kind.arguments()]
    return possible, [Mistake(place, wrong, rule, hint or did_you_mean(wrong, choices)) for wrong in impossible]


def _not_swept(parent: str, value: Any, place: str, fields: Collection[str], others: list[str]) -> Mistake:
    if parent in fields:
        hint = f"Sweep {parent} under space, or remove it here."
        return Mistake(place, value, f"{parent} is not swept, so nothing can depend on it", hint)
    hint = did_you_mean(parent, others) if others else ""
    return Mistake(place, value, "does not name a swept field", hint)


def _circle(circle: list[str]) -> Mistake:
    pairs = zip(circle, [*circle[1:], circle[0]], strict=True)
    chain = ", ".join(f"{field} depends on {parent}" for field, parent in pairs)
    rule = f"{chain}, so {'none of them would ever' if len(circle) > 1 else 'it would never'} exist"
    return Mistake(f"space.{circle[0]}.when", NOT_GIVEN, rule, "Leave one of these conditions out.")


# ---- paths ----


def _absolute(field: str, value: Any, base: Path) -> Any:
    """Return a value of `init`, `data` or `points_table` with its paths made absolute, any other value unchanged."""
    if field == "init" and isinstance(value, str):
        if value.startswith(FILE_PREFIX):
            return FILE_PREFIX + _absolute_path(value.removeprefix(FILE_PREFIX), base)
        return absolute_source(value, base)
    if field == "points_table" and isinstance(value, str):
        return _absolute_path(value, base)
    if field == "data" and isinstance(value, dict):
        return {
            key: _absolute_path(item, base) if key in DATA_FILES and isinstance(item, str) else item
            for key, item in value.items()
        }
    return value


def _track(track: TrackSettings, base: Path) -> TrackSettings:
    """Return the trackers with the folder of event files made absolute."""
    tensorboard = track.tensorboard
    if tensorboard is None or tensorboard.folder is None:
        return track
    folder = _absolute_path(tensorboard.folder, base)
    return track.model_copy(update={"tensorboard": tensorboard.model_copy(update={"folder": folder})})


def _absolute_path(path: str, base: Path) -> str:
    return os.path.abspath(base / os.path.expanduser(path))
