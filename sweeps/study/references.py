"""References of problems that take time: computed once for the settings that they depend on, kept with the study."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinncore.disk import read_bytes
from pinncore.npz import MOST_BYTES

FOLDER: Final = "references"  # in the folder of a study: an .npz file for each key

Arrays = dict[str, NDArray[np.float64]]


def reference_store(study_dir: Path, *, keeps: bool) -> Callable[[str, Callable[[], Arrays]], Arrays]:
    """Return the store of a study's references for `Problem.storing`; without `keeps` nothing is written.

    Several processes may compute the same reference at once: each file is written beside and renamed. One that is
    damaged, or cannot be written, is computed again.
    """
    folder = study_dir / FOLDER

    def store(key: str, compute: Callable[[], Arrays]) -> Arrays:
        file = folder / f"{key}.npz"
        with (
            contextlib.suppress(OSError, ValueError, zipfile.BadZipFile),
            np.load(io.BytesIO(read_bytes(file, MOST_BYTES)), allow_pickle=False) as arrays,
        ):
            return dict(arrays)
        found = compute()
        if keeps:
            with contextlib.suppress(OSError):
                _write(file, found)
        return found

    return store


def _write(file: Path, arrays: Arrays) -> None:
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f".{file.stem}.{uuid.uuid4().hex}.new")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes names for flags
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
