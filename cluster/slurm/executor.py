"""Back-end `slurm`: jobs as batch scripts, each with a folder on a disk that all machines share."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from ..errors import ClusterError, JobError
from ..executor import Check
from ..folder import FILES, JOBS_FOLDER, FolderExecutor, FolderHandle, check_folder, utc_now
from ..hiding import without_secrets
from ..job import Job, JobState, Resources
from ..supervisor import CANCEL, ENDED, JOB, LOG, write_json
from .commands import Answer, Unreachable, not_installed, slurm, state_of
from .profile import SlurmProfile
from .script import batch_script

SCRIPT: Final = "job.sh"
IDS: Final = "slurm_ids"  # one per line, the newest last
POLL_S: Final = 5.0  # between two queries of one handle to SLURM
_NODE_LOCAL: Final = ("/tmp", "/var/tmp", "/dev/shm")


class SlurmExecutor(FolderExecutor):
    """An executor that hands jobs to SLURM and keeps their records in their folders."""

    def __init__(
        self, profile: SlurmProfile, name: str, *, poll_s: float = POLL_S, now: Callable[[], datetime] = utc_now
    ) -> None:
        jobs_dir = profile.jobs_dir or f"{profile.root}/{JOBS_FOLDER}/{name}"
        super().__init__(Path(jobs_dir).expanduser(), now=now)
        self._profile = profile
        self._name = name
        self._poll_s = poll_s

    def submit(self, job: Job) -> SlurmHandle:
        if job.resources != Resources():
            raise JobError(
                f"resources must be left out on SLURM: nodes have what its profile asks for, got {job.resources}"
            )
        return self._handle(super().submit(job))

    def attach(self, job_id: str) -> SlurmHandle:
        return self._handle(super().attach(job_id))

    def list(self) -> Sequence[SlurmHandle]:
        return [self._handle(handle) for handle in super().list()]

    def _handle(self, handle: FolderHandle) -> SlurmHandle:
        return SlurmHandle(self._jobs_dir / handle.id, poll_s=self._poll_s)

    def _preview(self, job: Job) -> str:
        folder = self._jobs_dir / "<number>"
        start = folder / FILES if job.files else (job.cwd or Path()).absolute()
        lines = [f"command: {shlex.join(_sbatch(folder))}"]
        lines += [f"file: {FILES}/{name}, {len(content)} bytes" for name, content in job.files.items()]
        return "\n".join([*lines, f"file: {SCRIPT}", self._script(job, folder, start, hide_secrets=True)])

    def _run(self, folder: Path) -> None:
        job = Job.from_json(json.loads((folder / JOB).read_text()))
        try:
            (folder / SCRIPT).write_text(self._script(job, folder, job.cwd or folder), encoding="utf-8")
            (folder / LOG).touch()  # so that `logs` works while the job waits
            answer = slurm(*_sbatch(folder))
            if answer.problem:
                raise ClusterError(self._refusal(answer))
        except BaseException:
            shutil.rmtree(folder)
            raise
        with (folder / IDS).open("a") as ids:
            ids.write(f"{answer.text.partition(';')[0]}\n")  # the cluster's name may follow

    def _script(self, job: Job, folder: Path, start: Path, *, hide_secrets: bool = False) -> str:
        environment = {**self._profile.environment, **job.environment}
        return batch_script(
            [f"--job-name={shlex.quote(' '.join(job.name.split()) or 'pinnsweep')}", *self._profile.sbatch_options()],
            job.argv,
            without_secrets(environment) if hide_secrets else environment,
            folder=folder,
            start=start,
            setup=self._profile.setup,
            scratch=self._profile.scratch,
        )

    def checks(self) -> Iterator[Check]:
        partition = self._profile.partition
        steps = {
            "sbatch is on PATH": self._missing_problem,
            f"SLURM answers{f' and has the partition {partition}' if partition else ''}": self._partition_problem,
            "SLURM accepts jobs of this profile": self._dry_run_problem,
        }
        for what, problem_of in steps.items():
            try:
                problem = problem_of()
            except ClusterError as error:
                problem = str(error)
            yield Check(what, problem)
            if problem:
                return
        check = check_folder(self._jobs_dir)
        is_local = any(self._jobs_dir.is_relative_to(folder) for folder in _NODE_LOCAL)
        note = "; all nodes must see it, but it looks like a disk of this machine only" if is_local else ""
        yield Check(f"{check.what}{note}", check.problem)

    def _missing_problem(self) -> str:
        return "" if shutil.which("sbatch") else not_installed("sbatch")

    def _partition_problem(self) -> str:
        answer = slurm("sinfo", "--noheader", "--format=%R|%a")
        if answer.problem:
            return f"sinfo does not list the partitions ({answer.reason}): ask the cluster's administrators"
        partitions = dict(line.split("|") for line in answer.text.split())
        for partition in self._profile.partition.split(",") if self._profile.partition else ():
            if partition not in partitions:
                return f"partition must be one of {', '.join(partitions)}, got {partition!r}"
            if partitions[partition] != "up":
                return f"the partition {partition} is {partitions[partition]}: wait until it is up, or use another"
        return ""

    def _dry_run_problem(self) -> str:
        """Return why sbatch refuses a test job, or nothing; it checks accounts, limits and nodes."""
        answer = slurm("sbatch", "--test-only", stdin=self._script(Job(argv=("true",)), self._jobs_dir, Path("/")))
        return self._refusal(answer) if answer.problem else ""

    def _refusal(self, answer: Answer) -> str:
        return (
            f"SLURM refuses the job ({answer.reason}): change profile {self._name}, or ask the cluster's administrators"
        )


def _sbatch(folder: Path) -> tuple[str, ...]:
    return ("sbatch", "--parsable", str(folder / SCRIPT))


class SlurmHandle(FolderHandle):
    """A job of SLURM: its state comes from SLURM until `ended.json` in its folder says how it ended."""

    def __init__(self, folder: Path, *, poll_s: float = POLL_S) -> None:
        super().__init__(folder)
        self._poll_s = poll_s
        self._state, self._queried_at = JobState.PENDING, -math.inf

    def state(self) -> JobState:
        if ended := self._read(ENDED):
            return JobState(ended["state"])
        if time.monotonic() >= self._queried_at + self._poll_s:
            self._state, self._queried_at = self._query(), time.monotonic()
        if self._state.finished and (ended := self._read(ENDED)):  # it may have ended since the first read
            return JobState(ended["state"])
        is_stopped = self._state.finished and self._state is not JobState.DONE and self._read(CANCEL)
        return JobState.CANCELLED if is_stopped else self._state

    def cancel(self, *, grace_s: float = 10.0) -> None:
        if self.state().finished:
            return
        write_json(self._folder / CANCEL, {"grace_s": grace_s})
        if number := self._number():
            slurm("scancel", "--state=PENDING", number)  # no effect on a running job
            slurm("scancel", "--batch", "--signal=TERM", number)  # a script that has just started reads the record
        self._queried_at = -math.inf

    def _number(self) -> str | None:
        """Return the newest number that SLURM gave the job; None while it is being submitted."""
        try:
            return (self._folder / IDS).read_text().split()[-1]
        except (FileNotFoundError, IndexError):
            return None

    def _query(self) -> JobState:
        number = self._number()
        try:
            return JobState.PENDING if number is None else state_of(number)
        except Unreachable:
            return JobState.UNKNOWN
