"""The cores that this process may use, its age, its home, and the names of devices."""

from __future__ import annotations

import os
import time
from pathlib import Path


def available_cpus() -> int:
    """Return the number of cores that this process may use; a scheduler may grant fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kind_of(device: str) -> str:
    """Return the kind of a device, `cpu` or `cuda`: its name without the index."""
    return device.partition(":")[0]


def index_of(device: str) -> int | None:
    """Return the index in the name of a device, such as 1 of cuda:1; None where it has none."""
    index = device.partition(":")[2]
    return int(index) if index else None


def ensure_home() -> None:
    """Set HOME to / where no home is known, as containers do: without one libraries fail while they are imported."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/"


def process_age_s() -> float:
    """Return the seconds since this process started, or its CPU time where the system does not know the start."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError):
        return time.process_time()
