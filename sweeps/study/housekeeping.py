"""Overview and deletion of studies on a disk.

Nothing is removed from a running study; the lock is held meanwhile.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import StudyError
from ..storage import database, lock
from ..storage.object_store import Remote, uri_of
from ..storage.optuna_sql import Ledger, find_attributes
from . import home
from .status import read_status
from .study_file import SPEC_FILE, identified, whole_text


def overview(study_dir: Path) -> dict[str, Any]:
    """Return the status of a study, its bytes and the time of its last change; with `error` where it is damaged.

    For a study in an object store the bytes are those of its objects.
    """
    bytes_, changed = 0, 0.0
    for size, changed_s in _sizes(study_dir):
        bytes_, changed = bytes_ + size, max(changed, changed_s)
    when = datetime.datetime.fromtimestamp(changed, datetime.UTC).isoformat(timespec="seconds")
    where = uri_of(study_dir) or str(study_dir)
    record = {"study": study_dir.name, "path": where, "bytes": bytes_, "changed_at": when}
    try:
        return record | read_status(home.local(study_dir))
    except StudyError as error:
        return record | {"error": str(error)}


def _sizes(study_dir: Path) -> Iterator[tuple[int, float]]:
    """Yield the bytes of each file of a study and the time of its last change, in s."""
    uri = uri_of(study_dir)
    if uri is not None:
        yield from ((stored.bytes, stored.time_ns / 1e9) for stored in Remote(uri).objects().values())
        return
    for file in files(study_dir):
        with contextlib.suppress(FileNotFoundError):  # a running study renames and removes files
            status = file.lstat()
            yield status.st_size, status.st_mtime


# ---- delete --------------------------------------------------------------------------------------------------------


def refuse_deletion(study_dir: Path) -> None:
    """Raise `StudyError` where a folder is no study, is a link to one, or is a running study."""
    if not (study_dir / SPEC_FILE).is_file():
        raise StudyError(f"{study_dir} is not a study: it has no {SPEC_FILE}. Remove it yourself if you want to")
    if study_dir.is_symlink():
        raise StudyError(
            f"{study_dir} is a link to {study_dir.resolve()}: name that folder, or remove the link yourself"
        )
    refuse_running(study_dir)


def delete(study_dir: Path) -> str | None:
    """Remove a study permanently, its folder and its database; return in words what had to stay, or None.

    Raises `StudyError` as `refuse_deletion` does, and where its database cannot be reached.
    """
    refuse_deletion(study_dir)
    with held(study_dir):
        remainder = _delete_from_database(study_dir)  # refused where another machine runs the study
        remote = home.remote_of(study_dir)
        if remote is not None:
            home.remove_stored(remote)
        last = (SPEC_FILE, lock.FILE)  # while they exist, an interrupted deletion can be repeated
        others = [path for path in study_dir.iterdir() if path.name not in last]
        for path in [*others, *(study_dir / name for name in last)]:
            remove(path)
        study_dir.rmdir()
    return remainder


def _delete_from_database(study_dir: Path) -> str | None:
    """Remove a study from a database outside its folder; return in words what stays of it, or None."""
    try:
        name, where = identified(whole_text(study_dir), study_dir)
    except StudyError:
        if (study_dir / database.FILE).exists():  # then the database is in the folder
            return None
        raise
    if where.file is not None and (where.file.parent.resolve() == study_dir.resolve() or not where.file.exists()):
        return None
    try:
        attributes = find_attributes(where, name)
    except StudyError:
        if where.is_shared:
            raise
        attributes = None  # nothing can be kept of a damaged file
    home = (attributes or {}).get("home")
    if home and Path(home) != study_dir.resolve() and (Path(home) / SPEC_FILE).is_file():
        return f"{where.label} keeps its study {name}: it is that of {home}"
    if where.file is not None:
        for suffix in ("", "-journal"):
            where.file.with_name(f"{where.file.name}{suffix}").unlink(missing_ok=True)
    elif attributes is not None:
        with Ledger(where, name) as ledger:
            ledger.take(f"process {os.getpid()}, to delete it")  # raises where a driver elsewhere holds it
            ledger.delete_study()
    return None


# ---- shared ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held(study_dir: Path) -> Iterator[None]:
    """Hold a study's lock, so that it cannot be started meanwhile."""
    study_lock = lock.StudyLock(study_dir, driver_pid=os.getpid(), must_hold=False)
    try:
        yield
    finally:
        study_lock.release()


def refuse_running(study_dir: Path) -> None:
    """Raise `StudyError` where a study is running."""
    holder = lock.held_by(study_dir)
    if holder:
        raise StudyError(
            f"{study_dir} is being run by {holder}, so nothing is removed. Stop it first: pinnsweep stop --wait"
        )


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with everything in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder."""
    for at, _, names in os.walk(folder):
        yield from (Path(at) / name for name in names)
