"""Jobs as folders `<jobs folder>/<id>/`: what the back-ends `inline`, `local` and `slurm` share."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import platform
import shlex
import signal
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import ClusterError, JobError, JobNotFound, LogsNotKept
from .executor import Check, Executor
from .hiding import without_secrets
from .job import Job, JobHandle, JobState, Resources
from .supervisor import CANCEL, ENDED, JOB, LOG, PROCESS, start_mark, write_json

JOBS_FOLDER = ".jobs"  # under a root of studies
FILES = "files"  # folder of the job's files, in which its command starts
PIECE_BYTES = 1 << 16
FOLLOW_PAUSE_S = 0.1


def utc_now() -> datetime:
    """Return the current time in UTC, with its zone."""
    return datetime.now(UTC)


class FolderHandle(JobHandle):
    """A job read from its folder; any number of clients may read it at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            record = json.loads((folder / JOB).read_text())
            self._job = Job.from_json(record)
            self._submitted_at = datetime.fromisoformat(record["submitted_at"])
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError(f"{folder / JOB} is not a job record ({error}); remove the folder") from error

    @property
    def id(self) -> str:
        return self._folder.name

    @property
    def job(self) -> Job:
        return self._job

    @property
    def submitted_at(self) -> datetime:
        return self._submitted_at

    def state(self) -> JobState:
        if ended := self._read(ENDED):
            return JobState(ended["state"])
        process = self._read(PROCESS)
        if process is None:
            return JobState.CANCELLED if self._read(CANCEL) else JobState.PENDING
        if process["host"] != platform.node():
            return JobState.UNKNOWN
        if any(_alive(process[role]) for role in ("supervisor", "command")):
            return JobState.RUNNING
        if ended := self._read(ENDED):  # it may have ended since the first read
            return JobState(ended["state"])
        return JobState.CANCELLED if self._read(CANCEL) else JobState.LOST

    def exit_code(self) -> int | None:
        ended = self._read(ENDED)
        return None if ended is None else int(ended["exit_code"])

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        path = self._folder / LOG
        while not path.exists():
            if not follow or self._read(PROCESS) or self.state().finished:
                raise LogsNotKept(f"job {self.id} has no log: it writes to the terminal it was started from")
            time.sleep(FOLLOW_PAUSE_S)
        return self._pieces(path, follow)

    def _pieces(self, path: Path, follow: bool) -> Iterator[str]:
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        with path.open("rb") as file:
            is_last = not follow
            while True:
                is_last = is_last or self.state().finished  # before the read, so that the end of the log is not missed
                while piece := file.read(PIECE_BYTES):
                    yield decode(piece)
                if is_last:
                    if rest := decode(b"", final=True):
                        yield rest
                    return
                time.sleep(FOLLOW_PAUSE_S)

    def cancel(self, *, grace_s: float = 10.0) -> None:
        if self.state().finished:
            return
        write_json(self._folder / CANCEL, {"grace_s": grace_s})
        process = self._read(PROCESS)
        if process and process["host"] == platform.node() and not _alive(process["supervisor"]):
            _stop_orphan(process["command"], grace_s)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((self._folder / name).read_text())
        except FileNotFoundError:
            return None
        return record


class FolderExecutor(Executor):
    """An executor whose jobs each have a folder under `jobs_dir`, numbered from 1."""

    def __init__(self, jobs_dir: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        self._jobs_dir = jobs_dir.absolute()
        self._now = now

    def _preview(self, job: Job) -> str:
        lines = [f"folder: {self._jobs_dir}/<number>", f"command: {shlex.join(job.argv)}"]
        lines += [f"environment: {name}={value}" for name, value in without_secrets(job.environment).items()]
        return "\n".join([*lines, *(f"file: {name}, {len(content)} bytes" for name, content in job.files.items())])

    def checks(self) -> Iterator[Check]:
        yield check_folder(self._jobs_dir)

    def submit(self, job: Job) -> FolderHandle:
        check_fits(job.resources)
        folder = self._new_folder()
        start = job.cwd or Path()
        if job.files:
            start = folder / FILES
            start.mkdir()
            for name, content in job.files.items():
                (start / name).write_bytes(content)
        record = {**job.to_json(), "cwd": str(start.absolute())}
        write_json(folder / JOB, {**record, "submitted_at": self._now().isoformat()})
        self._run(folder)
        return FolderHandle(folder)

    @abstractmethod
    def _run(self, folder: Path) -> None:
        """Start the job of this folder; return once the back-end has it."""

    def attach(self, job_id: str) -> FolderHandle:
        ids = self._ids()
        if job_id not in ids:
            raise JobNotFound(f"no job {job_id!r} in {self._jobs_dir}; known jobs: {', '.join(ids) or 'none'}")
        return FolderHandle(self._jobs_dir / job_id)

    def list(self) -> Sequence[FolderHandle]:
        return [FolderHandle(self._jobs_dir / job_id) for job_id in self._ids()]

    def _ids(self) -> Sequence[str]:
        names = (path.parent.name for path in self._jobs_dir.glob(f"*/{JOB}"))
        return sorted((name for name in names if name.isdecimal()), key=int)

    def _new_folder(self) -> Path:
        self._jobs_dir.mkdir(parents=True, exist_ok=True)
        number = max(map(int, self._ids()), default=0) + 1
        while True:
            folder = self._jobs_dir / str(number)
            try:
                folder.mkdir(mode=0o700)  # a job's environment may hold secrets
            except FileExistsError:  # another client took the number
                number += 1
            else:
                return folder


def check_folder(folder: Path) -> Check:
    """Check whether a folder, made if it is missing, can be written to."""
    what = f"{folder} can be written to"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check(what)
    except OSError as error:
        return Check(what, f"{folder} cannot be written to ({error.strerror}): make it writable, or use another root")


def check_fits(resources: Resources) -> None:
    """Raise `JobError` where this machine has fewer CPUs or GPUs or less memory than requested."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    limits = {
        "cpus": os.cpu_count() or 1,
        "gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
        "memory_gb": round(memory_gb, 1),
    }
    for name, limit in limits.items():
        value = getattr(resources, name)
        if value is not None and value > limit:
            raise JobError(f"{name} must be at most {limit}, which is what this machine has, got {value}")


def _alive(process: list[Any] | None) -> bool:
    """Return whether the process [pid, start mark] is alive; another process with the same pid does not count."""
    return process is not None and process[1] is not None and start_mark(process[0]) == process[1]


def _stop_orphan(command: list[Any] | None, grace_s: float) -> None:
    """Stop a command whose supervisor is gone: SIGTERM, and after the grace SIGKILL to its process group."""
    if command is None or not _alive(command):
        return
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError):
        os.kill(command[0], signal.SIGTERM)
        while _alive(command) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _alive(command):
            os.killpg(command[0], signal.SIGKILL)
