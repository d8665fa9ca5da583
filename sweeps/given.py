"""A study file as Python code gives it: a path, its text, or its content as a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from . import specfile
from .errors import Mistake, SpecError

if TYPE_CHECKING:
    from .spec import StudySpec

Given = str | os.PathLike[str] | Mapping[str, Any]


def read_given(spec: Given) -> Path | StudySpec:
    """The path that is meant, or the study of a text or mapping, whose relative paths start at the current folder.

    Raises `SpecError` with every mistake of a text or mapping; what a path leads to is not looked at.
    """
    from .spec import parse_spec  # only now: it brings torch

    if isinstance(spec, Mapping):
        return parse_spec(specfile.write(_plain(spec, "")), base=Path.cwd())
    if isinstance(spec, str) and ("\n" in spec or spec.lstrip().startswith("{")):
        return parse_spec(spec, base=Path.cwd())
    return Path(spec).expanduser()


def _plain(value: Any, path: str) -> Any:
    """A value as YAML writes it: paths as text, tuples as lists, NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, specfile.joined(path, str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, specfile.joined(path, index)) for index, item in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    rule = "must be a number, text, True, False, None, a list or a mapping"
    raise SpecError([Mistake(path or "spec", repr(value), rule)])
