"""Where compiled kernels are kept: by Numba beside their code or in the user's cache, else in a temporary folder."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba.core.config

from ..errors import PinnError

config: Any = numba.core.config


def kept(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return Numba's decorator for a kernel that is compiled once on a machine and releases the GIL.

    Raises `PinnError` where this process has no folder to keep it in.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        decorator = numba.njit(nogil=True, cache=True, **options)
        try:
            return decorator(function)
        except RuntimeError:  # Numba finds no folder that can be written to
            config.CACHE_DIR = str(_own_folder())
            return decorator(function)

    return decorate


def _own_folder() -> Path:
    """Return this user's folder for kernels among the temporary files. Others must not write: kernels are code."""
    folder = Path(tempfile.gettempdir()) / f"pinncore-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    except OSError:
        is_own = False
    if not is_own:
        raise PinnError(
            f"compiled kernels have no place: neither their code's folder nor the user's cache can be written to, and "
            f"{folder} is not a folder of this user alone. Set NUMBA_CACHE_DIR to a folder that is"
        )
    return folder
