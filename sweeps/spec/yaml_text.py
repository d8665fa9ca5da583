"""A study file as text: YAML read strictly, written canonically, with values replaced from the command line.

Scalars follow YAML 1.2, where `1e-4` is a number and `no` is text. In YAML 1.1, which PyYAML reads, `1e-4` is text and
`no` is false.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

from ..errors import NOT_GIVEN, Mistake, SpecError

_MAX_DEPTH: Final = 20
_LARGEST: Final = 2**63 - 1  # largest number in a 64-bit column of the tables
_SCALARS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("merge", r"<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of version 1.2; repeated keys are kept in `repeated` as (path, line)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own declaration)

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[tuple[str, int]] = []

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        self._find_repeated(node, "", depth=0)
        return node

    def _find_repeated(self, node: Any, path: str, *, depth: int) -> None:
        if depth > _MAX_DEPTH:
            return
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._find_repeated(item, f"{path}[{index}]", depth=depth + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else "?"
                place = joined(path, name)
                if name in seen:
                    self.repeated.append((place, key.start_mark.line + 1))
                seen.add(name)
                self._find_repeated(value, place, depth=depth + 1)


class _Dumper(yaml.SafeDumper):
    """A writer that quotes only the text `_Loader` would read as something else, and writes no anchors."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own declaration)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # PyYAML reads 010 as eight


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
for _dialect in (_Loader, _Dumper):
    for _name, _pattern, _first in _SCALARS:
        _dialect.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


def joined(path: str, key: str | int) -> str:
    """Return the path of `key` inside `path`, such as `space.width.choice[1]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def read(text: str) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the plain values of a study file, with the mistakes that leave the rest readable.

    Raises `SpecError` where the file cannot be read at all: invalid YAML, an empty file, no mapping.
    """
    content, mistakes = _read_yaml(text, "")
    if content is None:
        raise SpecError([Mistake("", NOT_GIVEN, "the study file is empty", "Start with `study: NAME`.")])
    if not isinstance(content, dict):
        hint = "Write lines of `key: value`, starting with `study: NAME`."
        raise SpecError([Mistake("", content, "a study file must be a mapping of keys to values", hint)])
    return content, mistakes


def write(content: dict[str, Any]) -> str:
    """Return plain values as YAML that `read` reads back unchanged."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


def read_value(text: str) -> Any:
    """Return the value of a scalar, or of a list, mapping or quoted text on one line. Raises `SpecError`."""
    if text.startswith(("[", "{", '"', "'")):
        value, mistakes = _read_yaml(text, "")
        if mistakes:
            raise SpecError(mistakes[:1])
        return value
    kind = next((name for name, pattern, _ in _SCALARS if re.fullmatch(pattern, text)), "text")
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            if len(text) > 40 or abs(int(text)) > _LARGEST:  # Python refuses to convert thousands of digits
                raise SpecError([Mistake("", text, f"must be a number of at most {_LARGEST}")])
            return int(text)
        case "float":
            return float(text.replace(".", "") if text[-1] in "fFnN" else text)
    return text


def override(content: dict[str, Any], assignments: Sequence[str]) -> list[Mistake]:
    """Replace values of `content` in place and return the mistakes; an assignment is `a.b=value` with a YAML value."""
    mistakes = []
    for assignment in assignments:
        try:
            mistakes += _assign(content, assignment)
        except SpecError as error:
            mistakes += error.mistakes
    return mistakes


def _assign(content: dict[str, Any], assignment: str) -> list[Mistake]:
    path, equals, text = assignment.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        return [Mistake("--set", assignment, "must be a path and a value", "For example: train.epochs=500.")]
    value, mistakes = _read_yaml(text, path)
    place = content
    for depth, key in enumerate(keys[:-1]):
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
        if not isinstance(place, dict):
            outer = ".".join(keys[: depth + 1])
            return [Mistake(f"--set {path}", NOT_GIVEN, f"{outer} is a value and cannot contain keys")]
    place[keys[-1]] = value
    return mistakes


def _read_yaml(text: str, path: str) -> tuple[Any, list[Mistake]]:
    try:
        loader = _Loader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError([Mistake(path, NOT_GIVEN, f"this is not valid YAML: {_reason(error)}")]) from None
    mistakes = [
        Mistake(place, NOT_GIVEN, f"this key appears twice, again in line {line}", "Keep one of the two.")
        for place, line in loader.repeated
    ]
    holder = {path: content}
    mistakes += _remove_unusual(holder, "", depth=0)
    return holder.get(path), mistakes


def _reason(error: Exception) -> str:
    """Return PyYAML's complaint as one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        context = f"{error.context}: " if error.context else ""
        return f"{context}{error.problem}, in line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split()) or type(error).__name__


def _remove_unusual(value: Any, path: str, *, depth: int) -> list[Mistake]:
    """Remove what no table can hold (sets, bytes, keys other than text, huge numbers) and return the mistakes."""
    if depth > _MAX_DEPTH:
        raise SpecError([Mistake(f"{path[:60]}...", NOT_GIVEN, f"this is nested more than {_MAX_DEPTH} levels deep")])
    mistakes = []
    for key, item in reversed(list(enumerate(value) if isinstance(value, list) else value.items())):
        if isinstance(value, dict) and not _is_text(key):
            mistakes.append(Mistake(path, repr(key), "keys must be text", "Write the key in quotes, or remove it."))
        elif isinstance(item, (list, dict)):
            mistakes += _remove_unusual(item, joined(path, key), depth=depth + 1)
            continue
        elif isinstance(item, int) and abs(item) > _LARGEST:
            mistakes.append(Mistake(joined(path, key), item, f"must be a number of at most {_LARGEST}"))
        elif item is None or isinstance(item, (bool, int, float)) or _is_text(item):
            continue
        else:
            rule = "must be a number, text, true, false, null, a list or a mapping"
            mistakes.append(Mistake(joined(path, key), repr(item), rule))
        del value[key]
    return mistakes


def _is_text(value: Any) -> bool:
    """Return whether a value is text that can be encoded; half of a surrogate pair cannot."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False
