"""Sources of a study's data and initial weights, as a study file writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pinncore.data.loading import FILES
from pinncore.data.tables import OPTIONS

FILE_PREFIX: Final = "file:"
TRIAL_PREFIX: Final = "trial:"
DATA_FILES: Final = FILES
TABLES: Final = ("data", "points_table")  # settings of problems that name tables
DATA_KEYS: Final = (*FILES, *OPTIONS)


def split_source(init: str) -> tuple[Path, int] | None:
    """Return study folder and trial number of `trial:STUDY/N`, or None for any other text."""
    folder, slash, number = init.removeprefix(TRIAL_PREFIX).rpartition("/")
    if not (init.startswith(TRIAL_PREFIX) and slash and folder and re.fullmatch("[0-9]{1,9}", number)):
        return None
    return Path(folder), int(number)


def absolute_source(init: str, base: Path) -> str:
    """Return `trial:STUDY/N` with the folder made absolute from `base`, and any other text unchanged."""
    source = split_source(init)
    if source is None:
        return init
    folder, number = source
    return f"{TRIAL_PREFIX}{os.path.abspath(base / os.path.expanduser(folder))}/{number}"
