"""Three tables of a damage analysis, as users have them, made into points in our units.

What opens the files is handed in: a `Table` gives its columns by name, and says where a row stands. Tables hold
coordinates, `g = l_c^2/2`, `elocal` (physical, or ten times that, as in published tables) and, where the truth is
known, `enonlocal_true`. `notes` say what was found, `warnings` what is doubtful; what cannot be right is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, Protocol

import numpy as np

from ..errors import DataError
from . import checks
from .points import Array, FieldData, MeshTables, Points

ElocalFactor = Literal["auto", 1, 10]

TABLES: Final = ("gauss_points", "lrb", "btb")
MESH: Final = ("nodes", "elements")  # optional tables, both or neither
CORNERS: Final = ("node_1", "node_2", "node_3", "node_4")  # of an element, rows of the table of nodes from 1
NAMES: Final = {  # of a column in users' tables, ours first
    "x": ("x_mm", "xcoord", "x"),
    "y": ("y_mm", "ycoord", "y"),
    "g": ("g_mm2", "g"),
    "elocal": ("elocal", "local"),
    "enonlocal_true": ("enonlocal_true", "reference"),
}
LENGTHS: Final = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4}  # in mm
OPTIONS: Final = ("elocal_factor", "columns", "length", "increment", "mesh")


class Table(Protocol):
    """A table in a file."""

    @property
    def source(self) -> str:
        """Return the file's path."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the columns."""

    @property
    def notes(self) -> Sequence[str]:
        """Return sentences on how the file was read, where this was not a matter of course."""

    @property
    def elocal_factor(self) -> int | None:
        """Return the factor in the column elocal, where the layout of the file fixes it."""

    def numbers(self, name: str) -> Array:
        """Return a column of finite numbers, shape [rows]. Raises `DataError` with line, column and value."""

    def place(self, row: int) -> str:
        """Return where a row stands in the file, such as "line 2"."""


OpenTable = Callable[[str, str, Mapping[str, Any]], Table]  # from path, name of the table, increment and mesh


def read_tables(source: Mapping[str, Any], open_table: OpenTable) -> FieldData:
    """Read the tables that `source` names by its keys `TABLES`, or `mat` for all of them, as its `OPTIONS` say.

    Raises `DataError`.
    """
    stated, columns, lengths = _options(source)
    missing = [table for table in TABLES if table not in source and "mat" not in source]
    if missing:
        raise DataError(f"data: the table {' and '.join(missing)} is missing; give gauss_points, lrb and btb")
    chosen = {key: source[key] for key in ("increment", "mesh") if key in source}
    tables: dict[str, Table] = {}
    points: dict[str, Points] = {}
    for name in TABLES:
        try:
            tables[name] = open_table(source.get("mat", source.get(name)), name, chosen)
            points[name] = _points(tables[name], columns, lengths, is_gauss=name == "gauss_points")
        except DataError as problem:
            raise DataError(f"data: {str(problem).removeprefix('data: ')}") from None
    where = {name: checks.Where(table.source, table.place) for name, table in tables.items()}
    checks.refuse(points, where)
    factor, origin = _factor(points["gauss_points"], stated, tables["gauss_points"].elocal_factor)
    warnings = list(checks.warnings(points, where))
    warnings += checks.contradictions(points, factor)
    physical = {name: _physical(each, factor) for name, each in points.items()}
    notes = [*_notes(physical, factor, origin, lengths), *(note for table in tables.values() for note in table.notes)]
    gauss, lrb, btb = (physical[name] for name in TABLES)
    try:
        mesh = _mesh(source, open_table, columns, lengths)
    except DataError as problem:
        raise DataError(f"data: {str(problem).removeprefix('data: ')}") from None
    if mesh is not None:
        notes.append(f"{len(mesh.corners)} elements with {len(mesh.nodes)} nodes")
    name = Path(tables["gauss_points"].source).stem
    return FieldData(name, gauss, lrb, btb, factor, tuple(notes), tuple(warnings), mesh)


