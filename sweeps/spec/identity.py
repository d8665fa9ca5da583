"""What makes a study this study: what may not change once it has begun, and what may."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from ..errors import StudyError
from . import yaml_text
from .study_spec import StudySpec

MAY_CHANGE = ("resources", "budget", "results", "state")  # sections that a later start may change, beside search.trials


def identity_sha256(spec: StudySpec) -> str:
    """Hash of what cannot change once a study has begun."""
    return hashlib.sha256("\n".join(identity(spec)).encode()).hexdigest()


def identity(spec: StudySpec) -> list[str]:
    """What makes a study this study, as lines of a study file."""
    plain = {name: section for name, section in spec.to_plain().items() if name not in MAY_CHANGE}
    del plain["search"]["trials"]
    return yaml_text.write(plain).splitlines()


def refuse_other(stored: StudySpec, given: StudySpec, study_dir: Path) -> None:
    """Raise `StudyError` with a diff where a study file asks for another study than the folder holds."""
    before, after = identity(stored), identity(given)
    if before == after:
        return
    lines = difflib.unified_diff(before, after, "in the study", "in the file", lineterm="", n=0)
    diff = "\n".join(line for line in lines if not line.startswith("@@"))
    raise StudyError(
        f"{study_dir} holds another study: problem, space, train and search (but trials) cannot change once it has "
        f"begun.\n{diff}\n"
        f"Give the changed one a name of its own: --new-study {given.study}-2 begins anew, --branch {given.study}-2 "
        "starts from the finished trials of this one"
    )
