"""What of a study nobody needs any more, and small files that become large ones.

Nothing is removed from a study that somebody runs: its lock is held meanwhile.
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
from ..storage.optuna_writer import Ledger
from ..storage.tables import StudyTables
from . import home, recovery
from .checkpoints import FOLDER as CHECKPOINTS
from .checkpoints import checkpoints_of
from .housekeeping import files, held, refuse_running, remove
from .loading import read_spec
from .study_file import identified, whole_text

JOBS_KEPT_DAYS: Final = 30
BESIDE: Final = (".*.new", ".*.tmp", ".preflight-*")  # what a crash leaves of files being written


@dataclass(frozen=True)
class Waste:
    """Something that nobody needs: what it is, where it lies, the bytes it takes."""

    what: str
    path: Path
    bytes: int


# ---- compact -------------------------------------------------------------------------------------------------------


def compact(study_dir: Path) -> compaction.Compacted:
    """Merge the small files of a study's tables; returns how many there were and are.

    Raises `StudyError` where somebody runs the study, for a damaged file, and where there is no room.
    """
    refuse_running(study_dir)
    name, where = identified(whole_text(study_dir), study_dir)
    with held(study_dir), contextlib.ExitStack() as stack:
        if where.is_shared:  # and the lock says nothing of other machines
            ledger = Ledger(where, name)
            stack.callback(ledger.close)
            ledger.take(f"process {os.getpid()}, to compact its tables")
        try:
            return compaction.compact(StudyTables(study_dir), home.remote_of(study_dir))
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise StudyError(
                f"{study_dir} cannot be compacted ({reason}). Nothing is lost; mend that and try again"
            ) from None


# ---- gc ------------------------------------------------------------------------------------------------------------


def collect(study_dir: Path, *, dry_run: bool = False) -> list[Waste]:
    """Remove what nobody needs of a study, or only look for it; returns what that is.

    Raises `StudyError` where somebody runs the study, for a damaged one, of which nothing is removed, and for one in an
    object store.
    """
    refuse_running(study_dir)
    remote = home.remote_of(study_dir)
    if remote is not None:
        raise StudyError(f"gc looks into folders, and {remote} is cleaned by every start of the study: run it again")
    if dry_run:
        return list(_waste(study_dir))
    with held(study_dir):
        found = list(_waste(study_dir))
        for waste in found:
            remove(waste.path)
    return found


def collect_jobs(root: Path, *, dry_run: bool = False, now_s: float | None = None) -> list[Waste]:
    """Remove the records of jobs that ended more than thirty days ago, or only look for them; returns what that is."""
    oldest = (time.time() if now_s is None else now_s) - JOBS_KEPT_DAYS * 86_400
    folder, found = root / JOBS_FOLDER, []
    named: set[str] = set()  # by the jobs that stay
    for handle in LocalExecutor(folder).list():
        path = folder / handle.id
        if handle.state().finished and max(file.stat().st_mtime for file in [path, *files(path)]) < oldest:
            found.append(Waste("jobs that ended long ago", path, _size(path)))
        else:
            named.update(handle.job.argv)
    for file in sorted(folder.glob("*.yaml")):
        if str(file.absolute()) not in named and file.stat().st_mtime < oldest:
            found.append(Waste("study files of such jobs", file, _size(file)))
    for waste in () if dry_run else found:
        remove(waste.path)
    return found


def _waste(study_dir: Path) -> Iterator[Waste]:
    spec, tables = read_spec(study_dir), StudyTables(study_dir)
    ledger = Ledger(database.database(study_dir, spec.state), spec.study)
    try:
        book = recovery.read_book(study_dir, spec, ledger.records())
    finally:
        ledger.close()
    recovery.published_rows(study_dir, spec, tables, book)  # raises where rows are lost: then nothing is waste
    saved = checkpoints_of(study_dir).saved_members()
    unfinished = {trial.number: trial.pack for trial in book if not trial.finished}
    needed = {pack for label, pack in saved.items() if label // book.replicates in unfinished}
    needed |= set(unfinished.values())  # a torn checkpoint there is for the next start to judge
    for pack in sorted((study_dir / CHECKPOINTS).glob("pack-*")):
        number = pack.name.removeprefix("pack-")
        if number.isdigit() and int(number) not in needed:
            yield Waste("checkpoints of finished trials", pack, _size(pack))
        else:
            for older in [*sorted(pack.glob("attempt-*"))[:-1], *pack.glob(".*.new")]:
                yield Waste("checkpoints with a newer one", older, _size(older))
    if (anew := compaction.leftover(study_dir)) is not None:
        yield Waste("tables that a compaction left", anew, _size(anew))
    for orphan in sorted(tables.orphans()):
        yield Waste("unfinished publications", orphan, _size(orphan))
    for folder in (study_dir, *(path for path in study_dir.iterdir() if path.name == "initial_weights")):
        for left in sorted(path for pattern in BESIDE for path in folder.glob(pattern)):
            yield Waste("files cut off while they were written", left, _size(left))


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in (files(path) if path.is_dir() else [path]))
