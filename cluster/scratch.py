"""Folders for what is needed only as long as this process works: removed at the end, or later where it was killed.

A folder belongs to the process that holds the kernel's lock on it. The kernel gives the lock up however a process dies,
so a folder without one is nobody's, whatever process has the old number now, and in whichever container it runs that
shares the temporary folder. systemd-tmpfiles, too, leaves locked folders alone however old they are.
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

PREFIX: Final = ".pinnsweep-"  # short, for Ray puts sockets below such folders, whose paths have at most 107 bytes
_TAKEN: Final = (errno.EWOULDBLOCK, errno.EAGAIN)
_open: set[Path] = set()  # of this process


@contextlib.contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """Make a folder of this user alone in the temporary folder, and remove it with all it holds.

    `what` is a word of its name. What killed processes of this user left is removed first.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    folder, lock = _made(parent, what)
    _open.add(folder)
    try:
        yield folder
    finally:
        _open.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)  # what stays, because it is still written to, goes later
        os.close(lock)


def remove_scratch() -> None:
    """Remove the folders of this process at once, for one that ends without leaving its `with` blocks."""
    for folder in list(_open):
        shutil.rmtree(folder, ignore_errors=True)


def _made(parent: Path, what: str) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{what}-", dir=parent))
        lock = _opened(folder)
        if lock is not None:
            # Where the file system cannot lock, nobody else can either, and so nobody takes it for abandoned.
            if _locked(lock) is not False and _is_at(folder, lock):
                return folder, lock
            os.close(lock)
        # another process that looks for abandoned ones came first, in the moment before it was locked


def _remove_abandoned(parent: Path) -> None:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for folder in [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX)]:
            lock = _opened(folder)
            if lock is None:
                continue
            try:
                if _locked(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _opened(folder: Path) -> int | None:
    """A descriptor of a folder as this module makes them; None for anything else, or what is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    found = os.fstat(lock)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == stat.S_IRWXU:
        return lock
    os.close(lock)
    return None


def _locked(lock: int) -> bool | None:
    """Whether the lock could be had; None where the file system does not lock folders."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return False if problem.errno in _TAKEN else None
    return True


def _is_at(folder: Path, lock: int) -> bool:
    """Whether the folder that was opened is still there under its name."""
    try:
        there, held = os.stat(folder, follow_symlinks=False), os.fstat(lock)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
