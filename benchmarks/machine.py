"""The machine of a benchmark: processor, granted cores, versions of the libraries."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any, Final

LIBRARIES: Final = (
    "pinnsweep", "torch", "numpy", "numba", "ray", "optuna", "deepxde", "jinns", "jax", "jaxlib",
)  # fmt: skip
EXTRA: Final = "pip install pinnsweep[bench]"


def granted_cores() -> list[int]:
    """Return the numbers of the cores that this process may use; a scheduler may grant fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system and versions as plain values."""
    return {
        "processor": _processor(),
        "cores_granted": len(granted_cores()),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := installed(name))},
    }


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(modules: tuple[str, ...]) -> list[str]:
    """Return the modules that are not installed, without importing any."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def memory_bytes() -> int:
    """Return the physical memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
