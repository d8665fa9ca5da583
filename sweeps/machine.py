"""What this machine grants: the cores of this process and the device a study trains on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .spec import StudySpec


def available_cpus() -> int:
    """Cores this process may use, which under a scheduler are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_age_s() -> float:
    """Return the seconds since this process was started; where the system does not tell, the CPU time it took."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError):
        return time.process_time()


def device_of(spec: StudySpec, *, has_gpu: bool) -> str:
    """The device a study trains on, where there are GPUs or not; engine fused is for a CPU."""
    if spec.resources.device != "auto":
        return spec.resources.device
    return "cuda" if has_gpu and "fused" not in spec.values("engine") else "cpu"
