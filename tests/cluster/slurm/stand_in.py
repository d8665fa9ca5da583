"""A SLURM of stand-in commands, for tests: each job really runs its script, on this machine, with a stub of Ray."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import Executor
from cluster.slurm.executor import SlurmExecutor
from cluster.slurm.profile import SlurmProfile

COMMANDS = Path(__file__).with_name("stand_in_commands.py")
NAMES = ("sbatch", "squeue", "sacct", "sinfo", "scancel", "scontrol", "srun")
RAY = """\
#!/bin/sh
echo "$@" >>"$STAND_IN_FOR_SLURM/ray"
[ ! -e "$STAND_IN_FOR_SLURM/no_ray" ] || { echo "no Ray today"; exit 1; }
for word; do
    case $word in --temp-dir=*) mkdir "${word#*=}" && echo 127.0.0.1:6379 >"${word#*=}/ray_current_cluster" ;; esac
done
[ -e "$STAND_IN_FOR_SLURM/slow_ray" ] || echo "Ray runtime started."
exec sleep 600
"""


@contextlib.contextmanager
def slurm_place(folder: Path) -> Iterator[Callable[[], Executor]]:
    """A cluster of stand-ins; what is yielded makes one more client of it."""
    with slurm_stand_in(folder / "slurm") as stand_in:
        profile = profile_for(stand_in, root=str(folder / "root"))
        yield lambda: SlurmExecutor(profile, "slurm", poll_s=0.1)


@contextlib.contextmanager
def slurm_stand_in(folder: Path) -> Iterator[Path]:
    """The commands first on PATH; yields the folder in which files steer them (see `stand_in_commands.py`)."""
    if sys.platform != "linux":
        pytest.skip("SLURM and the tools that its scripts use are those of Linux")
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in NAMES:
        words = shlex.join([sys.executable, "-IS", str(COMMANDS), name])
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (folder / "bin" / "ray").write_text(RAY)
    for command in (folder / "bin").iterdir():
        command.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as scratch, pytest.MonkeyPatch.context() as patch:
        (folder / "scratch").symlink_to(scratch)
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        patch.setenv("STAND_IN_FOR_SLURM", str(folder))
        try:
            yield folder
        finally:
            kill_all(f"STAND_IN_FOR_SLURM={folder}")


def profile_for(stand_in: Path, **settings: Any) -> SlurmProfile:
    """A profile whose setup puts the stub of Ray before the real one."""
    setup = (f"PATH={shlex.quote(str(stand_in / 'bin'))}:$PATH", *settings.pop("setup", ()))
    return SlurmProfile(scratch=str((stand_in / "scratch").readlink()), setup=setup, **settings)


def kill_all(variable: str) -> None:
    """Kill every process that has this variable in its environment, but this one, which got it only later."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
