"""SLURM's commands as far as `cluster.slurm` uses them. The folder STAND_IN_FOR_SLURM holds

jobs/<id>/   script, state (as SLURM says it), pid of the script, requeued (while it is to run again)
held         while there, jobs wait
no_requeue   while there, no job may run again
down         while there, what every command that needs the controller complains of
accounting/  what sacct says of each job
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

FOLDER = Path(os.environ["STAND_IN_FOR_SLURM"])
JOBS = FOLDER / "jobs"


def main(command: str, words: list[str]) -> None:
    if command not in ("sacct", "run", "srun") and (FOLDER / "down").exists():
        fail((FOLDER / "down").read_text())
    options = dict(word.lstrip("-").partition("=")[::2] for word in words if word.startswith("-"))
    globals()[command](words, options)


def fail(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(1)


def job(number: str) -> Path:
    if not (JOBS / number / "state").exists():
        fail("slurm_load_jobs error: Invalid job id specified")
    return JOBS / number


def write(file: Path, text: str) -> None:
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(text)
    beside.rename(file)


def asked(script: str) -> Iterator[tuple[str, str]]:
    """The options in a script."""
    for line in script.splitlines():
        if line.startswith("#SBATCH --"):
            name, _, value = " ".join(shlex.split(line[10:])).partition("=")
            yield name, value


def sbatch(words: list[str], options: dict[str, str]) -> None:
    script = sys.stdin.read() if "test-only" in options else Path(words[-1]).read_text()
    partition = dict(asked(script)).get("partition", "main")
    if partition not in ("main", "long"):
        fail(
            f"sbatch: error: invalid partition specified: {partition}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified"
        )
    if "test-only" in options:
        return
    number = len(list(JOBS.iterdir())) + 1
    (JOBS / str(number)).mkdir()
    (JOBS / str(number) / "script").write_text(script)
    write(JOBS / str(number) / "state", "PENDING")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, "-IS", __file__, "run", str(number)], start_new_session=True, **quiet)  # type: ignore[call-overload]
    print(f"{number};cluster")


def run(words: list[str], options: dict[str, str]) -> None:
    """Be the controller and the node daemon of one job."""
    folder, restarts = job(words[0]), 0
    needs = dict(asked((folder / "script").read_text()))
    while True:
        while (FOLDER / "held").exists() and (folder / "state").read_text() == "PENDING":
            time.sleep(0.02)
        if (folder / "state").read_text() != "PENDING":
            return
        environment = {
            **os.environ,
            "SLURM_JOB_ID": words[0],
            "SLURM_RESTART_COUNT": str(restarts),
            "SLURM_JOB_NUM_NODES": needs["nodes"],
            "SLURMD_NODENAME": "node1",
            "SLURM_NTASKS": needs["nodes"],
        }
        with open(needs["output"].replace("%%", "%"), "ab") as output:
            script = subprocess.Popen(
                ["bash", folder / "script"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            write(folder / "pid", str(script.pid))
            write(folder / "state", "RUNNING")
            code = script.wait()
        if (folder / "requeued").exists():
            (folder / "requeued").unlink()
            restarts += 1
            write(folder / "state", "PENDING")
            continue
        was_cancelled = (folder / "state").read_text() == "CANCELLED"
        write(folder / "state", "CANCELLED" if was_cancelled else "FAILED" if code else "COMPLETED")
        return


def squeue(words: list[str], options: dict[str, str]) -> None:
    print((job(options["jobs"]) / "state").read_text())


def sacct(words: list[str], options: dict[str, str]) -> None:
    told = FOLDER / "accounting" / options["jobs"]
    if not told.exists():
        fail("Slurm accounting storage is disabled")
    print(told.read_text())


def sinfo(words: list[str], options: dict[str, str]) -> None:
    print("main|up\nlong|drain")


def scancel(words: list[str], options: dict[str, str]) -> None:
    folder = job(words[-1])
    state = (folder / "state").read_text()
    if state == "PENDING" and "signal" not in options:
        write(folder / "state", "CANCELLED")
    elif state == "RUNNING" and "state" not in options:
        if "signal" not in options:
            write(folder / "state", "CANCELLED")
        os.kill(int((folder / "pid").read_text()), signal.Signals[f"SIG{options.get('signal', 'TERM')}"])


def scontrol(words: list[str], options: dict[str, str]) -> None:
    if (FOLDER / "no_requeue").exists():
        fail(f"Requested operation is presently disabled for job {words[1]}")
    (job(words[1]) / "requeued").touch()
    os.kill(int((job(words[1]) / "pid").read_text()), signal.SIGTERM)


def srun(words: list[str], options: dict[str, str]) -> None:
    """A step: all of it is killed when this process is terminated, as SLURM does."""
    argv = words[next(place for place, word in enumerate(words) if not word.startswith("-")) :]
    environment = {**os.environ, "SLURM_CPUS_ON_NODE": "3", "SLURM_GPUS_ON_NODE": "1"}
    tasks = [subprocess.Popen(argv, env=environment, start_new_session=True) for _ in range(int(options["ntasks"]))]

    def stop(number: int, frame: FrameType | None) -> None:
        for task in tasks:
            os.killpg(task.pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    sys.exit(max(abs(task.wait()) for task in tasks))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
