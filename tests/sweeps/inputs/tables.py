"""Three tables of a small plate, in every form that programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pinncore import FieldData, load_data
from sweeps.inputs.opening import open_table

TABLES = ("gauss_points", "lrb", "btb")
Columns = dict[str, np.ndarray]
Write = Callable[[Path, Columns], Path]


def field(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.round(3e-4 * np.exp(-(x**2 + y**2) / 2000), 9)


def plate(points: int = 12, size_mm: float = 40.0) -> dict[str, Columns]:
    """The columns of the three tables, by the published names; the reference is the local strain."""
    middle = np.round((np.arange(points) + 0.5) * size_mm / points, 6)  # openpyxl keeps 16 digits
    x, y = (each.ravel() for each in np.meshgrid(middle, middle))
    along = np.linspace(0, size_mm, 9)
    ends, both = np.repeat([0.0, size_mm], 9), np.tile(along, 2)
    tables = {"gauss_points": (x, y), "lrb": (ends, both), "btb": (both, ends)}
    columns = {
        name: {"xcoord": x, "ycoord": y, "g": np.full(len(x), 8.0), "elocal": field(x, y)}
        for name, (x, y) in tables.items()
    }
    columns["gauss_points"]["enonlocal_true"] = columns["gauss_points"]["elocal"]
    return columns


def as_csv(path: Path, columns: Columns, separator: str = ",") -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [separator.join(columns), *(separator.join(map(shown, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value)!r}"


def written(folder: Path, tables: dict[str, Columns], write: Write = as_csv, ending: str = "csv") -> dict[str, Any]:
    """The tables as files, named as `data` names them."""
    return {name: str(write(folder / f"{name}.{ending}", columns)) for name, columns in tables.items()}


def read(source: dict[str, Any]) -> FieldData:
    return load_data(source, open_table)