def _mesh(
    source: Mapping[str, Any], open_table: OpenTable, columns: Mapping[str, str], lengths: Mapping[str, str]
) -> MeshTables | None:
    """Return the tables of nodes and elements, None where none are named. Raises `DataError`."""
    given = [name for name in MESH if name in source]
    if not given:
        return None
    if len(given) < len(MESH) or "mat" in source:
        raise DataError("data: a mesh has two tables, nodes and elements, beside gauss_points, lrb and btb")
    nodes, elements = (open_table(source[name], name, {}) for name in MESH)
    places = []
    for symbol in ("x", "y"):
        name = _column(nodes, symbol, columns)
        if name is None:
            _lacking(nodes, [symbol])
        places.append(_in_mm(nodes, symbol, name, lengths))
    missing = [name for name in CORNERS if name not in elements.names]
    if missing:
        raise DataError(
            f"data: {elements.source} lacks the column {missing[0]}. Columns there: {_listed(elements.names)}. An "
            f"element is a row with {', '.join(CORNERS)}: rows of the table of nodes, from 1"
        )
    corners = np.stack([elements.numbers(name) for name in CORNERS], axis=1)
    if (broken := np.flatnonzero((corners != np.round(corners)).any(axis=1))).size:
        raise DataError(f"data: {elements.source}, {elements.place(broken[0])}: a node is named by a whole number")
    return MeshTables(np.stack(places, axis=1), corners.astype(np.int64) - 1)


def _options(source: Mapping[str, Any]) -> tuple[ElocalFactor, dict[str, str], dict[str, str]]:
    """Return the factor as stated, the users' names by ours, and the units of x, y and g. Raises `DataError`."""
    unknown = set(source) - {*TABLES, *MESH, *OPTIONS, "mat"}
    if unknown:
        known = ", ".join((*TABLES, *MESH, "npz", "mat", *OPTIONS))
        raise DataError(f"data: unknown key {', '.join(sorted(map(repr, unknown)))}; known: {known}")
    if "mat" in source and any(table in source for table in TABLES):
        raise DataError("data: mat holds all three tables; leave out gauss_points, lrb and btb, or mat")
    factor = source.get("elocal_factor", "auto")
    if factor not in ("auto", 1, 10) or isinstance(factor, bool):
        raise DataError(f"data.elocal_factor: must be auto, 1 or 10, got {factor!r}")
    return factor, _columns(source.get("columns", {})), _lengths(source.get("length", "mm"))


def _columns(given: Any) -> dict[str, str]:
    ours = {name: symbol for symbol, names in NAMES.items() for name in (symbol, *names)}
    if not isinstance(given, Mapping):
        raise DataError(f"data.columns: must map our names to those of the tables, got {given!r}")
    columns: dict[str, str] = {}
    for key, name in given.items():
        if key not in ours:
            raise DataError(f"data.columns: {key!r} is no column of ours: {', '.join(NAMES)}")
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise DataError(f"data.columns.{key}: must be the name of a column, got {name!r}")
        if ours[key] in columns:
            raise DataError(f"data.columns: {ours[key]} is given twice")
        if str(name) in columns.values():
            raise DataError(f"data.columns: two columns of ours are read from {name!r}")
        columns[ours[key]] = str(name)
    return columns


def _lengths(given: Any) -> dict[str, str]:
    units = dict(given) if isinstance(given, Mapping) else dict.fromkeys(("x", "y", "g"), given)
    for key, unit in units.items():
        if key not in ("x", "y", "g"):
            raise DataError(f"data.length: {key!r} has no unit of length; x, y and g have")
        if not isinstance(unit, str) or unit not in LENGTHS:
            raise DataError(f"data.length: must be {', '.join(LENGTHS)}, or one of these for x, y and g, got {unit!r}")
    return {"x": "mm", "y": "mm", "g": "mm", **units}


def _points(table: Table, columns: Mapping[str, str], lengths: Mapping[str, str], *, is_gauss: bool) -> Points:
    found = {symbol: _column(table, symbol, columns) for symbol in NAMES}
    missing = [symbol for symbol, name in found.items() if name is None and symbol != "enonlocal_true"]
    if missing:
        _lacking(table, missing)
    values = {}
    for symbol, name in found.items():
        if name is None or (symbol == "enonlocal_true" and not is_gauss):
            continue
        values[symbol] = _in_mm(table, symbol, name, lengths)
    return Points(values["x"], values["y"], values["g"], values["elocal"], values.get("enonlocal_true"))


