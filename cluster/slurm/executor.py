"""Back-end `slurm`: jobs as batch scripts of SLURM, each with a folder on the disk that all its machines share."""

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
from ..job import Job, JobState, Resources, without_secrets
from ..supervisor import CANCEL, ENDED, JOB, LOG, write_json
from .commands import Answer, Unreachable, not_installed, slurm, state_of
from .profile import SlurmProfile
from .script import batch_script

SCRIPT: Final = "job.sh"
IDS: Final = "slurm_ids"  # one a line, the newest last
LOOK_S: Final = 5.0  # between two questions of one handle to SLURM
_NODE_LOCAL: Final = ("/tmp", "/var/tmp", "/dev/shm")


class SlurmExecutor(FolderExecutor):
    """Hands jobs to SLURM; what is known of them lies in their folders."""

    def __init__(
        self, profile: SlurmProfile, name: str, *, look_s: float = LOOK_S, now: Callable[[], datetime] = utc_now
    ) -> None:
        jobs_dir = profile.jobs_dir or f"{profile.root}/{JOBS_FOLDER}/{name}"
        super().__init__(Path(jobs_dir).expanduser(), now=now)
        self._profile = profile
        self._name = name
        self._look_s = look_s

    def submit(self, job: Job) -> SlurmHandle:
        if job.resources != Resources():
            raise JobError(f"a job on SLURM has what its profile asks for each node, got {job.resources}")
        return self._handle(super().submit(job))

    def attach(self, job_id: str) -> SlurmHandle:
        return self._handle(super().attach(job_id))

    def list(self) -> Sequence[SlurmHandle]:
        return [self._handle(handle) for handle in super().list()]

    def _handle(self, handle: FolderHandle) -> SlurmHandle:
        return SlurmHandle(self._jobs_dir / handle.id, look_s=self._look_s)

    def preview(self, job: Job) -> str:
        folder = self._jobs_dir / "<number>"
        start = folder / FILES if job.files else (job.cwd or Path()).absolute()
        lines = [f"command: {shlex.join(_sbatch(folder))}"]
        lines += [f"file: {FILES}/{name}, {len(content)} bytes" for name, content in job.files.items()]
        return "\n".join([*lines, f"file: {SCRIPT}", self._script(job, folder, start, shown=True)])

    def _run(self, folder: Path) -> None:
        job = Job.from_json(json.loads((folder / JOB).read_text()))
        try:
            (folder / SCRIPT).write_text(self._script(job, folder, job.cwd or folder), encoding="utf-8")
            (folder / LOG).touch()  # there is something to read while the job waits
            answer = slurm(*_sbatch(folder))
            if answer.problem:
                raise ClusterError(self._refused(answer))
        except BaseException:
            shutil.rmtree(folder)
            raise
        with (folder / IDS).open("a") as ids:
            ids.write(f"{answer.text.partition(';')[0]}\n")  # the name of the cluster may follow

    def _script(self, job: Job, folder: Path, start: Path, *, shown: bool = False) -> str:
        environment = {**self._profile.environment, **job.environment}
        return batch_script(
            [f"--job-name={shlex.quote(' '.join(job.name.split()) or 'pinnsweep')}", *self._profile.sbatch_options()],
            job.argv,
            without_secrets(environment) if shown else environment,
            folder=folder,
            start=start,
            setup=self._profile.setup,
            scratch=self._profile.scratch,
        )

    def checks(self) -> Iterator[Check]:
        partition = self._profile.partition
        steps = {
            "sbatch is on PATH": self._missing,
            f"SLURM answers{f' and has the partition {partition}' if partition else ''}": self._wrong_partition,
            "SLURM takes jobs of this profile": self._refusal,
        }
        for what, look in steps.items():
            try:
                problem = look()
            except ClusterError as error:
                problem = str(error)
            yield Check(what, problem)
            if problem:
                return
        check = check_folder(self._jobs_dir)
        is_local = any(self._jobs_dir.is_relative_to(folder) for folder in _NODE_LOCAL)
        note = "; all nodes must see it, though it looks like a disk of this machine alone" if is_local else ""
        yield Check(f"{check.what}{note}", check.problem)

    def _missing(self) -> str:
        return "" if shutil.which("sbatch") else not_installed("sbatch")

    def _wrong_partition(self) -> str:
        answer = slurm("sinfo", "--noheader", "--format=%R|%a")
        if answer.problem:
            return f"sinfo does not tell the partitions ({answer.reason}): ask who runs the cluster"
        partitions = dict(line.split("|") for line in answer.text.split())
        for wanted in self._profile.partition.split(",") if self._profile.partition else ():
            if wanted not in partitions:
                return f"partition must be one of {', '.join(partitions)}, got {wanted!r}"
            if partitions[wanted] != "up":
                return f"the partition {wanted} is {partitions[wanted]}: wait until it is up, or take another"
        return ""

    def _refusal(self) -> str:
        """Have sbatch try: it knows the accounts, limits and nodes."""
        answer = slurm("sbatch", "--test-only", stdin=self._script(Job(argv=("true",)), self._jobs_dir, Path("/")))
        return self._refused(answer) if answer.problem else ""

    def _refused(self, answer: Answer) -> str:
        return f"SLURM refuses the job ({answer.reason}): change profile {self._name}, or ask who runs the cluster"


def _sbatch(folder: Path) -> tuple[str, ...]:
    return ("sbatch", "--parsable", str(folder / SCRIPT))


class SlurmHandle(FolderHandle):
    """A job of SLURM: `ended.json` in its folder tells how it ended, and SLURM what happens until then."""

    def __init__(self, folder: Path, *, look_s: float = LOOK_S) -> None:
        super().__init__(folder)
        self._look_s = look_s
        self._seen, self._seen_at = JobState.PENDING, -math.inf

    def state(self) -> JobState:
        if ended := self._read(ENDED):
            return JobState(ended["state"])
        if time.monotonic() >= self._seen_at + self._look_s:
            self._seen, self._seen_at = self._look(), time.monotonic()
        if self._seen.finished and (ended := self._read(ENDED)):  # it may have ended between the two looks
            return JobState(ended["state"])
        is_stopped = self._seen.finished and self._seen is not JobState.DONE and self._read(CANCEL)
        return JobState.CANCELLED if is_stopped else self._seen

    def cancel(self, *, grace_s: float = 10.0) -> None:
        if self.state().finished:
            return
        write_json(self._folder / CANCEL, {"grace_s": grace_s})
        if number := self._number():
            slurm("scancel", "--state=PENDING", number)  # nothing for one that runs
            slurm("scancel", "--batch", "--signal=TERM", number)  # a script that only starts finds the record
        self._seen_at = -math.inf

    def _number(self) -> str | None:
        """The newest number that SLURM gave the job; None while it is being submitted."""
        try:
            return (self._folder / IDS).read_text().split()[-1]
        except (FileNotFoundError, IndexError):
            return None

    def _look(self) -> JobState:
        number = self._number()
        try:
            return JobState.PENDING if number is None else state_of(number)
        except Unreachable:
            return JobState.UNKNOWN
