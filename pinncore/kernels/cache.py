"""Where compiled kernels are kept: in a folder named for everything that their machine code depends on.

Numba keeps a kernel as long as the file of its function is the same, whatever the function calls. So the name of the
folder is a hash of the sources of all kernels, of Numba, LLVM and the processor: an edit or another version leaves the
old folder behind. It lies where Numba would keep kernels: in `NUMBA_CACHE_DIR`, beside the code, in the user's cache,
else among the temporary files.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numba.core.config
from numba.misc.appdirs import AppDirs

from ..errors import PinnError

PACKAGE = Path(__file__).parents[1]
SOURCES = ("kernels/*.py", "engines/fused_kernels.py", "optim/rows.py", "optim/memory/*.py")  # of all kernels

config: Any = numba.core.config
_DECORATING = threading.RLock()  # Numba reads the folder from its configuration, which all threads share


def kept(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return Numba's decorator for a kernel that is compiled once on a machine and releases the GIL.

    Raises `PinnError` where this process has no folder to keep it in.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        with _into_folder():
            return numba.njit(nogil=True, cache=True, **options)(function)

    return decorate


def kept_callback(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return Numba's decorator for a function that kernels call by its address. Raises `PinnError` as `kept`."""

    def decorate(function: Callable[..., Any]) -> Any:
        with _into_folder():
            return numba.cfunc(signature, cache=True)(function)

    return decorate


def generated_module(name: str, source: str) -> ModuleType:
    """Return the module of a generated source, kept in a file for Numba; `name` is enough to tell it from others."""
    if name in sys.modules:
        return sys.modules[name]
    path = kernel_folder() / f"{name}.py"
    if not path.is_file() or path.read_text() != source:
        beside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        beside.write_text(source)
        beside.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return sys.modules.setdefault(name, module)


def kernel_folder() -> Path:
    """Return the folder of these kernels, which exists. Raises `PinnError` where there is none to be had."""
    return _folder(config.CACHE_DIR)


@functools.cache
def kernel_digest() -> str:
    """Return a hash of what the machine code of kernels depends on."""
    features = llvmlite.binding.get_host_cpu_features().flatten()
    machine = (numba.__version__, llvmlite.__version__, llvmlite.binding.get_host_cpu_name(), features)
    digest = hashlib.sha256(repr((machine, sys.version_info[:2])).encode())
    for pattern in SOURCES:
        for file in sorted(PACKAGE.glob(pattern)):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


@contextmanager
def _into_folder() -> Iterator[None]:
    """Let Numba keep what is decorated meanwhile in the folder of these kernels."""
    with _DECORATING:
        before = config.CACHE_DIR
        config.CACHE_DIR = str(kernel_folder())
        try:
            yield
        finally:
            config.CACHE_DIR = before


@functools.cache
def _folder(chosen: str) -> Path:
    """Return the folder in the first place that can be written to; `chosen` is the user's own choice or empty."""
    name = f"kernels-{kernel_digest()}"
    for place in [Path(chosen)] if chosen else _places():
        folder = place / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return _temporary_folder(name)


def _places() -> list[Path]:
    """Return where kernels are kept unless the user says it: beside the code, or in the user's cache."""
    return [PACKAGE / "__pycache__", Path(AppDirs("pinncore", False).user_cache_dir)]


def _temporary_folder(name: str) -> Path:
    """Return this user's folder for kernels among the temporary files. Others must not write: kernels are code."""
    place = Path(tempfile.gettempdir()) / f"pinncore-kernels-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        folder = place / name
        if is_own:
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        is_own = False
    if not is_own:
        raise PinnError(
            f"compiled kernels have no place: neither their code's folder nor the user's cache can be written to, and "
            f"{place} is not a folder of this user alone. Set NUMBA_CACHE_DIR to a folder that is"
        )
    return folder
