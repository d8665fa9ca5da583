"""The study file in a study's folder. Its last line shows that it is whole; the database holds a copy."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pinncore.disk import read_bytes

from ..errors import SpecError, StudyError
from ..spec.outline import outline
from ..spec.yaml_text import MOST_STORED_BYTES
from ..storage.database import Database, database
from ..storage.object_store import Remote
from ..storage.optuna_sql import StudyReader, find_attributes

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

SPEC_FILE: Final = "study.yaml"
END: Final = "# end of the study file"  # its last line, missing in a torn file
STUDY_YAML: Final = "study_yaml"  # attribute of the study in its database: the whole text
LIMIT, OBJECTIVES, IN_PERCENT = "limit", "objectives", "in_percent"  # further attributes, derived from the study file


def stored_text(spec: StudySpec) -> str:
    """Return the text of the study file in the study's folder. Raises `StudyError` where it is too long to be read."""
    text = f"{spec.to_yaml()}{END}\n"
    if len(text) > MOST_STORED_BYTES:  # YAML is written in ASCII
        raise StudyError(
            f"with its defaults the study file has {len(text):,} bytes, at most {MOST_STORED_BYTES:,} are read: list "
            "fewer configurations, or shorter values"
        )
    return text


def whole_text(study_dir: Path | Remote) -> str:
    """Return the study file, or the copy in the database where the file is torn. Raises `StudyError`."""
    text = read_text(study_dir)
    if is_whole(text) or isinstance(study_dir, Remote):  # objects are never torn
        return text
    copy = _copy(study_dir, text)
    if copy is None:  # there is no database, as beside tables that were copied alone
        return text
    if not copy.startswith(text):
        raise StudyError(
            f"{study_dir / SPEC_FILE} lacks its last line ({END}) and differs from the copy in the database: it is "
            "torn, or was changed by hand. Restore it, or add that line if it is whole"
        )
    return copy


def read_text(study_dir: Path | Remote) -> str:
    """Return the study file as it is. Raises `StudyError` where it cannot be read."""
    file = f"{study_dir}/{SPEC_FILE}"
    try:
        if isinstance(study_dir, Path):
            return read_bytes(study_dir / SPEC_FILE, MOST_STORED_BYTES).decode("utf-8")
        content = study_dir.get(SPEC_FILE)
        if content is None:
            raise StudyError(f"there is no study in {study_dir}: it has no {SPEC_FILE}")
        return content.decode("utf-8")
    except OSError as problem:
        raise StudyError(f"{file} cannot be read ({problem.strerror})") from None
    except UnicodeDecodeError:
        raise StudyError(f"{file} cannot be read: it is not text in UTF-8. Restore it") from None


def is_whole(text: str) -> bool:
    """Return whether a study file has its last line."""
    return text.rstrip("\n").rpartition("\n")[2] == END


def identified(text: str, study_dir: Path) -> tuple[str, Database]:
    """Return the study's name and its database, from the text of its study file. Raises `StudyError`."""
    try:
        values = outline(text, ("study", "state"))
    except SpecError as problem:
        raise StudyError(f"{study_dir / SPEC_FILE} cannot be used:\n{problem}") from None
    state = values.get("state")
    return str(values.get("study", study_dir.name)), database(study_dir, None if state is None else str(state))


def open_reader(study_dir: Path) -> StudyReader:
    """Return the database of the study in a folder, opened for reading. Raises `StudyError`."""
    name, where = identified(whole_text(study_dir), study_dir)
    return StudyReader(where, name)


def _copy(study_dir: Path, text: str) -> str | None:
    """Return the copy of the study file in the database, None where no database holds one.

    A torn text may name another study or database than the study has.
    """
    places, names, is_elsewhere = [database(study_dir)], [study_dir.absolute().name], False
    with contextlib.suppress(StudyError):
        name, where = identified(text, study_dir)
        is_elsewhere = where != places[0]
        places, names = [*places, where], [name, *names]
    for where in dict.fromkeys(places):
        for name in names if where.file is None or where.file.exists() else ():
            copy = (find_attributes(where, name) or {}).get(STUDY_YAML)
            if copy is not None:
                return str(copy)
    if is_elsewhere:
        raise StudyError(f"{study_dir / SPEC_FILE} is torn: it lacks its last line ({END}). Restore it")
    return None
