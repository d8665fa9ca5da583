"""A study's folder: its study file, and the refusal of another study under the same name."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pinncore import TrainSettings

from . import lock, specfile
from .errors import SpecError, StudyError
from .spec import StudySpec, parse_spec

SPEC_FILE = "study.yaml"
# Fields of train that studies begun before they existed do not have: at their defaults they are no part of a study's
# identity, so such a study goes on.
LATER_FIELDS = (
    "allow_tf32",
    "first_stage",
    "momentum",
    "rmsprop_decay",
    "weight_decay",
    "second_stage",
    "lbfgs_memory",
    "lbfgs_curvature",
)
MAY_CHANGE = ("resources", "budget", "results")  # sections that a later start may change, beside search.trials


def open_folder(root: Path, spec: StudySpec) -> tuple[Path, bool]:
    """The study's folder, made if need be, and whether it is new; nothing in it is changed.

    Raises `StudyError` where another driver runs it, or where it is another study of that name.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(root)):
        raise StudyError(f"--root: must be a folder of a file system that this machine sees, got {str(root)!r}")
    study_dir = root / spec.study
    lock.refuse_held(study_dir)
    file = study_dir / SPEC_FILE
    is_new = not file.is_file()
    if study_dir.exists() and not study_dir.is_dir():
        raise StudyError(f"{study_dir} is a file where the study's folder should be; choose another name or root")
    if is_new and study_dir.is_dir() and any(not _is_ours(path) for path in study_dir.iterdir()):
        raise StudyError(f"{study_dir} exists and is not a study (it has no {SPEC_FILE}); choose another name or root")
    if not is_new:
        refuse_other(read_spec(study_dir), spec, study_dir)
    study_dir.mkdir(parents=True, exist_ok=True)
    return study_dir, is_new


def settle(study_dir: Path, spec: StudySpec) -> None:
    """Write the study file, if it asks for the study that is there; only the holder of the lock may."""
    if (study_dir / SPEC_FILE).is_file():
        refuse_other(read_spec(study_dir), spec, study_dir)
    _write_whole(study_dir / SPEC_FILE, spec.to_yaml())


def identity_sha256(spec: StudySpec) -> str:
    """Hash of what cannot change once a study has begun."""
    return hashlib.sha256("\n".join(_identity(spec)).encode()).hexdigest()


def read_spec(study_dir: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """The study file of a study folder, with overrides on top. Raises `StudyError`."""
    file = study_dir / SPEC_FILE
    try:
        return parse_spec(file.read_text(encoding="utf-8"), base=study_dir.absolute(), overrides=overrides)
    except (OSError, UnicodeDecodeError) as problem:
        raise StudyError(f"{file} cannot be read ({problem})") from None
    except SpecError as problem:
        raise StudyError(f"{file} cannot be used:\n{problem}") from None


def refuse_other(stored: StudySpec, given: StudySpec, study_dir: Path) -> None:
    """Raise `StudyError` with a diff where a study file asks for another study than the folder holds."""
    before, after = (_identity(spec) for spec in (stored, given))
    if before == after:
        return
    lines = difflib.unified_diff(before, after, "in the study", "in the file", lineterm="", n=0)
    diff = "\n".join(line for line in lines if not line.startswith("@@"))
    raise StudyError(
        f"{study_dir} holds another study: problem, space, train and search (but trials) cannot change once it has "
        f"begun.\n{diff}\n"
        f"Give the changed one a name of its own: --set study={given.study}-2"
    )


def _identity(spec: StudySpec) -> list[str]:
    """What makes a study this study, as lines."""
    plain = {name: section for name, section in spec.to_plain().items() if name not in MAY_CHANGE}
    plain["search"] = {name: value for name, value in plain["search"].items() if name != "trials"}
    defaults = {field.name: field.default for field in dataclasses.fields(TrainSettings) if field.name in LATER_FIELDS}
    plain["train"] = {
        name: value for name, value in plain["train"].items() if name not in defaults or value != defaults[name]
    }
    return specfile.write(plain).splitlines()


def _is_ours(path: Path) -> bool:
    """Whether a start that was cut short may have left this."""
    return path.name == lock.FILE or path.name.startswith(f".{SPEC_FILE}")


def _write_whole(file: Path, text: str) -> None:
    """Write beside, sync, rename."""
    beside = file.with_name(f".{file.name}.new")
    with open(beside, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, file)
