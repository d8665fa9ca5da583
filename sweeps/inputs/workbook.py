"""Tables in Excel workbooks."""

from __future__ import annotations

import datetime
import importlib
import zipfile
from typing import IO, Any, Final

import pyarrow as pa

from pinncore.errors import DataError

from .sheet import Sheet, without_unnamed

MOST_BYTES: Final = 2**30  # of XML, unpacked


def read(source: str, stream: IO[bytes]) -> Sheet:
    """Return the first sheet of a workbook that holds anything, cells as text. Raises `DataError`."""
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ModuleNotFoundError:
        raise DataError(
            f"{source} is a workbook, and openpyxl is not installed: pip install 'pinnsweep[excel]'. Or save the sheet "
            "as CSV"
        ) from None
    with zipfile.ZipFile(stream) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MOST_BYTES:
        raise DataError(f"{source} unpacks to {size:,} bytes, and a workbook may have {MOST_BYTES:,}")
    stream.seek(0)
    try:
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        sheets = {sheet.title: [*_rows(sheet)] for sheet in book.worksheets}
    except Exception as problem:  # openpyxl raises whatever its parsers raise
        raise DataError(f"{source} is no workbook that can be read ({type(problem).__name__}: {problem})") from None
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise DataError(f"{source} is empty: the first row of its first sheet must name the columns")
    title, ((_, header), *rows) = next(iter(filled.items()))
    names = [name.strip() for name in header]
    columns = [pa.array([cells[index] for _, cells in rows], pa.string()) for index in range(len(names))]
    table = without_unnamed(pa.Table.from_arrays(columns, names=names))
    notes = (f"{source}: the sheet {title} is read, of {len(filled)} with cells",) if len(filled) > 1 else ()
    return Sheet(source, table, lambda row: f"row {rows[row][0]}", notes)


def _rows(sheet: Any) -> list[tuple[int, list[str]]]:
    """Return number and cells of the rows of a sheet that are not blank, all of one length."""
    rows = [
        (number, [_text(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(values_only=True), start=1)
    ]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    width = max((len(cells) for _, cells in rows), default=0)
    return [(number, cells + [""] * (width - len(cells))) for number, cells in rows]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)
