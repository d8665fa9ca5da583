"""Jobs, their states and their handles: `Job`, `JobState`, `JobHandle`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from .errors import JobError


class JobState(StrEnum):
    """The state of a job. The first three can still change, the others are final."""

    PENDING = "pending"
    """Accepted but not started yet."""
    RUNNING = "running"
    """Its command runs."""
    UNKNOWN = "unknown"
    """It cannot be seen from here: it runs on another machine, or the place does not answer."""
    DONE = "done"
    """Its command ended with exit code 0."""
    FAILED = "failed"
    """Its command could not be started, or its exit code was not 0."""
    CANCELLED = "cancelled"
    """It was asked to stop, and stopped."""
    TIMED_OUT = "timed_out"
    """It was stopped at its time limit."""
    LOST = "lost"
    """It is gone without an exit code: killed together with its supervisor, or the machine went down."""

    @property
    def finished(self) -> bool:
        """Return whether this state is final."""
        return self not in (JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources that a job requests; None leaves one to the back-end.

    The back-ends of this machine refuse more than the machine has, but reserve nothing.
    """

    cpus: int | None = None
    gpus: int | None = None
    memory_gb: float | None = None
    timeout_min: float | None = None

    def __post_init__(self) -> None:
        for name, minimum in (("cpus", 1), ("gpus", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < minimum):
                raise JobError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
        for name in ("memory_gb", "timeout_min"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise JobError(f"{name} must be greater than 0, got {value!r}; leave it out for no limit")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to run, as words: never a shell string, never a Python object.

    `environment` is added to the environment of the machine that runs the command. `files` are sent with the job: the
    command starts in a folder that holds them under these names. Without files it starts in `cwd`; None means the
    current folder, or the folder that the back-end chooses.
    """

    argv: tuple[str, ...]
    name: str = ""
    resources: Resources = Resources()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    cwd: Path | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv or not all(isinstance(word, str) for word in self.argv):
            raise JobError(f"argv must be one or more words, the command first, got {self.argv!r}")
        for name, value in self.environment.items():
            if not isinstance(name, str) or not isinstance(value, str) or not name or "=" in name:
                raise JobError(f"environment must map names to text, got {name!r}: {value!r}")
        if any("\0" in text for text in (*self.argv, *self.environment, *self.environment.values())):
            raise JobError("argv and environment must not contain the character NUL")
        if self.files and self.cwd is not None:
            raise JobError(f"a job with files starts in their folder, so cwd must be left out, got {self.cwd}")
        for name in self.files:
            if not name or name != PurePosixPath(name).name or name in (".", ".."):
                raise JobError(f"files must have plain names without folders, got {name!r}")
        object.__setattr__(self, "argv", tuple(self.argv))
        for name in ("environment", "files"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain JSON values, without its files."""
        return {
            "name": self.name,
            "argv": list(self.argv),
            "resources": asdict(self.resources),
            "environment": dict(self.environment),
            "cwd": None if self.cwd is None else str(self.cwd),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Job:
        """Return the job that `to_json` wrote, without its files."""
        return cls(
            name=record["name"],
            argv=tuple(record["argv"]),
            resources=Resources(**record["resources"]),
            environment=record["environment"],
            cwd=None if record["cwd"] is None else Path(record["cwd"]),
        )


class JobHandle(ABC):
    """A submitted job as a client sees it; the job does not depend on the client."""

    @property
    @abstractmethod
    def id(self) -> str:
        """Return the id that `Executor.attach` takes."""

    @property
    @abstractmethod
    def job(self) -> Job:
        """Return what was submitted, as far as the place keeps it: the name, and the command where it is known."""

    @property
    @abstractmethod
    def submitted_at(self) -> datetime:
        """Return the time of submission, with its zone."""

    @abstractmethod
    def state(self) -> JobState:
        """Return the current state of the job."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """Return the command's exit code: 128 + n where signal n ended it, 126 or 127 where it could not start.

        None while the job is not finished, for a lost job, and where the place does not report it.
        """

    @abstractmethod
    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Return both output streams piece by piece; with `follow`, go on until the job is finished.

        Raises `LogsNotKept` where the back-end kept no log.
        """

    @abstractmethod
    def cancel(self, *, grace_s: float = 10.0) -> None:
        """Ask the job to stop: SIGTERM, and after `grace_s` SIGKILL to all its processes. A finished job is left alone.

        Where the place fixes the grace when a job is submitted, the grace of its profile applies. Returns at once; use
        `wait` to wait until the job has stopped.
        """

    def wait(self, timeout_s: float | None = None) -> JobState:
        """Wait until the job is finished, at most `timeout_s`, and return its state."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 0.02
        while not (state := self.state()).finished:
            if deadline is not None and time.monotonic() >= deadline:
                break
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)
        return state
