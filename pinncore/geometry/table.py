"""Points with data that users have: a table in a file, or arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..data.loading import no_tables
from ..data.tables import OpenTable
from ..data.tables import Table as OpenedTable
from ..errors import DataError, SettingError
from ..npz import open_npz
from .checks import Array, Interval
from .pieces import Columns
from .predicates import holds
from .region import Region

LISTED: Final = 20  # columns, in messages


@dataclass(frozen=True)
class _Arrays:
    """A table of arrays [rows] by name."""

    source: str
    arrays: Mapping[str, NDArray[Any]]
    notes: tuple[str, ...] = ()
    elocal_factor: None = None

    @property
    def names(self) -> list[str]:
        return list(self.arrays)

    def numbers(self, name: str) -> Array:
        values = self.arrays[name]
        if values.dtype.kind not in "fiu":
            raise DataError(f"{self.source}, column {name}, holds no numbers but {values.dtype}")
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise DataError(f"{self.source}, {self.place(int(wrong[0]))}, column {name}, is not a finite number")
        return values.astype(np.float64)

    def place(self, row: int) -> str:
        return f"row {row + 1}"


def _checked(source: str, arrays: Mapping[str, NDArray[Any]]) -> _Arrays:
    """Return arrays as a table. Raises `DataError` where they are none."""
    shapes = {name: values.shape for name, values in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        raise DataError(f"{source} must have columns of one length, one number for each point, got shapes {shapes}")
    return _Arrays(source, arrays)


def open_npz_table(path: str, role: str, options: Mapping[str, Any]) -> OpenedTable:
    """Open an `.npz` with one array for each column. Raises `DataError`, also for other formats."""
    if not path.endswith(".npz"):
        return no_tables(path, role, options)
    try:
        with open_npz(path) as archive:
            return _checked(path, archive.numbers(archive.names))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be read ({problem.strerror or problem})") from None
    except DataError:
        raise
    except ValueError as problem:
        raise DataError(f"{path} is not an .npz of columns: {problem}") from None


@dataclass(frozen=True, eq=False)
class Table(Region):
    """All points of a table: `Table("points.csv")`, or `Table({"x": [...], "u": [...]})`.

    Columns are called as the symbols of the problem, or as `columns` says: `columns={"u": "velocity"}`. This package
    opens `.npz` files of one array for each column; what opens others is handed in by `reading`.
    """

    source: str | os.PathLike[str] | Mapping[str, Any]
    columns: Mapping[str, str] = field(default_factory=dict)
    predicates: tuple[Any, ...] = ()
    open_table: OpenTable = field(default=open_npz_table, repr=False)

    def reading(self, open_table: OpenTable) -> Table:
        """Return the table as opened by `open_table`."""
        return replace(self, open_table=open_table)

    def beside(self, folder: Path) -> Table:
        """Return the table with a relative path starting at a folder."""
        if isinstance(self.source, Mapping):
            return self
        return replace(self, source=str(folder / self.source))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the symbols of the columns, those of text too. Raises `DataError`."""
        ours = {theirs: symbol for symbol, theirs in self.columns.items()}
        return tuple(ours.get(name, name) for name in self._opened.names)

    def read(self, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Array]:
        """Return columns of finite numbers [points] by symbol; `optional` ones only where the table has them.

        Raises `DataError`, with file, line and column where a cell is wrong.
        """
        table, chosen = self._opened, {}
        for name in (*names, *optional):
            theirs = self.columns.get(name, name)
            if theirs in table.names:
                chosen[name] = theirs
            elif name in names or name in self.columns:
                raise DataError(
                    f"{table.source} lacks the column {theirs}. Columns there: {', '.join(table.names[:LISTED])}. "
                    f'Where it has another name, say so: columns={{"{name}": "NAME"}}'
                )
        values = {name: table.numbers(theirs) for name, theirs in chosen.items()}
        if not self.predicates or not values:
            return values
        inside = self._inside
        if not inside.any():
            raise SettingError("where", table.source, "must leave points of the table")
        return {name: column[inside] for name, column in values.items()}

    @property
    def _inside(self) -> NDArray[np.bool_]:
        whole = replace(self, predicates=()).draw(1, "sobol", 0)
        return np.all([holds(predicate, whole) for predicate in self.predicates], axis=0)

    @property
    def limits(self) -> dict[str, Interval]:
        """Return the smallest and largest value of every column of numbers."""
        return {name: (float(values.min()), float(values.max())) for name, values in self.draw(1, "sobol", 0).items()}

    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which points [points] are in the table, to the last digit."""
        names = tuple(columns)
        known = set(zip(*(values.tolist() for values in self.read(names).values()), strict=True))
        return np.array(
            [point in known for point in zip(*(np.asarray(columns[n]).tolist() for n in names), strict=True)]
        )

    def draw(
        self, count: int, sampler: str, rng_seed: int | Sequence[int], *, what: str = "region"
    ) -> dict[str, Array]:
        """Return all columns of numbers at all points, in order, whatever the count."""
        table = self._opened
        found = {}
        for name in self.names:
            try:
                found[name] = table.numbers(self.columns.get(name, name))
            except DataError:
                if name in self.columns:
                    raise
        if self.predicates:
            found = self.read(tuple(found))
        return found

    def where(self, predicate: Any) -> Table:
        return replace(self, predicates=(*self.predicates, predicate))

    @cached_property
    def _opened(self) -> OpenedTable:
        if isinstance(self.source, Mapping):
            return _checked("the table", {str(name): np.asarray(values) for name, values in self.source.items()})
        return self.open_table(os.fspath(self.source), "", {})
