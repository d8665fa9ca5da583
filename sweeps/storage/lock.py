"""The lock of a study: an advisory file lock, which the kernel releases when its holder dies, and a note on the holder.

The note carries a fencing token, higher than any before, and a unique word. An owner that finds another note in its
place, or another file, has lost the study and publishes nothing more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final

from ..errors import StudyError
from .mounts import MOUNTINFO, lock_doubts

FILE = "lock"
PATIENCE_S = 60.0  # how long the processes of a killed driver may take to end
GLANCE_S = 2.0  # how long a lock without a note may be held: by a process that reads it or has just taken it
CHILD_TIMEOUT_S = 30.0
_REFUSED: Final = 0
_CHILD = """
import fcntl, sys
with open(sys.argv[1], "a+") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(0)
sys.exit(7)
"""
_WAY_OUT = (
    "Put the study on a file system with working locks (--root DIR), or its database on a server that locks by itself "
    "(state: postgresql://...)"
)


class StudyLock:
    """The lock on a study, held from creation to `release`.

    `driver_pid` is the process the user started. With `must_hold=False` a file system without locks is accepted, as the
    database refuses a second writer. Raises `StudyError` where a living driver holds the lock, or where the file system
    does not enforce locks.
    """

    def __init__(self, study_dir: Path, *, driver_pid: int, must_hold: bool = True) -> None:
        self._path = study_dir / FILE
        if must_hold:
            _refuse_doubtful(study_dir)
        started = time.monotonic()
        while not self._was_acquired(must_hold):
            holder = read_holder(study_dir)
            patience = GLANCE_S if not holder else PATIENCE_S if not _alive(holder) else -1.0
            if time.monotonic() - started > patience:
                raise _held(study_dir, holder)
            time.sleep(0.2)  # processes of a killed driver are ending, or another process reads the lock
        try:
            if must_hold:
                self._prove()
            last_token = read_note(study_dir).get("token", 0)
            self.token = 1 + (last_token if isinstance(last_token, int) else 0)
            self.word = uuid.uuid4().hex
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "driver_pid": driver_pid}
            self._write({"token": self.token, "word": self.word, **holder})
        except BaseException:
            self._file.close()
            raise

    def check(self) -> None:
        """Raise `StudyError` where this owner has lost the study; called before every publication."""
        study_dir = self._path.parent
        if self._file.closed or not self._is_at_path() or read_note(study_dir).get("word") != self.word:
            holder = read_holder(study_dir)
            is_other = bool(holder) and holder.get("word") != self.word
            now_held = f"; {describe(holder)} holds the study now" if is_other else ""
            raise StudyError(
                f"{self._path} was removed or replaced while this study was running{now_held}. Nothing more is "
                "recorded here. Let only one driver run it, then run the study again: it continues where it stopped"
            )

    def release(self) -> None:
        """Release the lock; the token stays in the file."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # a disk that is gone has no readers
                self._write({"token": self.token})
            self._file.close()

    def _was_acquired(self, must_hold: bool) -> bool:
        """Try to lock the file at the path; return whether that succeeded."""
        self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - open while the lock is held
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            is_held = problem.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
            if is_held or must_hold:
                self._file.close()
            if is_held:
                return False
            if must_hold:
                reason = f"this file system cannot lock ({problem.strerror})"
                raise StudyError(f"{self._path}: {reason}. {_WAY_OUT}") from None
        if not self._is_at_path():  # deleted since it was opened
            self._file.close()
            return False
        return True

    def _prove(self) -> None:
        """Raise `StudyError` unless another process is refused the lock that this one holds."""
        command = [sys.executable, "-I", "-S", "-c", _CHILD, str(self._path)]
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise StudyError(
                f"{self._path}: a second process could not try the lock in {CHILD_TIMEOUT_S:g} s; the file system "
                f"does not answer. {_WAY_OUT}"
            ) from None
        if child.returncode == 7:
            raise StudyError(
                f"{self._path}: the file system does not enforce locks: a second process got the one that is held. "
                f"{_WAY_OUT}"
            )
        if child.returncode != _REFUSED:
            reason = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
            raise StudyError(f"{self._path}: a second process could not try the lock ({reason}). {_WAY_OUT}")

    def _write(self, note: dict[str, Any]) -> None:
        self._file.seek(0)
        self._file.truncate()
        json.dump(note, self._file)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _is_at_path(self) -> bool:
        try:
            at_path, opened = os.stat(self._path), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return False
        return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)


def read_note(study_dir: Path) -> dict[str, Any]:
    """Return the note in the lock file; empty where the file is missing or damaged."""
    try:
        note = json.loads((study_dir / FILE).read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def read_holder(study_dir: Path) -> dict[str, Any]:
    """Return the note of the process that wrote the lock file last; empty where it has released the study."""
    note = read_note(study_dir)
    return note if {"host", "driver_pid"} <= note.keys() else {}


def held_by(study_dir: Path) -> str | None:
    """Return who runs the study now, in words, or None. A driver that starts meanwhile waits until this has ended."""
    try:
        with open(study_dir / FILE, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as problem:
                if problem.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                    return describe(read_holder(study_dir))
    except OSError:
        return None
    return None


def refuse_held(study_dir: Path) -> None:
    """Raise `StudyError` at once where a living driver holds the study."""
    holder = read_holder(study_dir)
    if held_by(study_dir) and (not holder or _alive(holder)):
        raise _held(study_dir, holder)


def _refuse_doubtful(study_dir: Path) -> None:
    try:
        mountinfo = Path(MOUNTINFO).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    doubts = lock_doubts(mountinfo, os.path.realpath(study_dir))
    if doubts:
        raise StudyError(doubts)


def stop_file(study_dir: Path) -> Path:
    """Return the path of the stop file: while it exists, workers finish the current step, save and end."""
    return study_dir / "stop"


def _held(study_dir: Path, holder: dict[str, Any]) -> StudyError:
    return StudyError(
        f"{study_dir} is being run by {describe(holder)}. Wait for it or stop it: a study has only one driver"
    )


def describe(holder: dict[str, Any]) -> str:
    """Return the holder in words."""
    return f"process {holder['driver_pid']} on {holder['host']}" if holder else "another process"


def _alive(holder: dict[str, Any]) -> bool:
    """Return whether the driver is alive; on another host this is unknown, so it counts as alive."""
    if holder.get("host") != socket.gethostname():
        return True
    try:
        with contextlib.suppress(PermissionError):
            os.kill(int(holder["driver_pid"]), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True
