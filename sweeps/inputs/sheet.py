"""A table as it stands in a file: columns by name, with the place of every row and the cells as they were written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pinncore.errors import DataError

from . import cells

Array = NDArray[np.float64]
Place = Callable[[int], str]


def row_number(row: int) -> str:
    """Return the place of a row in a file without lines."""
    return f"row {row + 1}"


@dataclass(frozen=True)
class Sheet:
    """A table of a file; text formats have columns of text, others the types of the file.

    `notes` say how the file was read, `place` where a row stands; `elocal_factor` is set where the layout of the file
    fixes it.
    """

    source: str
    table: pa.Table
    place: Place = row_number
    notes: tuple[str, ...] = ()
    elocal_factor: int | None = None

    def __post_init__(self) -> None:
        twice = next((name for name, count in Counter(self.names).items() if count > 1), None)
        if twice is not None:
            columns = " and ".join(str(index + 1) for index, name in enumerate(self.names) if name == twice)
            raise DataError(
                f"{self.source} has the column {twice or 'without a name'} twice (columns {columns}): keep one"
            )
        if not len(self.table):
            raise DataError(f"{self.source} has a header but no rows")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.table.column_names)

    def numbers(self, name: str) -> Array:
        """Return a column of finite numbers, shape [rows]. Raises `DataError` with line, column and value."""
        column = self.table[name]
        try:
            values = cells.numbers(column, self._has_decimal_commas)
        except cells.WrongCell as wrong:
            raise self._wrong(name, wrong.row, wrong.reason) from None
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise self._wrong(name, int(bad[0]), "is not a finite number")
        return values

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the place of each row and its cells as text; what is missing is empty."""
        columns = [cells.texts(column) for column in self.table.columns]
        for row, texts in enumerate(zip(*columns, strict=True)):
            yield self.place(row), list(texts)

    def as_written(self) -> pa.Table:
        """Return the table with columns of text as numbers where these are written back exactly as they stand."""
        return pa.table({name: cells.exact_numbers(self.table[name]) for name in self.names})

    def _has_decimal_commas(self) -> bool:
        """Return whether some cell has a comma that can only be a decimal one."""
        return any(cells.shows_decimal_commas(column) for column in self.table.columns)

    def _wrong(self, name: str, row: int, reason: str) -> DataError:
        value: Any = self.table[name][row].as_py()
        shown = "" if value is None or value == "" else f": {value!r}"
        return DataError(f"{self.source}, {self.place(row)}, column {name}{shown} {reason}")


def without_unnamed(table: pa.Table) -> pa.Table:
    """Return a table of text without columns that have neither name nor cells, as a separator at line ends makes."""
    kept = [
        index
        for index, name in enumerate(table.column_names)
        if name or pc.any(pc.not_equal(table.column(index), "")).as_py()
    ]
    return table.select(kept)
