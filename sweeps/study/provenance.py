"""Provenance of this process: its machine, the versions of the libraries and of our own code."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import platform
import socket
from pathlib import Path
from typing import Final

import llvmlite.binding

from pinncore.data import load_data

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
    """Return the hash of the data that all trials of a study share, None where the data are swept."""
    return None if "data" in spec.space else load_data(spec.problem.get("data", "strb100")).sha256


def code_version() -> str:
    """Return the version of pinnsweep with the first digits of `source_digest`."""
    return f"{importlib.metadata.version('pinnsweep')}+{source_digest()[:12]}"


@functools.cache
def source_digest() -> str:
    """Return the SHA-256 of all Python files of the project, with their names."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            for file in sorted(folder.rglob("*.py")):
                content = file.read_bytes()
                digest.update(f"{package}/{file.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
