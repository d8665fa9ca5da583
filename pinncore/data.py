"""The tables of a gradient-enhanced damage analysis, read with units and a check for the factor of ten.

Layout (one CSV for the Gauss points and one each for the left/right and bottom/top boundary nodes): columns
`xcoord, ycoord` in mm, `g` in mm^2, `elocal` and, where the truth is known, `enonlocal_true`, both dimensionless.
Published tables hold ten times `elocal`; here it is always physical, and `notes` says what the files held.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .npz import open_npz

Array = NDArray[np.float64]
ElocalFactor = Literal["auto", 1, 10]

BUNDLED = ("strb100",)
REQUIRED_COLUMNS = ("xcoord", "ycoord", "g", "elocal")
TABLES = ("gauss_points", "lrb", "btb")
HELD_OUT_POINTS = 2048
MOST_KEPT = 4  # data sets in memory


@dataclass(frozen=True)
class Points:
    """One table: arrays of shape [points]; lengths in mm, strains dimensionless and physical."""

    x_mm: Array
    y_mm: Array
    g_mm2: Array
    elocal: Array
    enonlocal_true: Array | None = None

    def __len__(self) -> int:
        return len(self.x_mm)

    @property
    def columns(self) -> dict[str, Array]:
        """Return the arrays by name, without missing ones."""
        arrays = {name: getattr(self, name) for name in ("x_mm", "y_mm", "g_mm2", "elocal", "enonlocal_true")}
        return {name: array for name, array in arrays.items() if array is not None}


@dataclass(frozen=True)
class FieldData:
    """The three tables of one load increment, with the reader's notes on units and ranges."""

    name: str
    gauss: Points
    lrb: Points
    btb: Points
    elocal_factor: int
    notes: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """Return a hash of all numbers in a fixed order; equal data have equal hashes whatever file they came from."""
        digest = hashlib.sha256()
        for points in (self.gauss, self.lrb, self.btb):
            for name, array in sorted(points.columns.items()):
                digest.update(name.encode() + np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    @cached_property
    def held_out(self) -> Points | None:
        """Return Halton points between the Gauss points, with `elocal` and `g` interpolated linearly; never trained on.

        None where nothing can be interpolated: fewer than three Gauss points, or all on one line.
        """
        from scipy.interpolate import LinearNDInterpolator  # both take a second to import
        from scipy.stats import qmc

        corners = np.stack([self.gauss.x_mm, self.gauss.y_mm], axis=1)
        if np.linalg.matrix_rank(corners - corners[0]) < 2:
            return None
        unit = qmc.Halton(d=2, scramble=False).random(HELD_OUT_POINTS + 1)[1:]  # the first point is a corner
        points = qmc.scale(unit, corners.min(axis=0), corners.max(axis=0))
        values = LinearNDInterpolator(corners, np.stack([self.gauss.g_mm2, self.gauss.elocal], axis=1))(points)
        inside = np.isfinite(values).all(axis=1)
        return Points(points[inside, 0], points[inside, 1], values[inside, 0], values[inside, 1])


def load_data(source: str | Mapping[str, Any] = "strb100") -> FieldData:
    """Read a bundled data set by name, one `.npz` written by `save_data`, or three CSV tables.

    `source` is `"strb100"`, `{"npz": path}`, or `{"gauss_points": path, "lrb": path, "btb": path}` with an optional
    `"elocal_factor"` of `"auto"` (default), 1 or 10. While the files stay as they are, a process reads them once; its
    arrays cannot be written to. Raises `DataError`.
    """
    if isinstance(source, str):
        return _read(source, ())
    paths = {key: os.path.abspath(value) if key in (*TABLES, "npz") else value for key, value in source.items()}
    return _read(json.dumps(paths), tuple(_stamp(path) for path in paths.values() if isinstance(path, str)))


def _stamp(path: str) -> tuple[int, int]:
    """Return time of change and size of a file, zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=MOST_KEPT)
def _read(source: str, stamps: tuple[tuple[int, int], ...]) -> FieldData:
    """Read the data set of a name or of a mapping in JSON; `stamps` tell the versions of its files apart."""
    data = _read_files(json.loads(source)) if source.startswith("{") else _read_bundled(source)
    for points in (data.gauss, data.lrb, data.btb):
        for array in points.columns.values():
            array.flags.writeable = False
    return data


def _read_bundled(name: str) -> FieldData:
    if name not in BUNDLED:
        raise DataError(
            f"data: no bundled data set is called {name!r}. Bundled: {', '.join(BUNDLED)}; for "
            "your own tables give {gauss_points: a.csv, lrb: b.csv, btb: c.csv}"
        )
    with resources.as_file(resources.files("pinncore.datasets") / f"{name}.npz") as path:
        return _read_npz(path)


def _read_files(source: Mapping[str, Any]) -> FieldData:
    unknown = set(source) - {*TABLES, "npz", "elocal_factor"}
    if unknown:
        raise DataError(
            f"data: unknown key {', '.join(sorted(map(repr, unknown)))}; known: {', '.join(TABLES)}, npz, elocal_factor"
        )
    if "npz" in source:
        if len(source) > 1:
            raise DataError("data: npz must be the only key")
        return _read_npz(Path(source["npz"]))
    missing = [table for table in TABLES if table not in source]
    if missing:
        raise DataError(f"data: the table {' and '.join(missing)} is missing; give gauss_points, lrb and btb")
    factor = source.get("elocal_factor", "auto")
    if factor not in ("auto", 1, 10) or isinstance(factor, bool):
        raise DataError(f"data.elocal_factor: must be auto, 1 or 10, got {factor!r}")
    return read_csv_tables(*(Path(source[table]) for table in TABLES), elocal_factor=factor)


def read_csv_tables(gauss_points: Path, lrb: Path, btb: Path, *, elocal_factor: ElocalFactor = "auto") -> FieldData:
    """Read the three CSV tables and return them with physical `elocal`, whatever its factor. Raises `DataError`."""
    tables = {name: _read_csv(Path(path)) for name, path in zip(TABLES, (gauss_points, lrb, btb), strict=True)}
    factor, origin = (elocal_factor, "as stated") if elocal_factor != "auto" else _find_factor(tables["gauss_points"])
    for name in ("lrb", "btb"):
        _check_same_factor(tables["gauss_points"], tables[name], name)
    physical = {name: _physical(table, factor) for name, table in tables.items()}
    return FieldData(
        Path(gauss_points).stem,
        physical["gauss_points"],
        physical["lrb"],
        physical["btb"],
        factor,
        _notes(physical, factor, origin),
    )


def save_data(data: FieldData, path: Path) -> None:
    """Write one `.npz` from which `load_data({"npz": path})` reads exactly the same numbers."""
    tables = zip(TABLES, (data.gauss, data.lrb, data.btb), strict=True)
    arrays: dict[str, Any] = {
        f"{table}/{name}": array for table, points in tables for name, array in points.columns.items()
    }
    header = {"name": data.name, "elocal_factor": data.elocal_factor, "notes": data.notes}
    np.savez_compressed(path, header=np.array(json.dumps(header)), **arrays)


def _read_npz(path: Path) -> FieldData:
    try:
        with open_npz(path) as archive:
            header = json.loads(archive.text("header"))
            arrays = archive.numbers(name for name in archive.names if name != "header")
        gauss, lrb, btb = (
            Points(**{key.split("/")[1]: arrays[key] for key in arrays if key.startswith(f"{table}/")})
            for table in TABLES
        )
        return FieldData(header["name"], gauss, lrb, btb, header["elocal_factor"], tuple(header["notes"]))
    except FileNotFoundError:
        raise DataError(f"data: {path} does not exist") from None
    except OSError as problem:
        raise DataError(f"data: {path} cannot be read ({problem.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise DataError(
            f"data: {path} is not a data file written by pinncore ({problem}); write it again with "
            "pinncore.save_data, or give CSV tables as gauss_points, lrb and btb"
        ) from None


def _read_csv(path: Path) -> dict[str, Array]:
    try:
        header, *rows = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except FileNotFoundError:
        raise DataError(f"data: {path} does not exist") from None
    except OSError as problem:
        raise DataError(f"data: {path} cannot be read ({problem.strerror})") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"data: {path} is not a table of numbers ({problem})") from None
    names = [name.strip() for name in header.split(",")]
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        raise DataError(f"data: {path} lacks the column {', '.join(missing)}; its header is {header[:200]}")
    rows = [row for row in rows if row.strip()]
    if not rows:
        raise DataError(f"data: {path} has a header but no rows")
    try:
        values = np.loadtxt(rows, delimiter=",", ndmin=2)
    except ValueError as problem:
        raise DataError(f"data: {path} is not a table of numbers ({problem})") from None
    if values.shape[1] != len(names):
        raise DataError(f"data: {path} has {values.shape[0]} rows of {values.shape[1]} values under {len(names)} names")
    table = dict(zip(names, values.T, strict=True))
    for name in (*REQUIRED_COLUMNS, "enonlocal_true"):
        if name in table and not np.isfinite(table[name]).all():
            raise DataError(f"data: {path} has a value that is not finite in the column {name}")
    if (table["g"] <= 0).any():
        raise DataError(f"data: {path} has g <= 0; g = l_c^2/2 in mm^2 must be positive")
    return table


def _find_factor(gauss: dict[str, Array]) -> tuple[int, str]:
    """Return 1 or 10 and how it was found: with zero flux on the boundary the mean of u equals the mean of e."""
    if "enonlocal_true" not in gauss:
        raise DataError(
            "data: without the column enonlocal_true the factor of elocal, 1 (physical) or 10, cannot be found. "
            "State it: elocal_factor: 1 or elocal_factor: 10"
        )
    ratio = float(gauss["elocal"].mean() / gauss["enonlocal_true"].mean())
    for factor in (1, 10):
        if 0.5 < ratio / factor < 2:
            return factor, f"found from mean elocal / mean enonlocal_true = {ratio:.3g}"
    raise DataError(
        f"data: mean elocal is {ratio:.3g} times mean enonlocal_true, neither about 1 nor about 10: the "
        "two columns are in different units. Correct the table, or state elocal_factor"
    )


def _check_same_factor(gauss: dict[str, Array], nodes: dict[str, Array], name: str) -> None:
    """Raise `DataError` where boundary nodes differ too much from the nearest Gauss points: a factor of ten."""
    distance = (nodes["xcoord"][:, None] - gauss["xcoord"]) ** 2 + (nodes["ycoord"][:, None] - gauss["ycoord"]) ** 2
    nearest = gauss["elocal"][distance.argmin(axis=1)]
    positive = (nearest > 0) & (nodes["elocal"] > 0)
    if not positive.any():
        return
    ratio = float(np.median(nodes["elocal"][positive] / nearest[positive]))
    if not 1 / 3 < ratio < 3:
        raise DataError(
            f"data: elocal in the table {name} is {ratio:.3g} times that of the nearest Gauss points: the "
            "tables are in different units (a factor of ten?)"
        )


def _physical(table: dict[str, Array], factor: int) -> Points:
    return Points(table["xcoord"], table["ycoord"], table["g"], table["elocal"] / factor, table.get("enonlocal_true"))


def _notes(tables: Mapping[str, Points], factor: int, origin: str) -> tuple[str, ...]:
    gauss = tables["gauss_points"]
    content = "physical strains (factor 1)"
    if factor == 10:
        content = "ten times the physical strains (factor 10), divided by 10 here"
    notes = [
        f"coordinates in mm: x {_range(gauss.x_mm)}, y {_range(gauss.y_mm)}",
        f"g in mm^2: {_range(gauss.g_mm2)} (l_c = sqrt(2 g), at most {np.sqrt(2 * gauss.g_mm2.max()):.4g} mm)",
        f"elocal in the file: {content}; {origin}",
        f"elocal, dimensionless: {_range(gauss.elocal)}",
        f"{len(gauss)} Gauss points, {len(tables['lrb'])} left/right and {len(tables['btb'])} bottom/top nodes",
    ]
    if gauss.enonlocal_true is None:
        notes.append("no enonlocal_true: errors to the reference cannot be computed")
    return tuple(notes)


def _range(values: Array) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
