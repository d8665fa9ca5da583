"""The profile of a SLURM cluster."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from annotated_types import Ge, Gt, MinLen

from ..errors import JobError
from ..profile import Profile

MAX_SCRATCH_BYTES: Final = 28  # of the 107 bytes of a Unix socket's path, the rest for names of the job and of Ray
SIGNAL_EARLY_S: Final = 60  # SLURM may send the signal this much earlier than requested


@dataclass(frozen=True, kw_only=True)
class SlurmProfile(Profile):
    """A SLURM cluster; None leaves a setting to the cluster.

    Each node runs one Ray with the resources that SLURM grants. `options` are further options of sbatch, such as
    `--reservation=spring`. `setup` lines, such as `module load cuda` or `source venv/bin/activate`, run on every node
    before anything else, and each must succeed; without them the programs are those of the submitting environment.
    `scratch` is a node-local folder for Ray. `jobs_dir`, by default `<root>/.jobs/<profile name>`, must be on a disk
    that all nodes and this machine share.

    `signal_before_end_s` before the time limit the command is asked to save its work, and SLURM to queue the job again.
    """

    kind: ClassVar[str] = "slurm"
    shares_files: ClassVar[bool] = True

    partition: Annotated[str, MinLen(1)] | None = None
    account: Annotated[str, MinLen(1)] | None = None
    qos: Annotated[str, MinLen(1)] | None = None
    constraint: Annotated[str, MinLen(1)] | None = None
    nodes: Annotated[int, Ge(1)] = 1
    cpus_per_node: Annotated[int, Ge(1)] | None = None
    gpus_per_node: Annotated[int, Ge(0)] = 0
    gpu_type: Annotated[str, MinLen(1)] | None = None
    memory_per_node_gb: Annotated[float, Gt(0)] | None = None
    time_limit_min: Annotated[int, Ge(1)] | None = None
    signal_before_end_s: Annotated[int, Ge(1)] = 120
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    scratch: Annotated[str, MinLen(1)] = "/tmp"
    jobs_dir: Annotated[str, MinLen(1)] | None = None

    def __post_init__(self) -> None:
        if self.gpu_type is not None and not self.gpus_per_node:
            raise JobError(f"gpu_type needs gpus_per_node of at least 1, got gpu_type={self.gpu_type!r} alone")
        minimum_s = self.signal_before_end_s + SIGNAL_EARLY_S
        if self.time_limit_min is not None and 60 * self.time_limit_min <= minimum_s:
            raise JobError(
                f"time_limit_min must be more than signal_before_end_s plus the minute that SLURM may be early, here "
                f"{minimum_s} s, got {self.time_limit_min}"
            )
        if not self.scratch.startswith("/") or len(self.scratch.encode()) > MAX_SCRATCH_BYTES:
            raise JobError(
                f"scratch must be an absolute path of at most {MAX_SCRATCH_BYTES} bytes because Ray makes sockets "
                f"below it, got {self.scratch!r}"
            )
        for option in self.options:
            if not option.startswith("-"):
                raise JobError(f"options must be options of sbatch, such as --exclusive, got {option!r}")
        if "://" in self.root and self.jobs_dir is None:
            raise JobError(f"jobs_dir must be given where root is not a folder, got root={self.root!r}")

    def sbatch_options(self) -> list[str]:
        """Return the options for sbatch, quoted for a shell."""
        gpu = f"gpu:{self.gpu_type}" if self.gpu_type else "gpu"
        memory_gb = self.memory_per_node_gb
        values = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": self.cpus_per_node,
            "gres": f"{gpu}:{self.gpus_per_node}" if self.gpus_per_node else None,
            "mem": None if memory_gb is None else f"{math.ceil(memory_gb * 1e9 / 2**20)}M",  # SLURM's M is 2**20 bytes
            "time": self.time_limit_min,
            "signal": f"B:USR1@{self.signal_before_end_s}",
        }
        options = [f"--{name}={shlex.quote(str(value))}" for name, value in values.items() if value is not None]
        return [*options, "--requeue", *self.options]
