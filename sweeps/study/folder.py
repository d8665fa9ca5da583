"""A study's folder: its study file and database, and the refusal of another study under the same name.

A study is there once its study file is. The database is made first and holds the whole text of the study file, so that
neither of the two can be lost or torn without the other one showing it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pinncore.data import load_data
from pinncore.disk import write_whole

from ..errors import StudyError
from ..spec.identity import identity_sha256, refuse_other
from ..spec.study_spec import StudySpec
from ..storage import database, lock
from ..storage.object_store import uri_of
from ..storage.optuna_writer import Ledger
from . import home
from .loading import read_spec
from .log import LOG_FILE
from .provenance import code_version
from .study_file import END, LIMIT, OBJECTIVES, SPEC_FILE, STUDY_YAML, identified, is_whole, read_text, whole_text

SCHEMA: Final = 1  # of folder and database; a study of a higher one is refused
SCHEMA_KEY, VERSIONS, HOME = "schema", "code_versions", "home"  # attributes of the study


class OpenStudy(NamedTuple):
    """A study taken by its owner; `notes` say what was mended."""

    spec: StudySpec
    ledger: Ledger
    notes: list[str]


def open_folder(root: Path, spec: StudySpec) -> tuple[Path, bool]:
    """The study's folder, made if need be, and whether it is new; nothing in it is changed.

    Of a root in an object store it is the study's home on this machine. Raises `StudyError` where another driver runs
    it, or where it is another study of that name.
    """
    uri = uri_of(root)
    if uri is None and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(root)):
        got = f"{str(root).partition(':')[0]}:..."
        raise StudyError(f"--root: must be a folder that this machine sees, s3://BUCKET/PREFIX or gs://..., got {got}")
    study_dir = root / spec.study if uri is None else home.open_home(uri, spec)
    lock.refuse_held(study_dir)
    is_new = not (study_dir / SPEC_FILE).is_file()
    if study_dir.exists() and not study_dir.is_dir():
        raise StudyError(f"{study_dir} is a file where the study's folder should be; choose another name or root")
    if is_new and study_dir.is_dir() and any(not _is_ours(path) for path in study_dir.iterdir()):
        raise StudyError(f"{study_dir} exists and is not a study (it has no {SPEC_FILE}); choose another name or root")
    if not is_new:
        refuse_other(read_spec(study_dir), spec, study_dir)
    study_dir.mkdir(parents=True, exist_ok=True)
    return study_dir, is_new


def open_study(study_dir: Path, given: StudySpec | None = None) -> OpenStudy:
    """Take a study, begin it where it is new; only the holder of the lock may.

    `given` is what the user asks for: what may change of it is changed, once nothing is left to refuse. Raises
    `StudyError` for a damaged study, another one, one of a newer version, and for changed data.
    """
    is_new = not (study_dir / SPEC_FILE).is_file()
    if is_new and given is None:
        raise StudyError(f"{study_dir} is not a study: it has no {SPEC_FILE}")
    stored = given if is_new else read_spec(study_dir)
    assert stored is not None
    spec = given or stored
    if not is_new:
        refuse_other(stored, spec, study_dir)
    ledger = _ledger(study_dir, spec, stored, is_new)
    try:
        _refuse_newer(ledger.attributes(), study_dir)
        ledger.take(lock.describe(lock.read_holder(study_dir)))
        known = ledger.attributes()
        if is_new:
            _refuse_used(ledger, known, spec, study_dir)
            known = {}  # what is there was left by a start that was cut short
        else:
            _refuse_changed(known, spec, study_dir)
        notes = _mended(study_dir, known)
        _settle(study_dir, spec, ledger, known)
    except BaseException:
        ledger.close()
        raise
    return OpenStudy(spec, ledger, notes)


def settle(study_dir: Path, spec: StudySpec) -> None:
    """Begin a study, or change what may change of it, without running it; only the holder of the lock may."""
    open_study(study_dir, spec).ledger.close()


def record_version(ledger: Ledger, attempt: int) -> None:
    """Note in the database which code runs the study from this attempt on, where that has changed."""
    known = list(ledger.attributes().get(VERSIONS, []))
    version = code_version()
    if not known or known[-1]["version"] != version:
        ledger.set_attribute(VERSIONS, [*known, {"attempt": attempt, "version": version}])


def database_of(study_dir: Path, spec: StudySpec | None = None) -> database.Database:
    """Where the study's database is or, by `spec`, will be."""
    if spec is not None:
        return database.database(study_dir, spec.state)
    return identified(whole_text(study_dir), study_dir)[1]


