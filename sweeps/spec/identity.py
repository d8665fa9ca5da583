"""The parts of a study file that cannot change once the study has begun."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from pinncore.problems.source import difference, digest_of

from ..errors import StudyError
from . import yaml_text
from .study_spec import StudySpec

# sections that a later start may change, like search.trials
MAY_CHANGE = ("resources", "budget", "results", "track", "notify", "state")


def identity_sha256(spec: StudySpec) -> str:
    """Return the hash of everything that cannot change once a study has begun."""
    lines = identity(spec)
    lines += [f"source {digest_of(spec.source.text)}"] if spec.source.text is not None else []
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def identity(spec: StudySpec) -> list[str]:
    """Return everything that cannot change once a study has begun, as lines of a study file.

    A user's problem is named by its class, as its file may be moved; its source is compared apart.
    """
    plain = {name: section for name, section in spec.to_plain().items() if name not in MAY_CHANGE}
    if not spec.source.is_shipped:
        plain["problem"]["name"] = spec.record.class_name
    del plain["search"]["trials"]
    return yaml_text.write(plain).splitlines()


def refuse_other(stored: StudySpec, requested: StudySpec, study_dir: Path) -> None:
    """Raise `StudyError` with a diff where `requested` is another study than the one stored in the folder."""
    if stored == requested:
        return
    before, after, names = identity(stored), identity(requested), ("in the study", "in the file")
    if before != after:
        lines = difflib.unified_diff(before, after, *names, lineterm="", n=0)
        diff = "\n".join(line for line in lines if not line.startswith("@@"))
        what = "holds another study: problem, space, train and search (except trials) cannot change once it has begun"
    elif stored.source.text != requested.source.text:
        diff = difference(stored.source.text, requested.source.text, names)
        what = f"began with another {requested.source.reference}: the code of its problem cannot change"
    else:
        return
    raise StudyError(
        f"{study_dir} {what}.\n{diff}\n"
        f"Give the changed study a name of its own: --new-study {requested.study}-2 starts from scratch, "
        f"--branch {requested.study}-2 takes over the complete trials of this one that fit it"
    )
