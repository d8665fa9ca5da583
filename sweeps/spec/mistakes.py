"""Errors of the validator as mistakes for the author of a study file: place, rule, nearest valid name, way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import NOT_GIVEN, Mistake, listed
from .dimensions import KINDS
from .meant import LEFT_OUT, is_no_value, number_hint, other_names, why_not
from .yaml_text import joined

_KIND_OF_VALUE: Final = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "finite_number": "must be finite",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "none_required": "must be null",
    "missing": "must be given",
}
_OF_ONE_VALUE: Final = ("int_type", "float_type", "bool_type", "string_type", "finite_number", "literal_error")
_MANY: Final = 20  # names that a message lists
_RULES: Final = {  # of keys that take values of several kinds
    "search.pruner": "must be the name of a pruner or a mapping of keys to values",
    "search.list": "must be a list of mappings or the path of a table",
    "resources.device": "must be cuda:N, N the index of a GPU",
    "track.mlflow.uri": "must be a tracking URI, such as http://HOST:5000 or sqlite:////PATH/mlflow.db",
    "notify.command": "must be a list of words, or text",
    "notify.webhook": "must be http://..., https://... or env:NAME, the name of a variable that holds such an address",
}
_SECRET: Final = ("webhook",)  # keys whose values are never shown, wherever they stand
_BOUND: Final = {
    "greater_than_equal": ("ge", "must be at least"),
    "greater_than": ("gt", "must be greater than"),
    "less_than_equal": ("le", "must be at most"),
    "less_than": ("lt", "must be less than"),
}


@dataclass(frozen=True)
class Sections:
    """The names a study file may use: `keys` by section ("" is the file itself), `kinds` of dimension by field."""

    keys: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, tuple[str, ...]]

    def home(self, key: str) -> str | None:
        """Return the section in which `key` is valid, other than `space` and the file itself, or None."""
        return next((name for name, keys in self.keys.items() if name not in ("", "space") and key in keys), None)


def mistakes_of(errors: Iterable[Mapping[str, Any]], raw: Mapping[str, Any], sections: Sections) -> list[Mistake]:
    """Return pydantic's error records on `raw` as mistakes, one for all branches of a union."""
    by_path: dict[str, Mistake] = {}
    for error in errors:
        if error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]:
            continue  # only too short without its other mistakes
        keys = keys_in(raw, error)
        mistake = _mistake(error, keys, sections)
        before = by_path.get(mistake.path)
        if before is not None and before.rule != mistake.rule:
            rule = f"{before.rule} or {mistake.rule.removeprefix('must be ')}"
            mistake = Mistake(before.path, before.value, rule, before.hint or mistake.hint)
        by_path[mistake.path] = _without_secret(mistake)
    return list(by_path.values())


def _without_secret(mistake: Mistake) -> Mistake:
    is_secret = mistake.path.rpartition(".")[2] in _SECRET
    return replace(mistake, value=NOT_GIVEN) if is_secret else mistake


def in_file_order(mistakes: Sequence[Mistake], raw: Mapping[str, Any]) -> list[Mistake]:
    """Return mistakes in the order of their places in the file; those without a place there come last."""
    places = {path: position for position, path in enumerate(_paths(raw, ""))}
    return sorted(mistakes, key=lambda mistake: places.get(mistake.path, len(places)))


def nearest(name: str, valid: Sequence[str]) -> list[str]:
    """Return the valid names that `name` may stand for, best first."""
    meant = other_names(name, valid)
    if meant:
        return meant
    close = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.6)
    return close or [candidate for candidate in valid if name.lower() in candidate.split("_")]


def did_you_mean(name: Any, valid: Sequence[str]) -> str:
    """Return a hint: the nearest valid name as a question, or all valid names, the first few of very many."""
    names = nearest(name, valid) if isinstance(name, str) else []
    if names:
        return f"Did you mean {' or '.join(names)}?"
    return f"Valid: {listed(valid, _MANY)}."


def _mistake(error: Mapping[str, Any], keys: Sequence[str | int], sections: Sections) -> Mistake:
    path = ""
    for key in keys:
        path = joined(path, key)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return Mistake(path, value, *_unknown_key(keys, sections))
    in_range = len(keys) >= 3 and keys[0] == "space" and keys[2] not in ("choice", "when")
    if in_range and kind in ("too_short", "too_long", "tuple_type", "missing"):
        range_path = joined(joined("space", keys[1]), keys[2])
        hint = "A list of values to choose from is written {choice: [...]}."
        return Mistake(range_path, NOT_GIVEN if kind == "missing" else value, "must be [low, high], two numbers", hint)
    if kind == "missing":
        return Mistake(path, NOT_GIVEN, "must be given", _way_out(keys, value))
    if kind == "literal_error":
        rule, hint = _not_allowed(value, context["expected"])
        return Mistake(path, value, rule, hint or _way_out(keys, value, kind))
    if kind == "too_short":
        least = context["min_length"]
        hint = "" if least == 1 else "Write a single one without a list."
        return Mistake(path, value, f"must list at least {least} value{'' if least == 1 else 's'}", hint)
    if kind in _BOUND:
        name, words = _BOUND[kind]
        hint = "A logarithmic range cannot reach 0; start at a small positive number." if _is_log(keys) else ""
        return Mistake(path, value, f"{words} {context[name]:.15g}", hint)
    if kind == "string_pattern_mismatch" and path not in _RULES:
        rule = "must be a safe folder name: letters, digits, '.', '_' and '-', the first a letter or digit"
        return Mistake(path, value, f"{rule}, at most 100 characters")
    in_union = len(error["loc"]) > len(keys)
    hint = "" if in_union and kind == "string_type" else _way_out(keys, value, kind)
    return Mistake(path, value, _RULES.get(path, _KIND_OF_VALUE.get(kind, error["msg"])), hint)


