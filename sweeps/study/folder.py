"""A study's folder: its study file and database, and the refusal of another study with the same name.

A study exists once its study file does. The database is created first and holds the whole text of the study file, so
that each of the two shows where the other is lost or torn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pinncore.disk import write_whole

from ..errors import StudyError
from ..spec.identity import identity_sha256, refuse_other
from ..spec.study_spec import StudySpec
from ..storage import database, lock
from ..storage.object_store import uri_of
from ..storage.optuna_sql import Ledger
from ..storage.own_files import PROBLEM_FILE
from ..storage.stored_problem import write_problem
from . import home
from .loading import read_spec, read_stored
from .log import LOG_FILE
from .provenance import code_version, data_hash
from .study_file import (
    IN_PERCENT,
    LIMIT,
    OBJECTIVES,
    SPEC_FILE,
    STUDY_YAML,
    identified,
    is_whole,
    read_text,
    stored_text,
    whole_text,
)

SCHEMA: Final = 1  # version of folder and database; studies of a higher version are refused
SCHEMA_KEY, VERSIONS, HOME = "schema", "code_versions", "home"  # attributes of the study


class OpenStudy(NamedTuple):
    """A study taken by its owner; `notes` say what was repaired."""

    spec: StudySpec
    ledger: Ledger
    notes: list[str]


def open_folder(root: Path, spec: StudySpec) -> tuple[Path, bool]:
    """Return the study's folder, created if necessary, and whether the study is new; nothing in the folder is changed.

    For a root in an object store it is the study's home on this machine. Raises `StudyError` where another driver runs
    the study, or where the folder holds another study.
    """
    uri = uri_of(root)
    if uri is None and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(root)):
        scheme = f"{str(root).partition(':')[0]}:..."
        raise StudyError(f"--root: must be a folder on this machine, s3://BUCKET/PREFIX or gs://..., got {scheme}")
    study_dir = root / spec.study if uri is None else home.open_home(uri, spec)
    lock.refuse_held(study_dir)
    is_new = not (study_dir / SPEC_FILE).is_file()
    if study_dir.exists() and not study_dir.is_dir():
        raise StudyError(f"{study_dir} is a file, not the study's folder; choose another name or root")
    if is_new and study_dir.is_dir() and any(not _is_leftover(path) for path in study_dir.iterdir()):
        raise StudyError(f"{study_dir} exists and is not a study (it has no {SPEC_FILE}); choose another name or root")
    if not is_new:
        refuse_other(read_stored(study_dir, spec), spec, study_dir)
    study_dir.mkdir(parents=True, exist_ok=True)
    return study_dir, is_new


def open_study(study_dir: Path, wanted: StudySpec | None = None) -> OpenStudy:
    """Take a study, and begin it where it is new; for the holder of the lock only.

    `wanted` is the study as the user asks for it: the settings that may change are changed after all checks. Raises
    `StudyError` for a damaged study, another one, one of a newer version, and for changed data.
    """
    is_new = not (study_dir / SPEC_FILE).is_file()
    if is_new and wanted is None:
        raise StudyError(f"{study_dir} is not a study: it has no {SPEC_FILE}")
    spec = wanted or read_spec(study_dir)
    stored = spec if is_new else read_stored(study_dir, spec)
    refuse_other(stored, spec, study_dir)
    ledger = _ledger(study_dir, spec, stored, is_new)
    try:
        _refuse_newer(ledger.attributes(), study_dir)
        ledger.take(lock.describe(lock.read_holder(study_dir)))
        attributes = ledger.attributes()
        if is_new:
            _refuse_used(ledger, attributes, spec, study_dir)
            attributes = {}  # they were left by a start that was cut short
        else:
            _refuse_changed(attributes, spec, study_dir)
        is_torn = STUDY_YAML in attributes and not is_whole(read_text(study_dir))
        _settle(study_dir, spec, ledger, attributes)
    except BaseException:
        ledger.close()
        raise
    note = f"{SPEC_FILE} was torn; it was written again from the copy in the database"
    return OpenStudy(spec, ledger, [note] if is_torn else [])


def record_version(ledger: Ledger, attempt: int) -> None:
    """Record in the database which code runs the study from this attempt on, where that has changed."""
    versions = list(ledger.attributes().get(VERSIONS, []))
    version = code_version()
    if not versions or versions[-1]["version"] != version:
        ledger.set_attribute(VERSIONS, [*versions, {"attempt": attempt, "version": version}])


def database_of(study_dir: Path, spec: StudySpec | None = None) -> database.Database:
    """Return the study's database or, with `spec`, the one it will have."""
    if spec is not None:
        return database.database(study_dir, spec.state)
    return identified(whole_text(study_dir), study_dir)[1]


