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

MOST_BYTES: Final = 4 * 2**20  # of a file that a user writes
MOST_STORED_BYTES: Final = 4 * MOST_BYTES  # of a study file with every default written out
MOST_VALUES: Final = 200_000  # keys, values, lists and mappings; an alias counts as all that it stands for
_MOST_CHARACTERS: Final = MOST_STORED_BYTES  # of all keys and values; likewise
_LONGEST: Final = 10_000  # characters of a key or value
_MOST_KEYS: Final = 1_000  # of a mapping
_MOST_ITEMS: Final = 1_000  # of a list, but for `search.list`
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


class _TooMuchError(yaml.MarkedYAMLError):
    """A limit that a text exceeds at some place."""


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of version 1.2; repeated keys are kept in `repeated` as (path, line).

    Every node is judged by its event before it is composed, so that what a text costs is bounded.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own declaration)

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[tuple[str, int]] = []
        self._values, self._characters, self._depth = 0, 0, 0
        self._may_be_long = False  # the list whose items are at depth three
        self._named: dict[str, tuple[int, int]] = {}  # values and characters of what an anchor names

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        self._find_repeated(node, "", depth=0)
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        values, characters = self._values, self._characters
        self._judge(event, parent)
        if self._depth == 2:
            self._may_be_long = isinstance(index, yaml.ScalarNode) and index.value == "list"
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self._named[event.anchor] = (self._values - values, self._characters - characters)
        return node

    def _judge(self, event: Any, parent: Any) -> None:
        """Count the node that an event begins. Raises `_TooMuchError`."""
        text = event.value if isinstance(event, yaml.ScalarEvent) else ""
        is_row = self._depth == 3 and self._may_be_long
        is_alias = isinstance(event, yaml.AliasEvent)
        values, characters = self._named.get(event.anchor, (0, 0)) if is_alias else (1, len(text))
        self._values += values
        self._characters += characters
        if is_alias and event.anchor in self.anchors and event.anchor not in self._named:
            rule = f"the alias *{event.anchor} stands inside what it names"
        elif not is_alias and event.tag is not None:
            rule = f"a value must have no tag, this has {event.tag[:60]}"
        elif self._values > MOST_VALUES:
            rule = f"there may be {MOST_VALUES:,} keys and values, also where aliases repeat them, and this is one more"
        elif self._characters > _MOST_CHARACTERS:
            rule = f"there may be {_MOST_CHARACTERS:,} characters, also where aliases repeat them, and these are more"
        elif len(text) > _LONGEST:
            rule = f"a key or value may have {_LONGEST:,} characters, this has {len(text):,}"
        elif self._depth > _MAX_DEPTH:
            rule = f"this is nested more than {_MAX_DEPTH} levels deep"
        elif isinstance(parent, yaml.MappingNode) and len(parent.value) >= _MOST_KEYS:
            rule = f"a mapping may have {_MOST_KEYS:,} keys, this has more"
        elif isinstance(parent, yaml.SequenceNode) and len(parent.value) >= _MOST_ITEMS and not is_row:
            rule = f"a list may have {_MOST_ITEMS:,} items, this has more"
        else:
            return
        raise _TooMuchError(problem=rule, problem_mark=event.start_mark)

    def _find_repeated(self, node: Any, path: str, *, depth: int) -> None:
        if depth > _MAX_DEPTH:  # by aliases
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


def write(content: dict[str, Any], *, width: float = 120) -> str:
    """Return plain values as YAML that `read` reads back unchanged, in lines of about `width` characters."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=width)


def count(value: Any) -> int:
    """Return the number of values of plain ones, as `MOST_VALUES` counts them."""
    if isinstance(value, dict):
        return 1 + sum(1 + count(item) for item in value.values())
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


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
    except _TooMuchError as error:
        raise SpecError([Mistake(path, NOT_GIVEN, _reason(error))]) from None
    except (yaml.YAMLError, ValueError) as error:
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
    """Remove what no table can hold (keys other than text, huge numbers, half of a character); return the mistakes."""
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
            mistakes.append(Mistake(joined(path, key), repr(item), "must be text that UTF-8 can hold"))
        del value[key]
    return mistakes


def _is_text(value: Any) -> bool:
    """Return whether a value is text that can be encoded; half of a surrogate pair cannot."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False