def _is_ours(path: Path) -> bool:
    """Whether a start that was cut short may have left this."""
    return path.name in (lock.FILE, "stop", home.FILE, LOG_FILE) or path.name.startswith(
        (f".{SPEC_FILE}", database.FILE)
    )


# ---- the study file and its copy in the database ------------------------------------------------------------------


def _mended(study_dir: Path, known: Mapping[str, Any]) -> list[str]:
    """What was wrong with the study file, which is written again."""
    if STUDY_YAML not in known or is_whole(read_text(study_dir)):
        return []
    return [f"{SPEC_FILE} was torn; it was written again from the copy in the database"]


def _settle(study_dir: Path, spec: StudySpec, ledger: Ledger, known: Mapping[str, Any]) -> None:
    """Write the study file where it changes, its copy in the database first."""
    text, changes = f"{spec.to_yaml()}{END}\n", dict[str, Any]()
    if known.get(STUDY_YAML) != text:
        changes |= {STUDY_YAML: text, OBJECTIVES: list(spec.objectives)}
        changes |= {"identity": identity_sha256(spec), SCHEMA_KEY: SCHEMA, HOME: _home(study_dir)}
        changes[LIMIT] = None  # how many trials that makes, the owner says when it knows
    if "data_hash" not in known and "data" not in spec.space:  # else every trial's row has its own
        changes["data_hash"] = _data_hash(spec)
    if changes:
        ledger.set_attributes(changes)
    if not (study_dir / SPEC_FILE).is_file() or read_text(study_dir) != text:
        write_whole(study_dir / SPEC_FILE, text)


def _home(study_dir: Path) -> str:
    """Where the study lies, for all machines that share its database."""
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
            f"{problem}. So far the study's database is {before.label}: move it before `state` is changed"
        ) from None


def _refuse_newer(known: Mapping[str, Any], study_dir: Path) -> None:
    schema = known.get(SCHEMA_KEY, 1)
    if schema > SCHEMA:
        versions = known.get(VERSIONS) or [{}]
        raise StudyError(
            f"{study_dir} was written by a newer pinnsweep ({versions[-1].get('version', 'of unknown version')}; its "
            f"form is {schema}, this one knows {SCHEMA}). Run it with that version: pip install --upgrade pinnsweep"
        )


def _refuse_used(ledger: Ledger, known: Mapping[str, Any], spec: StudySpec, study_dir: Path) -> None:
    """A new study may find what its own start, cut short, left in the database, and nothing else."""
    label, home = ledger.database.label, known.get(HOME)
    if len(ledger):
        raise StudyError(
            f"{label} holds {len(ledger)} trials of a study {spec.study!r}, and {study_dir / SPEC_FILE} is not there. "
            f"Restore that file, or give this study another name (--set study={spec.study}-2)"
        )
    if home not in (None, _home(study_dir)):
        raise StudyError(
            f"{label} already holds a study {spec.study!r}, that of {home}. Give this one another name "
            f"(--set study={spec.study}-2), or another database"
        )
    if ledger.objectives != len(spec.objectives):
        raise StudyError(
            f"{label} was made for {ledger.objectives} objectives by a start that was cut short, and holds no trials: "
            "delete it, and start again"
        )


def _refuse_changed(known: Mapping[str, Any], spec: StudySpec, study_dir: Path) -> None:
    """The study file and the data must be those the study began with, whatever happened to the files."""
    if known.get("identity", identity_sha256(spec)) != identity_sha256(spec):
        raise StudyError(
            f"{study_dir / SPEC_FILE} is not what the study began with: it was changed by hand, or by a version with "
            "other defaults. problem, space, train and search (but trials) cannot change. Restore it, or start a "
            "study of another name"
        )
    before = known.get("data_hash")
    if before is not None and "data" not in spec.space and before != _data_hash(spec):
        raise StudyError(
            f"the data of {study_dir} have changed since it began (hash {before[:12]}, now {_data_hash(spec)[:12]}). "
            "Restore them, or start a study of another name"
        )


def _data_hash(spec: StudySpec) -> str:
    return load_data(spec.problem.get("data", "strb100")).sha256
