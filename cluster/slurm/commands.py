"""SLURM's commands as text in, text out: how they are run, what they answer, what their complaints mean."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import Final

from ..errors import ClusterError
from ..job import JobState

ANSWER_S: Final = 90.0  # SLURM itself waits up to 60 s for a configuration file
_NOISE: Final = re.compile(
    r"^((sbatch|scancel|sinfo|error|fatal|slurm_load_\w+ error|allocation failure|Batch job submission failed): )+"
)
_STATES: Final = {
    JobState.PENDING: "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT",
    JobState.RUNNING: "RUNNING COMPLETING SUSPENDED STOPPED SIGNALING RESIZING STAGE_OUT",
    JobState.DONE: "COMPLETED",
    JobState.FAILED: "FAILED OUT_OF_MEMORY",
    JobState.CANCELLED: "CANCELLED REVOKED",
    JobState.TIMED_OUT: "TIMEOUT DEADLINE",
    JobState.LOST: "NODE_FAIL BOOT_FAIL PREEMPTED",
}
_STATE_OF: Final = {word: state for state, words in _STATES.items() for word in words.split()}


@dataclass(frozen=True)
class Answer:
    """What a command of SLURM's said; without a problem it succeeded."""

    text: str
    problem: str

    @property
    def reason(self) -> str:
        """The problem in SLURM's own words, without its prefixes."""
        return "; ".join(_NOISE.sub("", line) for line in self.problem.splitlines())


def slurm(*argv: str, stdin: str = "") -> Answer:
    """Run a command of SLURM's. Raises `ClusterError` where SLURM is not installed or cannot be reached."""
    environment = {name: value for name, value in os.environ.items() if _is_ours(name)}
    try:
        done = subprocess.run(
            argv, input=stdin, env=environment, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except FileNotFoundError:
        raise ClusterError(not_installed(argv[0])) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{argv[0]} had no answer within {ANSWER_S:g} s") from None
    if done.returncode == 0:
        return Answer(done.stdout.strip(), "")
    answer = Answer("", done.stderr.strip() or f"{argv[0]} ended with {done.returncode}")
    if "Unable to contact" in answer.problem:
        raise Unreachable(answer.reason)
    if re.search("configuration (file|source)", answer.problem):
        raise ClusterError(
            f"SLURM is not set up on this machine ({answer.reason}): use a login node of the cluster, or set SLURM_CONF"
        )
    return answer


def _is_ours(name: str) -> bool:
    """Whether a variable is not what a job that surrounds us was given, which new jobs must not take for theirs."""
    return not name.startswith("SLURM_") or name in ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")


class Unreachable(ClusterError):
    """The controller does not answer; jobs that run go on without it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"SLURM's controller does not answer ({reason}): try again later; `scontrol ping` tells when it is back"
        )


def not_installed(command: str) -> str:
    """What to say where a command of SLURM's is missing."""
    return f"{command} is not on PATH: use a login node of the cluster, or load SLURM's module first"


def job_state(told: str) -> JobState:
    """What a state means that SLURM tells, such as `RUNNING` or `CANCELLED by 1000`; UNKNOWN for a new word."""
    return _STATE_OF.get(told.split()[0].rstrip("+"), JobState.UNKNOWN)


def state_of(number: str) -> JobState:
    """Ask the queue, which is never late, and the accounting, which never forgets.

    LOST where neither knows of it. Raises `ClusterError` where the queue cannot be asked.
    """
    queue = slurm("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={number}")
    told = queue.text or slurm("sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={number}").text
    if told:
        return job_state(told)
    return JobState.LOST if "Invalid job id" in queue.problem or not queue.problem else JobState.UNKNOWN
