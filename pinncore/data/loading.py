"""The data sets of damage analyses: bundled, from an `.npz` of our own, or from three tables of a user.

Lengths are in mm, `g = l_c^2/2` in mm^2, strains dimensionless and physical; `FieldData.notes` says what files held.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..disk import write_whole
from ..errors import DataError
from ..npz import open_npz
from . import checks
from .points import Array, FieldData, MeshTables, Points
from .tables import MESH, TABLES, OpenTable, Table, read_tables

BUNDLED = ("strb100",)
BUILT_FILE = re.compile(r"(strb100)_(\d+)x\2_increment(\d+)\.(npz|mat)", re.ASCII)  # as increments.py names its files
FILES = (*TABLES, *MESH, "npz", "mat")  # the keys of a source that name files
MOST_KEPT = 4  # data sets in memory


def no_tables(path: str, table: str, options: Mapping[str, Any]) -> Table:
    """Refuse to open a table: this package reads `.npz` alone. Raises `DataError`."""
    raise DataError(f"{path}: pinncore reads .npz alone. pinnsweep reads tables, and hands them in as `open_table`")


def load_data(source: str | Mapping[str, Any] = "strb100", open_table: OpenTable = no_tables) -> FieldData:
    """Read a bundled data set by name, one `.npz` written by `save_data`, or three tables that `open_table` opens.

    `source` is `"strb100"`, `{"npz": path}`, or `{"gauss_points": path, "lrb": path, "btb": path}` with the options of
    `tables`. While the files stay as they are, a process reads them once; its arrays cannot be written to. Raises
    `DataError`.
    """
    if isinstance(source, str):
        return _read(source, (), open_table)
    paths = {
        key: os.path.abspath(value) if key in FILES and isinstance(value, (str, os.PathLike)) else value
        for key, value in source.items()
    }
    stamps = tuple(_stamp(value) for key, value in paths.items() if key in FILES and isinstance(value, str))
    return _read(json.dumps(paths), stamps, open_table)


def _stamp(path: str) -> tuple[int, int]:
    """Return time of change and size of a file, zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=MOST_KEPT)
def _read(source: str, stamps: tuple[tuple[int, int], ...], open_table: OpenTable) -> FieldData:
    """Read the data set of a name or of a mapping in JSON; `stamps` tell the versions of its files apart."""
    data = _read_files(json.loads(source), open_table) if source.startswith("{") else _read_bundled(source)
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


def _read_files(source: Mapping[str, Any], open_table: OpenTable) -> FieldData:
    if "npz" not in source:
        return read_tables(source, open_table)
    if len(source) > 1:
        raise DataError("data: npz must be the only key")
    return _checked(_read_npz(Path(source["npz"])), source["npz"])


def _checked(data: FieldData, path: str) -> FieldData:
    """Return the data of an `.npz` with warnings. Raises `DataError` where its numbers cannot be right."""
    points = dict(zip(TABLES, (data.gauss, data.lrb, data.btb), strict=True))
    for table, each in points.items():
        for name, values in each.columns.items():
            if values.dtype.kind not in "iuf" or values.shape != (len(each.x_mm),) or not values.size:
                raise DataError(f"data: {path}: {table}/{name} must hold a number for each point, one or more")
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise DataError(f"data: {path}: {table}/{name} is not finite in row {row + 1}")
    where = {name: checks.Where(f"{path}, table {name}", lambda row: f"row {row + 1}") for name in TABLES}
    checks.refuse(points, where)
    return dataclasses.replace(data, warnings=tuple(checks.warnings(points, where)))


def save_data(data: FieldData, path: Path, more: Mapping[str, Array] | None = None) -> None:
    """Write one `.npz` from which `load_data({"npz": path})` reads exactly the same numbers.

    The file gets its name complete or not at all. `more` are further arrays by name, such as `nodes/damage`, which
    `load_data` passes over.
    """
    tables = zip(TABLES, (data.gauss, data.lrb, data.btb), strict=True)
    arrays: dict[str, Any] = {
        f"{table}/{name}": array for table, points in tables for name, array in points.columns.items()
    }
    if data.mesh is not None:
        arrays |= {"mesh/nodes": data.mesh.nodes, "mesh/corners": data.mesh.corners}
    arrays |= more or {}
    header = {"name": data.name, "elocal_factor": data.elocal_factor, "notes": data.notes}
    content = io.BytesIO()
    np.savez_compressed(content, header=np.array(json.dumps(header)), **arrays)
    write_whole(path, content.getvalue())


def _read_npz(path: Path) -> FieldData:
    try:
        with open_npz(path) as archive:
            header = json.loads(archive.text("header"))
            arrays = archive.numbers(name for name in archive.names if name != "header")
        gauss, lrb, btb = (
            Points(**{key.split("/")[1]: arrays[key] for key in arrays if key.startswith(f"{table}/")})
            for table in TABLES
        )
        mesh = None
        if "mesh/nodes" in arrays:
            mesh = MeshTables(
                arrays["mesh/nodes"].reshape(-1, 2), arrays["mesh/corners"].reshape(-1, 4).astype(np.int64)
            )
        return FieldData(header["name"], gauss, lrb, btb, header["elocal_factor"], tuple(header["notes"]), mesh=mesh)
    except FileNotFoundError:
        raise DataError(f"data: {path} does not exist") from None
    except OSError as problem:
        raise DataError(f"data: {path} cannot be read ({problem.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise DataError(
            f"data: {path} is not a data file written by pinncore ({problem}); write it again with "
            "pinncore.save_data, or give tables as gauss_points, lrb and btb"
        ) from None
