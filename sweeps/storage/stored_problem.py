"""The problem of a study, in its folder or object store: how tables and people see it, and the text that defines it.

Whoever reads results reads this file and never runs the code of a problem. It is written before the study file, and
stays what it was when the study began.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pinncore.disk import read_bytes, write_whole
from pinncore.problems.source import ProblemSource

from ..errors import StudyError
from .object_store import Remote
from .own_files import PROBLEM_FILE

_MOST_BYTES: Final = 8_000_000


def read_problem(place: Path | Remote) -> ProblemSource:
    """Return the problem of a study in a folder or an object store. Raises `StudyError` where it cannot be read."""
    try:
        return ProblemSource.from_plain(json.loads(_content(place)))
    except FileNotFoundError:
        rule = "is missing, which says what the columns of the tables are"
    except OSError as problem:
        rule = f"cannot be read ({problem.strerror})"
    except (KeyError, TypeError, ValueError):
        rule = "is damaged, or was written by another version"
    raise StudyError(f"{place}/{PROBLEM_FILE} {rule}. Restore it, or run the study again with its study file")


def text_of(source: ProblemSource) -> str:
    """Return the content of the file of a problem."""
    return json.dumps(source.to_plain(), indent=1) + "\n"


def write_problem(study_dir: Path, source: ProblemSource) -> None:
    """Write the problem of the study in a folder, where that changes anything."""
    file, text = study_dir / PROBLEM_FILE, text_of(source)
    try:
        is_there = file.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        study_dir.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)


def _content(place: Path | Remote) -> Any:
    if isinstance(place, Path):
        return read_bytes(place / PROBLEM_FILE, _MOST_BYTES)
    content = place.get(PROBLEM_FILE)
    if content is None:
        raise FileNotFoundError
    return content
