"""What travels with a submitted study: its study file, and the files it names where no disk is shared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pinncore.disk import write_whole

from ..errors import NOT_GIVEN, Mistake, SpecError
from ..spec import yaml_text
from ..study.study_file import SPEC_FILE

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

INPUTS: Final = ".inputs"  # folder under the root, for files that came with submitted studies; named by their content
_MOST_BYTES: Final = 100 * 10**6
_FILE_PREFIX: Final = "file:"


def bundle(spec: StudySpec, root: str, *, shares_files: bool) -> dict[str, bytes]:
    """The files of a job that runs the study, by name; `study.yaml` is the study file.

    Files that the study names have new names in it, under the root and by their content, so that a study submitted
    again is the same one. `unpack` puts them there. Raises `SpecError` where they cannot travel.
    """
    plain, found, mistakes = spec.to_plain(), dict[str, bytes](), list[Mistake]()

    def moved(path: str) -> str:
        if "://" in root:
            rule = f"cannot travel with the study to {root}, since every machine needs it as a file"
            mistakes.append(Mistake("", path, rule, "Keep it where every machine sees it, or in the container image."))
            return path
        content = Path(path).read_bytes()
        name = f"{hashlib.sha256(content).hexdigest()[:16]}{Path(path).suffix}"
        found[name] = content
        return f"{root.rstrip('/')}/{INPUTS}/{name}"

    if not shares_files:
        plain = _with_files(plain, moved)
    if sum(map(len, found.values())) > _MOST_BYTES:
        size = sum(map(len, found.values())) / 1e6
        rule = f"the files that travel with a study may have {_MOST_BYTES // 10**6} MB together, these have {size:.0f}"
        mistakes.append(Mistake("", NOT_GIVEN, rule, "Keep them where every machine sees them."))
    if mistakes:
        raise SpecError(mistakes)
    return {SPEC_FILE: yaml_text.write(plain).encode(), **found}


def unpack(folder: Path, root: Path) -> None:
    """Put the files that came with a study under its root; those that are there already stay."""
    for file in sorted(folder.iterdir()):
        target = root / INPUTS / file.name
        if file.name != SPEC_FILE and file.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, file.read_bytes())


def _with_files(plain: dict[str, Any], moved: Callable[[str], str]) -> dict[str, Any]:
    """A study's plain values with the paths of its files replaced: tables of data and files of initial weights."""

    def replaced(value: Any, *, is_table: bool) -> Any:
        if isinstance(value, dict):
            return {key: replaced(item, is_table=is_table or key == "data") for key, item in value.items()}
        if isinstance(value, list):
            return [replaced(item, is_table=is_table) for item in value]
        if isinstance(value, str) and value.startswith(_FILE_PREFIX):
            path, mark, group = value.removeprefix(_FILE_PREFIX).partition("#")
            return f"{_FILE_PREFIX}{moved(path)}{mark}{group}"
        is_path = is_table and isinstance(value, str) and Path(value).is_absolute()
        return moved(value) if is_path else value

    return {key: replaced(value, is_table=False) for key, value in plain.items()}