def _is_leftover(path: Path) -> bool:
    """Return whether a start that was cut short may have left this file."""
    return path.name in (lock.FILE, "stop", home.FILE, LOG_FILE) or path.name.startswith(
        (f".{SPEC_FILE}", f".{PROBLEM_FILE}", PROBLEM_FILE, database.FILE)
    )


# ---- the study file and its copy in the database ------------------------------------------------------------------


def _settle(study_dir: Path, spec: StudySpec, ledger: Ledger, attributes: Mapping[str, Any]) -> None:
    """Write the study file where it changes, its copy in the database first."""
    text, changes = stored_text(spec), dict[str, Any]()
    if attributes.get(STUDY_YAML) != text:
        changes |= {STUDY_YAML: text, OBJECTIVES: list(spec.objectives), IN_PERCENT: spec.is_in_percent}
        changes |= {"identity": identity_sha256(spec), SCHEMA_KEY: SCHEMA, HOME: _home(study_dir)}
        changes[LIMIT] = None  # the number of trials, which the owner enters later
    if "data_hash" not in attributes:
        changes["data_hash"] = data_hash(spec)
    if changes:
        ledger.set_attributes(changes)
    write_problem(study_dir, spec.source)  # before the study file, with which the study exists
    if not (study_dir / SPEC_FILE).is_file() or read_text(study_dir) != text:
        write_whole(study_dir / SPEC_FILE, text)


def _home(study_dir: Path) -> str:
    """Return the place of the study, for all machines that share its database."""
    remote = home.remote_of(study_dir)
    return str(study_dir.resolve() if remote is None else remote)


# ---- what is refused ----------------------------------------------------------------------------------------------


def _ledger(study_dir: Path, spec: StudySpec, stored: StudySpec, is_new: bool) -> Ledger:
    where = database.database(study_dir, spec.state)
    try:
        return Ledger(where, spec.study, create=is_new, objectives=len(spec.objectives))
    except StudyError as problem:
        before = database.database(study_dir, stored.state)
        if before == where:
            raise
        raise StudyError(
            f"{problem}. So far the study's database is {before.label}: move it before you change `state`"
        ) from None


def _refuse_newer(attributes: Mapping[str, Any], study_dir: Path) -> None:
    schema = attributes.get(SCHEMA_KEY, SCHEMA)
    if schema > SCHEMA:
        versions = attributes.get(VERSIONS) or [{}]
        raise StudyError(
            f"{study_dir} was written by a newer pinnsweep ({versions[-1].get('version', 'of unknown version')}; its "
            f"format is {schema}, this one reads {SCHEMA}). Run it with that version: pip install --upgrade pinnsweep"
        )


def _refuse_used(ledger: Ledger, attributes: Mapping[str, Any], spec: StudySpec, study_dir: Path) -> None:
    """Raise `StudyError` where the database holds more than a start of this study that was cut short may have left."""
    label, other_home = ledger.database.label, attributes.get(HOME)
    if len(ledger):
        raise StudyError(
            f"{label} holds {len(ledger)} trials of a study {spec.study!r}, and {study_dir / SPEC_FILE} is not there. "
            f"Restore that file, or give this study another name (--set study={spec.study}-2)"
        )
    if other_home not in (None, _home(study_dir)):
        raise StudyError(
            f"{label} already holds a study {spec.study!r}, that of {other_home}. Give this one another name "
            f"(--set study={spec.study}-2), or another database"
        )
    if ledger.objectives != len(spec.objectives):
        raise StudyError(
            f"{label} was created for {ledger.objectives} objectives by a start that was cut short, and holds no "
            "trials: delete it, and start again"
        )


def _refuse_changed(attributes: Mapping[str, Any], spec: StudySpec, study_dir: Path) -> None:
    """Raise `StudyError` where the study file or the data are not those the study began with."""
    if attributes.get("identity") != identity_sha256(spec):
        raise StudyError(
            f"{study_dir / SPEC_FILE} or {PROBLEM_FILE} is not what the study began with: it was changed by hand, or "
            "by a version with other defaults. problem, space, train and search (except trials) cannot change. Restore "
            "it, or start a study with another name"
        )
    before, now = attributes.get("data_hash"), data_hash(spec)
    if before is not None and now is not None and before != now:
        raise StudyError(
            f"the data of {study_dir} have changed since it began (hash {before[:12]}, now {now[:12]}). "
            "Restore them, or start a study with another name"
        )
