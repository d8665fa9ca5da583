"""The problems of tests: the shipped one of study files without a name, and the toy problem as a user's file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sweeps.storage.stored_problem import write_problem
from sweeps.study.problems import load_problem

STRAIN: Final = load_problem(None, Path())
WIND_FILE: Final = Path(__file__).parent / "toy_problem.py"
WIND: Final = load_problem("toy_problem.py:Wind", WIND_FILE.parent)


def of_strain(folder: Path) -> Path:
    """Return a folder, made where it is missing, with the file of the shipped problem."""
    write_problem(folder, STRAIN)
    return folder