def _unknown_key(keys: Sequence[str | int], sections: Sections) -> tuple[str, str]:
    """Return rule and hint for a key that is not valid in its section."""
    key = str(keys[-1])
    if len(keys) == 3 and keys[0] == "space":
        field, kinds = str(keys[1]), sections.kinds[str(keys[1])]
        if key in KINDS:
            return f"{key} cannot draw values of {field}", f"For {field} write {' or '.join(kinds)}."
        return "is not a kind of dimension", did_you_mean(key, (*kinds, "when"))
    section = ".".join(map(str, keys[:-1]))
    home = sections.home(key)
    if section == "space" or keys[:2] == ["search", "list"]:
        rule = "names no field of train or problem" + (", so it cannot be swept" if section == "space" else "")
        return rule, f"It belongs under {home}." if home else did_you_mean(key, sections.keys["space"])
    if home is not None:
        return "does not belong here", f"It belongs under {home}."
    valid = sections.keys.get(section, ())
    elsewhere = nearest(key, [name for names in sections.keys.values() for name in names])
    if not nearest(key, valid) and elsewhere:
        home = sections.home(elsewhere[0])
        place = f" under {home}" if home else ", outside any section"
        return "is an unknown key", f"Did you mean {elsewhere[0]}{place}?"
    return "is an unknown key", did_you_mean(key, valid)


def _not_allowed(value: Any, expected: str) -> tuple[str, str]:
    """Return rule and hint for a value that is not allowed; pydantic writes the allowed ones as 'a', 'b' or 'c'."""
    allowed = [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
    rule = f"must be {allowed[0]}" if len(allowed) == 1 else f"must be one of {', '.join(allowed)}"
    if not isinstance(value, str):
        return rule, ""
    names = nearest(value, allowed)
    return rule, why_not(value, allowed) or (f"Did you mean {' or '.join(names)}?" if names else "")


def _way_out(keys: Sequence[str | int], value: Any, kind: str = "") -> str:
    """Return a hint on what to write instead where the value suggests it, else an empty text."""
    if keys == ["study"] and kind != "string_type":
        return "Write `study: NAME`; results go into a folder of that name."
    if kind == "model_type" and keys[0] == "space" and len(keys) == 2:
        return "Write it as {choice: [one, another]} or as a range."
    if kind == "model_type" and keys[0] == "track":
        return "Write {} for its defaults." if len(keys) > 1 else "For example: track: {tensorboard: {}}."
    if is_no_value(value) and _may_be_left_out(keys, kind):
        return LEFT_OUT
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return number_hint(value, is_whole=kind == "int_type")
    if kind == "list_type" and isinstance(value, (str, int, float)):
        return f"Write [{value}]."
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}."
    if kind == "string_type" and isinstance(value, (int, float, bool)):
        return f'Write "{value}" in quotes.'
    return ""


def keys_in(raw: Any, error: Mapping[str, Any]) -> list[str | int]:
    """Return the keys of an error's place in the file, without pydantic's names for the branches of a union."""
    keys: list[str | int] = []
    place = raw
    for key in error["loc"]:
        is_item = isinstance(place, list) and isinstance(key, int) and key < len(place)
        if is_item or (isinstance(place, dict) and key in place):
            place = place[key]
            keys.append(key)
        elif error["type"] == "missing" and key == error["loc"][-1]:
            keys.append(key)
    return keys


def _paths(value: Any, path: str) -> Iterable[str]:
    """Yield the path of everything in a study file, in file order."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, joined(path, key))


def _is_log(keys: Sequence[str | int]) -> bool:
    return len(keys) == 4 and keys[0] == "space" and keys[2] in ("loguniform", "logint")


def _may_be_left_out(keys: Sequence[str | int], kind: str) -> bool:
    """Return whether what stands at `keys` has a default, or is one of several values to choose from."""
    is_in_range = keys[0] == "space" and "choice" not in keys
    return kind in _OF_ONE_VALUE and not is_in_range
