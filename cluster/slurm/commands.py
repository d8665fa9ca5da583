"""SLURM's commands: running them, and the meaning of their answers and errors."""

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
    """The output of a SLURM command; without a problem it succeeded."""

    text: str
    problem: str

    @property
    def reason(self) -> str:
        """Return the problem in SLURM's words, without its prefixes."""
        return "; ".join(_NOISE.sub("", line) for line in self.problem.splitlines())


def slurm(*argv: str, stdin: str = "") -> Answer:
    """Run a SLURM command and return its answer.

    Raises `ClusterError` where SLURM is not installed or set up, and `Unreachable` where it does not answer.
    """
    environment = {name: value for name, value in os.environ.items() if _is_inherited(name)}
    try:
        process = subprocess.run(
            argv, input=stdin, env=environment, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except FileNotFoundError:
        raise ClusterError(not_installed(argv[0])) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{argv[0]} had no answer within {ANSWER_S:g} s") from None
    if process.returncode == 0:
        return Answer(process.stdout.strip(), "")
    answer = Answer("", process.stderr.strip() or f"{argv[0]} ended with {process.returncode}")
    if "Unable to contact" in answer.problem:
        raise Unreachable(answer.reason)
    if re.search("configuration (file|source)", answer.problem):
        raise ClusterError(
            f"SLURM is not set up on this machine ({answer.reason}): use a login node of the cluster, or set SLURM_CONF"
        )
    return answer


def _is_inherited(name: str) -> bool:
    """Return whether a command gets a variable; those that SLURM gave a surrounding job are not for new jobs."""
    return not name.startswith("SLURM_") or name in ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")


class Unreachable(ClusterError):
    """A controller that does not answer; running jobs go on without it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"SLURM's controller does not answer ({reason}): try again later; `scontrol ping` shows whether it is back"
        )


def not_installed(command: str) -> str:
    """Return the message for a SLURM command that is missing."""
    return f"{command} is not on PATH: use a login node of the cluster, or load SLURM's module first"


def job_state(text: str) -> JobState:
    """Return the state that SLURM calls `text`, such as `RUNNING` or `CANCELLED by 1000`; UNKNOWN for a new word."""
    return _STATE_OF.get(text.split()[0].rstrip("+"), JobState.UNKNOWN)


def state_of(number: str) -> JobState:
    """Return the state of the job with SLURM's `number`, from the queue or, for older jobs, from the accounting.

    LOST where neither has the job. Raises `ClusterError` where the queue cannot be asked.
    """
    queue = slurm("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={number}")
    text = queue.text or slurm("sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={number}").text
    if text:
        return job_state(text)
    return JobState.LOST if "Invalid job id" in queue.problem or not queue.problem else JobState.UNKNOWN
