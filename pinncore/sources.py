"""The hash of our own code, which decides whether compiled kernels and results are those of this version."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".py", ".cuh", ".h")


@functools.cache
def source_digest(*packages: str) -> str:
    """Return the SHA-256 of all sources of some packages, Python's and those of GPU kernels, with their names."""
    digest = hashlib.sha256()
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            for file in sorted(file for suffix in SUFFIXES for file in folder.rglob(f"*{suffix}")):
                content = file.read_bytes()
                digest.update(f"{package}/{file.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
