"""What makes a study this study: what may not change once it has begun, and what may."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
from pathlib import Path

from pinncore import TrainSettings

from ..errors import StudyError
from . import yaml_text
from .study_spec import SearchSettings, StudySpec

MAY_CHANGE = ("resources", "budget", "results", "state")  # sections that a later start may change, beside search.trials
# Fields that studies begun before they existed do not have: at their defaults they are no part of a study's identity,
# so such a study goes on.
LATER_FIELDS = (
    "allow_tf32",
    "divergence_factor",
    "first_stage",
    "momentum",
    "rmsprop_decay",
    "weight_decay",
    "second_stage",
    "lbfgs_memory",
    "lbfgs_curvature",
)
FIRST_SEARCH_KEYS = ("sampler", "objective", "seed", "replicates", "pruner")  # every other one is such a field too


def identity_sha256(spec: StudySpec) -> str:
    """Hash of what cannot change once a study has begun."""
    return hashlib.sha256("\n".join(identity(spec)).encode()).hexdigest()


def identity(spec: StudySpec) -> list[str]:
    """What makes a study this study, as lines of a study file."""
    plain = {name: section for name, section in spec.to_plain().items() if name not in MAY_CHANGE}
    usual = SearchSettings().model_dump(mode="json", by_alias=True)
    search = {
        name: value
        for name, value in plain["search"].items()
        if name != "trials" and (name in FIRST_SEARCH_KEYS or value != usual[name])
    }
    plain["search"] = search | ({"pruner": "none"} if search["pruner"] == usual["pruner"] else {})
    defaults = {field.name: field.default for field in dataclasses.fields(TrainSettings) if field.name in LATER_FIELDS}
    plain["train"] = {
        name: value for name, value in plain["train"].items() if name not in defaults or value != defaults[name]
    }
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
