"""The values of a study file as it gives them: read in milliseconds, without the check by `parse_spec`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import SpecError
from . import yaml_text


def outline(text: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plain values of a study file, without defaults; with `keys`, those of these top-level keys at least.

    With `keys` the other lines are skipped where possible, as YAML of a long file takes seconds. Raises `SpecError`
    where the text is no YAML mapping, or holds values that a study file cannot hold.
    """
    if keys:
        try:
            return _read("\n".join(_blocks(text, keys)))
        except SpecError:
            pass  # unusual YAML, or none of the keys
    return _read(text)


def _read(text: str) -> dict[str, Any]:
    values, mistakes = yaml_text.read(text)
    if mistakes:
        raise SpecError(mistakes)
    return values


def _blocks(text: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield the lines of some top-level keys: each key's line and the indented ones below it."""
    is_kept = False
    for line in text.splitlines():
        if line[:1] not in ("", " ", "\t", "#", "-", "}", "]"):
            is_kept = line.partition(":")[0].strip("\"' ") in keys
        if is_kept:
            yield line
