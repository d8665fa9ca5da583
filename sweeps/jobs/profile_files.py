"""The files `clusters.yaml` of the user and of the current folder, and which profiles they name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cluster import INLINE, LOCAL
from cluster.hiding import HIDDEN, visible_text, without_secrets
from pinncore import disk

from ..errors import NOT_GIVEN, Mistake, SpecError
from ..spec import yaml_text

FILE: Final = "clusters.yaml"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def profile_files() -> list[Path]:
    """Return the files that may define profiles; a later file overrides profiles of an earlier one."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [Path(config).expanduser() / "pinnsweep" / FILE, Path(FILE)]


def profile_sections() -> dict[str, tuple[Path, Any]]:
    """Return the file and the unchecked section of each profile. Raises `SpecError` where a file cannot be read."""
    return {name: (file, section) for file in profile_files() for name, section in _sections_of(file)}


def _sections_of(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = disk.read_text(file, yaml_text.MOST_BYTES)
    except FileNotFoundError:
        return
    except ValueError:
        raise SpecError([Mistake(str(file), NOT_GIVEN, "this file cannot be read (it is not text in UTF-8)")]) from None
    except OSError as problem:
        hint = "" if file == Path(FILE) else "Make it readable, or set XDG_CONFIG_HOME to another folder."
        raise SpecError(
            [Mistake(str(file), NOT_GIVEN, f"this file cannot be read ({problem.strerror})", hint)]
        ) from None
    try:
        content, mistakes = yaml_text.read(text)
    except SpecError as problem:
        content, mistakes = {}, list(problem.mistakes)
    mistakes += [
        Mistake(name, NOT_GIVEN, "must start with a letter and have at most 40 letters, digits, '_' and '-'")
        for name in content
        if not _NAME.fullmatch(name)
    ]
    mistakes += [
        Mistake(name, NOT_GIVEN, "this name is reserved by pinnsweep", "Rename the profile.")
        for name in (LOCAL, INLINE)
        if name in content
    ]
    if mistakes:
        raise SpecError([in_file(file, mistake) for mistake in mistakes])
    yield from content.items()


def in_file(file: Path, mistake: Mistake) -> Mistake:
    """Return a mistake with the file it stands in, without secrets."""
    place = f"{file}: {mistake.path}" if mistake.path else str(file)
    key = mistake.path.rpartition(".")[2]
    value = mistake.value if mistake.value is NOT_GIVEN else without_secrets({key: mistake.value})[key]
    hint = mistake.hint.replace(str(mistake.value), HIDDEN) if value == HIDDEN else mistake.hint
    return Mistake(place, value, visible_text(mistake.rule), hint)
