"""A table as an Excel workbook: the rows on one sheet, its columns with their types and units on another."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import math
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import pyarrow as pa

from ..errors import QueryError
from .values import json_value, rows_of, unit_of

MOST_ROWS: Final = 1_048_576  # of a sheet, with the row of column names
MOST_COLUMNS: Final = 16_384
MOST_LETTERS: Final = 32_767  # in a cell
_EXACT: Final = 10**15  # Excel keeps 15 digits: longer whole numbers are written as text
_OPTIONS: Final = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}


@contextlib.contextmanager
def sheet(stream: IO[bytes], schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield a function that writes a batch of rows to the sheet.

    Times are written in UTC without a zone, null and not-a-number as empty cells, infinity as text. Raises
    `QueryError` where the table is larger than a sheet can hold, and where XlsxWriter is not installed.
    """
    try:
        xlsxwriter = importlib.import_module("xlsxwriter")
    except ModuleNotFoundError:
        raise QueryError(
            "Excel files need XlsxWriter, which is not installed: pip install 'pinnsweep[excel]'. "
            "CSV needs no extra package, and Excel opens it"
        ) from None
    if len(schema) > MOST_COLUMNS:
        raise QueryError(f"an Excel sheet holds {MOST_COLUMNS:,} columns, got {len(schema):,}. Select some with --sql")
    book = xlsxwriter.Workbook(stream, _OPTIONS)
    bold, times = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    rows = book.add_worksheet("rows")
    rows.freeze_panes(1, 0)
    for column, name in enumerate(schema.names):
        rows.write_string(0, column, name, bold)
    number = 0

    def write(batch: pa.RecordBatch) -> None:
        nonlocal number
        if number + batch.num_rows >= MOST_ROWS:
            raise QueryError(
                f"an Excel sheet holds {MOST_ROWS - 1:,} rows, and there are more. Select some with --sql, or write "
                "Parquet or CSV"
            )
        for values in rows_of(batch):
            number += 1
            for column, value in enumerate(values):
                _write_cell(rows, number, column, value, times)

    yield write
    units = book.add_worksheet("columns")
    lines = [("column", "type", "unit"), *((field.name, str(field.type), unit_of(field)) for field in schema)]
    for row, cells in enumerate(lines):
        for column, cell in enumerate(cells):
            units.write_string(row, column, cell, None if row else bold)
    book.close()


def _write_cell(rows: Any, row: int, column: int, value: Any, times: Any) -> None:
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
        rows.write_datetime(row, column, utc, times)
        return
    plain = value if isinstance(value, float) else json_value(value)
    if isinstance(plain, bool):
        rows.write_boolean(row, column, plain)
    elif isinstance(plain, (int, float)) and math.isfinite(plain) and (abs(plain) < _EXACT or isinstance(plain, float)):
        rows.write_number(row, column, plain)
    elif plain is not None and not (isinstance(plain, float) and math.isnan(plain)):
        text = str(plain)
        if len(text) > MOST_LETTERS:
            raise QueryError(f"an Excel cell holds {MOST_LETTERS:,} letters, got {len(text):,}. Write Parquet or CSV")
        rows.write_string(row, column, text)
