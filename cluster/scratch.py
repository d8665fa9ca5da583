"""Temporary folders of this process, removed when it ends, or by a later process if it was killed.

A folder belongs to the process that holds the kernel's lock on it. The kernel releases the lock however the process
dies, so an unlocked folder belongs to nobody, even where pids were reused or containers share the temporary folder.
systemd-tmpfiles leaves locked folders alone, too, however old they are.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = ".pinnsweep-"  # short: Ray puts sockets below, and their paths have at most 107 bytes
_HELD_ELSEWHERE: Final = (errno.EWOULDBLOCK, errno.EAGAIN)
_open: set[Path] = set()  # of this process


@contextlib.contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """Make a private folder in the temporary folder, yield it, and remove it with its content.

    `what` is a word of its name. Folders left by killed processes of this user are removed first.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    folder, lock = _make_folder(parent, what)
    _open.add(folder)
    try:
        yield folder
    finally:
        _open.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)  # files still being written are removed later
        os.close(lock)


def remove_scratch() -> None:
    """Remove the folders of this process now, for a process that ends inside its `with` blocks."""
    for folder in list(_open):
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(parent: Path, what: str) -> tuple[Path, int]:
    """Make a folder and return it with the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{what}-", dir=parent))
        lock = _open_folder(folder)
        if lock is not None:
            # Where the file system cannot lock, no other process can, so none takes the folder for abandoned.
            if _try_lock(lock) is not False and _is_at(folder, lock):
                return folder, lock
            os.close(lock)
        # another process took the folder for abandoned before it was locked


def _remove_abandoned(parent: Path) -> None:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for folder in [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX)]:
            lock = _open_folder(folder)
            if lock is None:
                continue
            try:
                if _try_lock(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _open_folder(folder: Path) -> int | None:
    """Return a descriptor of a folder of this module and user; None for anything else or a missing one."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    status = os.fstat(lock)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == stat.S_IRWXU:
        return lock
    os.close(lock)
    return None


def _try_lock(lock: int) -> bool | None:
    """Return whether the lock was acquired; None where the file system does not lock folders."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return False if problem.errno in _HELD_ELSEWHERE else None
    return True


def _is_at(folder: Path, lock: int) -> bool:
    """Return whether the opened folder is still there under its name."""
    try:
        at_path, opened = os.stat(folder, follow_symlinks=False), os.fstat(lock)
    except FileNotFoundError:
        return False
    return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)
