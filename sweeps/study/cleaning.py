"""Cleaning of a study: removal of files that are no longer needed, and merging of small files.

Nothing is removed from a running study; the lock is held meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster import LocalExecutor
from cluster.folder import JOBS_FOLDER

from ..errors import StudyError
from ..storage import compaction, database
from ..storage.optuna_sql import Ledger
from ..storage.tables import StudyTables
from . import home, other_studies, recovery, references
from .checkpoints import FOLDER as CHECKPOINTS
from .checkpoints import checkpoints_of
from .housekeeping import files, held, refuse_running, remove
from .loading import read_spec
from .study_file import identified, whole_text

JOBS_KEPT_DAYS: Final = 30
TEMPORARY: Final = (".*.new", ".*.tmp", ".preflight-*")  # files left by a crash while they were written


@dataclass(frozen=True)
class Waste:
    """A file or folder that is no longer needed: what it is, its path, its size in bytes."""

    what: str
    path: Path
    bytes: int


# ---- compact -------------------------------------------------------------------------------------------------------


def compact(study_dir: Path) -> compaction.Compacted:
    """Merge the small files of a study's tables; return the numbers of files before and after.

    Raises `StudyError` where the study is running, for a damaged file, and where the disk is full.
    """
    refuse_running(study_dir)
    name, where = identified(whole_text(study_dir), study_dir)
    with held(study_dir), contextlib.ExitStack() as stack:
        if where.is_shared:  # the lock does not cover other machines
            ledger = stack.enter_context(Ledger(where, name))
            ledger.take(f"process {os.getpid()}, to compact its tables")
        try:
            return compaction.compact(StudyTables(study_dir), home.remote_of(study_dir))
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise StudyError(
                f"{study_dir} cannot be compacted ({reason}). Nothing is lost: fix the cause and try again"
            ) from None


# ---- gc ------------------------------------------------------------------------------------------------------------


def collect(study_dir: Path, *, dry_run: bool = False) -> list[Waste]:
    """Remove the files of a study that are no longer needed; return them. With `dry_run` nothing is removed.

    Raises `StudyError` where the study is running or damaged, and for a study in an object store. Nothing is removed
    then.
    """
    refuse_running(study_dir)
    remote = home.remote_of(study_dir)
    if remote is not None:
        raise StudyError(f"gc works on folders only, and {remote} is cleaned by every start of the study: run it again")
    if dry_run:
        return list(_waste(study_dir))
    with held(study_dir):
        wastes = list(_waste(study_dir))
        for waste in wastes:
            remove(waste.path)
    return wastes


def collect_jobs(root: Path, *, dry_run: bool = False, now_s: float | None = None) -> list[Waste]:
    """Remove the records of jobs that ended over thirty days ago; return them. With `dry_run` nothing is removed."""
    oldest = (time.time() if now_s is None else now_s) - JOBS_KEPT_DAYS * 86_400
    folder, wastes = root / JOBS_FOLDER, []
    named: set[str] = set()  # arguments of the jobs that stay
    for handle in LocalExecutor(folder).list():
        path = folder / handle.id
        if handle.state().finished and max(file.stat().st_mtime for file in [path, *files(path)]) < oldest:
            wastes.append(Waste("jobs that ended long ago", path, _size(path)))
        else:
            named.update(handle.job.argv)
    for file in sorted(folder.glob("*.yaml")):
        if str(file.absolute()) not in named and file.stat().st_mtime < oldest:
            wastes.append(Waste("study files of such jobs", file, _size(file)))
    for waste in () if dry_run else wastes:
        remove(waste.path)
    return wastes


def _waste(study_dir: Path) -> Iterator[Waste]:
    spec, tables = read_spec(study_dir), StudyTables(study_dir)
    with Ledger(database.database(study_dir, spec.state), spec.study) as ledger:
        trials = recovery.read_trials(study_dir, spec, ledger)
    recovery.published_rows(study_dir, spec, tables, trials)  # raises where rows are lost: nothing is removed
    saved = checkpoints_of(study_dir).saved_members()
    unfinished = {trial.number: trial.pack for trial in trials if not trial.finished}
    needed = {pack for label, pack in saved.items() if label // trials.replicates in unfinished}
    needed |= set(unfinished.values())  # the next start judges torn checkpoints there
    for pack in sorted((study_dir / CHECKPOINTS).glob("pack-*")):
        number = pack.name.removeprefix("pack-")
        if number.isdigit() and int(number) not in needed:
            yield Waste("checkpoints of finished trials", pack, _size(pack))
        else:
            for older in [*sorted(pack.glob("attempt-*"))[:-1], *pack.glob(".*.new")]:
                yield Waste("checkpoints with a newer one", older, _size(older))
    if (leftover := compaction.leftover(study_dir)) is not None:
        yield Waste("tables that a compaction left", leftover, _size(leftover))
    for orphan in sorted(tables.orphans()):
        yield Waste("unfinished publications", orphan, _size(orphan))
    for folder in (study_dir, *(study_dir / name for name in (other_studies.FOLDER, references.FOLDER))):
        for file in sorted(path for pattern in TEMPORARY for path in folder.glob(pattern)):
            yield Waste("files cut off while they were written", file, _size(file))


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in (files(path) if path.is_dir() else [path]))