def _in_mm(table: Table, symbol: str, name: str, lengths: Mapping[str, str]) -> Array:
    """Return a column, lengths in mm. Raises `DataError` where its name contradicts the unit."""
    unit, numbers = lengths.get(symbol, "mm"), table.numbers(name)
    if unit == "mm":
        return numbers
    if name.endswith(("_mm", "_mm2")):
        raise DataError(f"{table.source}: the column {name} says mm, and length says {unit}")
    return numbers * LENGTHS[unit] ** (2 if symbol == "g" else 1)


def _column(table: Table, symbol: str, columns: Mapping[str, str]) -> str | None:
    """Return the name of a column in a table, None where it has none. Raises `DataError` where it has several."""
    if symbol in columns:
        if columns[symbol] in table.names:
            return columns[symbol]
        if symbol == "enonlocal_true":
            return None  # of boundary nodes, which need none
        raise DataError(
            f"{table.source} lacks the column {columns[symbol]}, which data.columns names for {symbol}. "
            f"Columns there: {_listed(table.names)}"
        )
    present = [name for name in NAMES[symbol] if name in table.names and name not in columns.values()]
    if len(present) > 1:
        raise DataError(
            f"{table.source} has both {' and '.join(present)}, which mean the same. Say which one to read: "
            f"columns: {{{symbol}: {present[0]}}}"
        )
    return present[0] if present else None


def _lacking(table: Table, missing: Sequence[str]) -> NoReturn:
    wanted = ", ".join(f"{symbol} ({' or '.join(NAMES[symbol])})" for symbol in missing)
    raise DataError(
        f"{table.source} lacks the column {wanted}. Columns there: {_listed(table.names)}. Where one has another "
        f"name, say so: columns: {{{missing[0]}: NAME}}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _factor(gauss: Points, stated: ElocalFactor, fixed: int | None) -> tuple[int, str]:
    """Return 1 or 10 and how it was found: with zero flux on the boundary the mean of u equals the mean of e."""
    if stated != "auto":
        return stated, "as stated"
    if gauss.enonlocal_true is None:
        if fixed is not None:
            return fixed, "as the layout of the file fixes it"
        raise DataError(
            "data: without the column enonlocal_true the factor of elocal, 1 (physical) or 10, cannot be found. "
            "State it: elocal_factor: 1 or elocal_factor: 10"
        )
    ratio = float(gauss.elocal.mean() / gauss.enonlocal_true.mean())
    factor = checks.factor_of(ratio)
    if factor is None:
        raise DataError(
            f"data: mean elocal is {ratio:.3g} times mean enonlocal_true, neither about 1 nor about 10: the "
            "two columns are in different units. Correct the table, or state elocal_factor"
        )
    return factor, f"found from mean elocal / mean enonlocal_true = {ratio:.3g}"


def _physical(points: Points, factor: int) -> Points:
    return Points(points.x_mm, points.y_mm, points.g_mm2, points.elocal / factor, points.enonlocal_true)


def _notes(points: Mapping[str, Points], factor: int, origin: str, lengths: Mapping[str, str]) -> tuple[str, ...]:
    gauss = points["gauss_points"]
    content = "physical strains (factor 1)"
    if factor == 10:
        content = "ten times the physical strains (factor 10), divided by 10 here"
    given = ", ".join(sorted({lengths["x"], lengths["y"]} - {"mm"}))
    in_file = f" (in the file: {given})" if given else ""
    given_g = "" if lengths["g"] == "mm" else f" (in the file: {lengths['g']}^2)"
    notes = [
        f"coordinates in mm{in_file}: x {_range(gauss.x_mm)}, y {_range(gauss.y_mm)}",
        f"g in mm^2{given_g}: {_range(gauss.g_mm2)} (l_c = sqrt(2 g), at most {np.sqrt(2 * gauss.g_mm2.max()):.4g} mm)",
        f"elocal in the file: {content}; {origin}",
        f"elocal, dimensionless: {_range(gauss.elocal)}",
        f"{len(gauss)} Gauss points, {len(points['lrb'])} left/right and {len(points['btb'])} bottom/top nodes",
    ]
    if gauss.enonlocal_true is None:
        notes.append("no enonlocal_true: errors to the reference cannot be computed")
    return tuple(notes)


def _range(values: Array) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
