"""Provenance of results: the machine, the versions of the libraries and of our own code, the data."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import platform
import socket
from typing import Final

import llvmlite.binding

from pinncore.sources import source_digest

from ..spec.study_spec import StudySpec

PACKAGES: Final = ("cluster", "pinncore", "sweeps")
LIBRARIES: Final = ("torch", "numpy", "scipy", "numba")  # on which results depend


@functools.cache
def versions() -> dict[str, str]:
    """Return the columns of a trials row that say where and with which versions it was trained."""
    return {
        "host": socket.gethostname(),
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "python_version": platform.python_version(),
        **{f"{name}_version": importlib.metadata.version(name) for name in (*LIBRARIES, "pinnsweep")},
        "code_version": code_version(),
    }


def data_hash(spec: StudySpec) -> str | None:
    """Return the hash of the data that all trials share, None where the data are swept. Raises `DataError`."""
    is_swept = any(name in spec.space for name in spec.record.data_settings)
    return None if is_swept else spec.problems_on_data()[0].data_sha256


def code_version() -> str:
    """Return the version of pinnsweep with the first digits of the hash of its sources."""
    return f"{importlib.metadata.version('pinnsweep')}+{source_digest(*PACKAGES)[:12]}"
