"""One writer a study: an advisory lock the kernel releases when its holder dies, with a note of who holds it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import StudyError

FILE = "lock"
PATIENCE_S = 60.0  # how long processes of a killed driver may take to go away


class StudyLock:
    """Holds `STUDY/lock`; raises `StudyError` where a living driver holds it, or where the file system cannot lock."""

    def __init__(self, study_dir: Path, *, driver_pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = open(study_dir / FILE, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as the lock is held
        deadline = clock() + PATIENCE_S
        while not self._try():
            holder = read_holder(study_dir)
            if not holder or _alive(holder) or clock() > deadline:
                self._file.close()
                raise _held(study_dir, holder)
            time.sleep(0.2)  # the driver was killed; its processes are on their way out
        self._file.seek(0)
        self._file.truncate()
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "driver_pid": driver_pid}, self._file)
        self._file.flush()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                return False
            raise StudyError(
                f"{self._file.name}: this file system cannot lock ({problem.strerror}); put the study on one that can"
            ) from None
        return True

    def release(self) -> None:
        """Give the study up."""
        self._file.seek(0)
        self._file.truncate()
        self._file.close()


def read_holder(study_dir: Path) -> dict[str, Any]:
    """Who wrote the lock file last; empty where nobody holds the study."""
    try:
        holder: dict[str, Any] = json.loads((study_dir / FILE).read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return holder


def held_by(study_dir: Path) -> str | None:
    """Who runs the study now, or None; takes no lock that a driver could miss."""
    try:
        with open(study_dir / FILE, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return describe(read_holder(study_dir))
    except OSError:
        return None
    return None


def refuse_held(study_dir: Path) -> None:
    """Raise `StudyError` at once where a living driver holds the study."""
    holder = read_holder(study_dir)
    if held_by(study_dir) and (not holder or _alive(holder)):
        raise _held(study_dir, holder)


def _held(study_dir: Path, holder: dict[str, Any]) -> StudyError:
    return StudyError(f"{study_dir} is being run by {describe(holder)}. Wait for it or stop it: a study has one driver")


def describe(holder: dict[str, Any]) -> str:
    """The holder in words."""
    return f"process {holder['driver_pid']} on {holder['host']}" if holder else "another process"


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the driver lives; on another host nobody can tell, so it counts as living."""
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(holder["driver_pid"]), 0)
    except (ProcessLookupError, KeyError):
        return False
    except PermissionError:
        return True
    return True
