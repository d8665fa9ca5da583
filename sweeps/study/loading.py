"""Loading of studies: from a study file, a study's folder, or Python objects."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path, PurePath
from typing import Any, NoReturn

from pinncore import disk
from pinncore.problems.source import ProblemSource

from ..errors import NOT_GIVEN, Mistake, SpecError, StudyError
from ..inputs.opening import open_table
from ..spec import yaml_text
from ..spec.parse import parse_spec
from ..spec.study_spec import StudySpec
from ..storage.object_store import Remote
from ..storage.stored_problem import read_problem
from .input_checks import FILE_CHECKS, of_problem
from .problems import load_problem, stored
from .study_file import SPEC_FILE, read_text, stored_text, whole_text

Given = str | os.PathLike[str] | Mapping[str, Any]


def load_spec(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study of the file at `path`, with `overrides` such as `train.epochs=500` on top.

    Raises `SpecError`.
    """
    try:
        text = _read_text(path)
    except (OSError, ValueError) as error:
        raise SpecError([Mistake(str(path), NOT_GIVEN, _unreadable(error))]) from None
    return load_text(text, base=path.absolute().parent, overrides=overrides)


def load_text(text: str, *, base: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study of a study file's text, whose relative paths start at `base`.

    The tables, weights and studies it names must be there and fit. Raises `SpecError` with every mistake.
    """
    return parse_spec(
        text,
        base=base,
        load_problem=load_problem,
        overrides=overrides,
        open_list=open_table,
        file_checks=FILE_CHECKS,
    )


def read_spec(study_dir: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study of a study folder, with overrides on top; the database's copy stands in for a torn study file.

    Its problem is the one that the study stored. The code of a user's problem is executed, and tables and weights are
    checked, only where `overrides` give the study another name. Raises `StudyError`.
    """
    is_other = any(override.partition("=")[0].strip() == "study" for override in overrides)
    file_checks = FILE_CHECKS if is_other else ()
    try:
        return parse_spec(
            whole_text(study_dir),
            base=study_dir.absolute(),
            load_problem=stored(read_problem(study_dir)),
            overrides=overrides,
            open_list=open_table,
            file_checks=file_checks,
        )
    except SpecError as problem:
        raise StudyError(f"{study_dir / SPEC_FILE} cannot be used:\n{problem}") from None


def parse_stored(text: str, place: Path | Remote, source: ProblemSource) -> StudySpec:
    """Return the study of a text, that of the study in `place` or a variant of it, whose problem is `source`.

    Combinations that the class of the problem refuses are mistakes where it is shipped: no user's code is executed.
    Raises `SpecError` with every mistake.
    """
    checks = (of_problem,) if source.is_shipped else ()
    return parse_spec(text, base=Path(str(place)), load_problem=stored(source), file_checks=checks)


def read_stored(study_dir: Path, wanted: StudySpec) -> StudySpec:
    """Return the study of a study folder; where its file says the same as `wanted`, that is not parsed again.

    Raises `StudyError`.
    """
    if read_text(study_dir) != stored_text(wanted):
        return read_spec(study_dir)
    return dataclasses.replace(wanted, source=read_problem(study_dir))


def read_given(spec: Given) -> Path | StudySpec:
    """Return a path, or the study of a text or mapping, whose relative paths start at the current folder.

    Raises `SpecError` with every mistake of a text or mapping; the file at a path is not checked.
    """
    if isinstance(spec, Mapping):
        return load_text(yaml_text.write(_plain(spec, "")), base=Path.cwd())
    if isinstance(spec, str) and ("\n" in spec or spec.lstrip().startswith("{")):
        return load_text(spec, base=Path.cwd())
    return Path(spec).expanduser()


def _plain(value: Any, path: str) -> Any:
    """Return a value as YAML writes it: paths as text, sequences and arrays as lists, NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, yaml_text.joined(path, str(key))) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # arrays and numbers of NumPy, columns of pandas, tensors
        plain = value.tolist()
        return _plain(plain, path) if isinstance(plain, (list, bool, int, float, str)) else _refused(value, path)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return [_plain(item, yaml_text.joined(path, index)) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _refused(value, path)


def _refused(value: Any, path: str) -> NoReturn:
    """Raise `SpecError` for a value that a study file cannot hold."""
    rule = "must be a number, text, True, False, None, a list, range or array, or a mapping"
    hints = (
        (hasattr(value, "to_dict"), 'Write frame.to_dict("records").'),
        (isinstance(value, Set), "A set has no order. Write sorted(...)."),
        (isinstance(value, Iterable), "Write list(...)."),
    )
    hint = next((hint for is_so, hint in hints if is_so), "")
    raise SpecError([Mistake(path or "spec", " ".join(repr(value).split()), rule, hint)])


def _read_text(file: Path) -> str:
    return disk.read_text(file, yaml_text.MOST_BYTES)


def _unreadable(error: Exception) -> str:
    """Return why a study file cannot be read."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "this is a folder, not a study file"
        case OSError():
            return f"this file cannot be read ({error.strerror})"
    return "this file is not text in UTF-8"
