"""The files sent with a submitted study: the study file and, without a shared disk, the files that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pinncore.disk import read_bytes, write_whole
from pinncore.problems.source import SUFFIX

from ..errors import NOT_GIVEN, Mistake, SpecError
from ..spec import yaml_text
from ..spec.sources import FILE_PREFIX, TABLES
from ..study.study_file import SPEC_FILE

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

INPUTS: Final = ".inputs"  # folder under the root for files sent with studies, named by their content
_MOST_BYTES: Final = 100 * 10**6


def bundle(spec: StudySpec, root: str, *, shares_files: bool) -> dict[str, bytes]:
    """Return the files of a job that runs the study, by name; `study.yaml` is the study file.

    The study file refers to the other files by paths under the root that depend only on their content, so that a study
    submitted again is the same study. `unpack` writes them to these paths; the file of a user's problem stays beside
    the study file, as a study knows it by its content. Raises `SpecError` where the files cannot be sent.
    """
    plain, files, mistakes = spec.to_plain(), dict[str, bytes](), list[Mistake]()

    def moved(path: str) -> str:
        if "://" in root:
            rule = f"cannot be sent with the study to {root}, because every machine needs it as a file"
            hint = "Put it where every machine can read it, or in the container image."
            mistakes.append(Mistake("", path, rule, hint))
            return path
        try:
            content = read_bytes(path, _MOST_BYTES)
        except OSError as problem:
            hint = "Put them where every machine can read them."
            mistakes.append(Mistake("", path, f"cannot be sent with the study ({problem.strerror})", hint))
            return path
        name = f"{hashlib.sha256(content).hexdigest()[:16]}{Path(path).suffix}"
        files[name] = content
        return f"{root.rstrip('/')}/{INPUTS}/{name}"

    if not shares_files:
        plain = _with_files(plain, moved)
        if spec.source.is_file and spec.source.text is not None:  # as it was read, which is what was checked
            name = Path(spec.source.file).name
            files[name] = spec.source.text.encode()
            plain["problem"]["name"] = f"{name}:{spec.record.class_name}"
    size = sum(map(len, files.values()))
    if size > _MOST_BYTES:
        rule = (
            f"the files sent with a study may have {_MOST_BYTES // 10**6} MB in total, these have {size / 1e6:.0f} MB"
        )
        mistakes.append(Mistake("", NOT_GIVEN, rule, "Put them where every machine can read them."))
    if mistakes:
        raise SpecError(mistakes)
    return {SPEC_FILE: yaml_text.write(plain).encode(), **files}


def unpack(folder: Path, root: Path) -> None:
    """Write the files sent with a study under its root; files that exist already are left alone."""
    for file in sorted(folder.iterdir()):
        target = root / INPUTS / file.name
        if file.name != SPEC_FILE and file.suffix != SUFFIX and file.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, file.read_bytes())


def _with_files(plain: dict[str, Any], moved: Callable[[str], str]) -> dict[str, Any]:
    """Return the plain values of a study with the paths of its data tables and initial weights replaced."""

    def replaced(value: Any, *, is_table: bool) -> Any:
        if isinstance(value, dict):
            return {key: replaced(item, is_table=is_table or key in TABLES) for key, item in value.items()}
        if isinstance(value, list):
            return [replaced(item, is_table=is_table) for item in value]
        if isinstance(value, str) and value.startswith(FILE_PREFIX):
            path, mark, group = value.removeprefix(FILE_PREFIX).partition("#")
            return f"{FILE_PREFIX}{moved(path)}{mark}{group}"
        is_path = is_table and isinstance(value, str) and Path(value).is_absolute()
        return moved(value) if is_path else value

    return {key: replaced(value, is_table=False) for key, value in plain.items()}
