"""Studies as things on a disk: how large they are, how to be rid of one, what of them nobody needs any more.

Nothing is removed from a study that somebody runs: its lock is held meanwhile.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster import LocalExecutor

from ..errors import StudyError
from ..storage import database, lock, optuna_reader
from ..storage.object_store import Remote, uri_of
from . import home
from .requests import study_status
from .study_file import SPEC_FILE, identified, whole_text

if TYPE_CHECKING:
    from ..storage.compaction import Compacted

JOBS_FOLDER: Final = ".jobs"  # in the folder that holds the studies
JOBS_KEPT_DAYS: Final = 30
BESIDE: Final = (".*.new", ".*.tmp", ".preflight-*")  # what a crash leaves of files being written


@dataclass(frozen=True)
class Waste:
    """Something that nobody needs: what it is, where it lies, the bytes it takes."""

    what: str
    path: Path
    bytes: int


def overview(study_dir: Path) -> dict[str, Any]:
    """One line on a study: how it stands, its bytes on disk and when it last changed; `error` where it is damaged.

    Of one in an object store the bytes are those of its objects.
    """
    bytes_, changed = 0, 0.0
    for size, changed_s in _sizes(study_dir):
        bytes_, changed = bytes_ + size, max(changed, changed_s)
    when = datetime.datetime.fromtimestamp(changed, datetime.UTC).isoformat(timespec="seconds")
    where = uri_of(study_dir) or str(study_dir)
    record = {"study": study_dir.name, "path": where, "bytes": bytes_, "changed_at": when}
    try:
        return record | study_status(home.local(study_dir))
    except StudyError as error:
        return record | {"error": str(error)}


def _sizes(study_dir: Path) -> Iterator[tuple[int, float]]:
    """The bytes of each file of a study, and when it changed."""
    uri = uri_of(study_dir)
    if uri is not None:
        yield from ((stored.bytes, stored.time_ns / 1e9) for stored in Remote(uri).objects().values())
        return
    for file in _files(study_dir):
        with contextlib.suppress(FileNotFoundError):  # a study that runs renames and removes files
            found = file.lstat()
            yield found.st_size, found.st_mtime


# ---- delete --------------------------------------------------------------------------------------------------------


def refuse_deletion(study_dir: Path) -> None:
    """Raise `StudyError` where a folder is no study, a link to one, or is being run."""
    if not (study_dir / SPEC_FILE).is_file():
        raise StudyError(f"{study_dir} is not a study: it has no {SPEC_FILE}. Remove it yourself if you want to")
    if study_dir.is_symlink():
        raise StudyError(
            f"{study_dir} is a link to {study_dir.resolve()}: give that folder, or remove the link yourself"
        )
    _refuse_running(study_dir)


def delete(study_dir: Path) -> str | None:
    """Remove a study, its folder and its database, for good; returns what had to stay, in words.

    Raises `StudyError` as `refuse_deletion` does, and where its database cannot be reached.
    """
    refuse_deletion(study_dir)
    with _held(study_dir):
        stays = _delete_from_database(study_dir)  # refused where another machine runs the study
        remote = home.remote_of(study_dir)
        if remote is not None:
            home.remove_stored(remote)
        last = (SPEC_FILE, lock.FILE)  # until they are gone it is a study, which can be deleted once more
        for path in [*(each for each in study_dir.iterdir() if each.name not in last), *(study_dir / n for n in last)]:
            _remove(path)
        study_dir.rmdir()
    return stays


def _delete_from_database(study_dir: Path) -> str | None:
    """Remove a study from a database outside its folder; returns what stays of it, in words."""
    try:
        name, where = identified(whole_text(study_dir), study_dir)
    except StudyError:
        if (study_dir / database.FILE).exists():  # in the folder, whatever else the torn study file said
            return None
        raise
    if where.file is not None and (where.file.parent.resolve() == study_dir.resolve() or not where.file.exists()):
        return None
    home = _home(where, name)
    if home and Path(home) != study_dir.resolve() and (Path(home) / SPEC_FILE).is_file():
        return f"{where.label} keeps its study {name}: it is that of {home}"
    if where.file is not None:
        for suffix in ("", "-journal"):
            where.file.with_name(f"{where.file.name}{suffix}").unlink(missing_ok=True)
    elif home is not None:
        _delete_from_server(where, name)
    return None


def _home(where: database.Database, name: str) -> str | None:
    """The folder of the study of that name in a database, "" where it says none, None where there is no such study."""
    try:
        connection = database.connect(where)
    except StudyError:
        if where.is_shared:
            raise
        return None
    try:
        if not optuna_reader.has_tables(connection):
            return None
        found = connection.rows("SELECT study_id FROM studies WHERE study_name = ?", name)
        return str(optuna_reader.attributes(connection, found[0][0]).get("home", "")) if found else None
    except StudyError:
        if where.is_shared:
            raise
        return None  # of a damaged file nothing can be kept
    finally:
        connection.close()


def _delete_from_server(where: database.Database, name: str) -> None:
    import optuna

    from ..storage.optuna_writer import Ledger

    ledger = Ledger(where, name)
    try:
        ledger.take(f"process {os.getpid()}, to delete it")  # refused where a driver elsewhere holds it
        with database.explained(where):
            optuna.delete_study(study_name=name, storage=where.url)
    finally:
        ledger.close()


# ---- compact -------------------------------------------------------------------------------------------------------


def compact(study_dir: Path) -> Compacted:
    """Merge the small files of a study's tables; returns how many there were and are.

    Raises `StudyError` where somebody runs the study, for a damaged file, and where there is no room.
    """
    from ..storage import compaction
    from ..storage.optuna_writer import Ledger
    from ..storage.tables import StudyTables

    _refuse_running(study_dir)
    name, where = identified(whole_text(study_dir), study_dir)
    with _held(study_dir), contextlib.ExitStack() as stack:
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
    _refuse_running(study_dir)
    remote = home.remote_of(study_dir)
    if remote is not None:
        raise StudyError(f"gc looks into folders, and {remote} is cleaned by every start of the study: run it again")
    if dry_run:
        return list(_waste(study_dir))
    with _held(study_dir):
        found = list(_waste(study_dir))
        for waste in found:
            _remove(waste.path)
    return found


def collect_jobs(root: Path, *, dry_run: bool = False, now_s: float | None = None) -> list[Waste]:
    """Remove the records of jobs that ended more than thirty days ago, or only look for them; returns what that is."""
    oldest = (time.time() if now_s is None else now_s) - JOBS_KEPT_DAYS * 86_400
    folder, found = root / JOBS_FOLDER, []
    named: set[str] = set()  # by the jobs that stay
    for handle in LocalExecutor(folder).list():
        path = folder / handle.id
        if handle.state().finished and max(file.stat().st_mtime for file in [path, *_files(path)]) < oldest:
            found.append(Waste("jobs that ended long ago", path, _size(path)))
        else:
            named.update(handle.job.argv)
    for file in sorted(folder.glob("*.yaml")):
        if str(file.absolute()) not in named and file.stat().st_mtime < oldest:
            found.append(Waste("study files of such jobs", file, _size(file)))
    for waste in () if dry_run else found:
        _remove(waste.path)
    return found


def _waste(study_dir: Path) -> Iterator[Waste]:
    from ..storage import compaction
    from ..storage.optuna_writer import Ledger
    from ..storage.tables import StudyTables
    from . import recovery
    from .checkpoints import FOLDER as CHECKPOINTS
    from .checkpoints import checkpoints_of
    from .loading import read_spec

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


# ---- both ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(study_dir: Path) -> Iterator[None]:
    """Hold a study's lock, so that nobody starts it meanwhile."""
    held = lock.StudyLock(study_dir, driver_pid=os.getpid(), must_hold=False)
    try:
        yield
    finally:
        held.release()


def _refuse_running(study_dir: Path) -> None:
    holder = lock.held_by(study_dir)
    if holder:
        raise StudyError(
            f"{study_dir} is being run by {holder}, so nothing of it is removed. Stop it first: stop --wait"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    for at, _, names in os.walk(folder):
        yield from (Path(at) / name for name in names)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in (_files(path) if path.is_dir() else [path]))
