"""Tables as files: CSV, JSON, Parquet, Arrow, Excel. Written under another name batch by batch, renamed when whole."""

from __future__ import annotations

import contextlib
import csv
import datetime
import functools
import importlib
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ..errors import QueryError
from .formats import FileFormat
from .values import json_value, rows_of, unit_of

Write = Callable[[pa.RecordBatch], None]
ROWS_PER_GROUP: Final = 131_072  # of a Parquet file; one group is collected in memory
MOST_ROWS: Final = 1_048_576  # of an Excel sheet, with the row of column names
MOST_COLUMNS: Final = 16_384
MOST_LETTERS: Final = 32_767  # in an Excel cell
# What spreadsheets take for a formula when they open a CSV file, but for numbers
_FORMULA: Final = r"^[=+\-@\t\r\n＝＋－＠]"
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-](inf|nan)$"
_EXACT: Final = 10**15  # Excel keeps 15 digits: longer whole numbers are written as text
_OPTIONS: Final = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}


def format_of(place: Path, among: Iterable[FileFormat] = FileFormat) -> FileFormat:
    """Return the format that a file name ends in. Raises `QueryError` where it is not one of `among`."""
    end = place.suffix.lower().removeprefix(".")
    name = {"feather": "arrow"}.get(end, end)
    formats = list(among)
    if name not in formats:
        ends = ", ".join(f".{format}" for format in formats)
        raise QueryError(f"the file name must end in one of {ends}, or --format must give the format; got {place}")
    return FileFormat(name)


def write_file(
    place: Path,
    format: FileFormat,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    as_written: bool = False,
) -> int:
    """Write a table to a file and return the number of rows.

    The file appears whole or not at all, and replaces a file of that name. In CSV a text that a spreadsheet would take
    for a formula gets an apostrophe in front, unless `as_written`, which is for tables of the user's own. Raises
    `QueryError` where the format cannot hold the table.
    """
    rows = 0
    with _replacing(place) as stream, _writer(format, as_written)(stream, schema) as write:
        for batch in batches:
            write(batch)
            rows += batch.num_rows
    return rows


def text_of(table: pa.Table, format: FileFormat, *, as_written: bool = False) -> str:
    """Return a table as text, in CSV or JSON, as `write_file` writes it."""
    stream = io.BytesIO()
    with _writer(format, as_written)(stream, table.schema) as write:
        for batch in table.to_batches():
            write(batch)
    return stream.getvalue().decode()


@contextlib.contextmanager
def _replacing(place: Path) -> Iterator[IO[bytes]]:
    """Yield a temporary file in the same folder, which is renamed to `place` at the end."""
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # the rights of any new file; a temporary one belongs to its owner alone
        os.replace(temporary, place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _csv(stream: IO[bytes], schema: pa.Schema, *, as_written: bool = False) -> Iterator[Write]:
    """Write CSV: null is empty, times are ISO 8601 in UTC, lists and records are JSON, formulas are text."""
    plain = pa.schema([pa.field(field.name, _csv_type(field.type)) for field in schema])
    names = pa.array(schema.names, pa.string())
    stream.write(_csv_line((names if as_written else _no_formulas(names)).to_pylist()))
    options = pa.csv.WriteOptions(include_header=False)
    with pa.csv.CSVWriter(stream, plain, write_options=options) as writer:

        def write(batch: pa.RecordBatch) -> None:
            columns = [_csv_column(column) for column in batch.columns]
            if not as_written:
                columns = [_no_formulas(column) if column.type == pa.string() else column for column in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=plain))

        yield write


def _no_formulas(texts: pa.Array) -> pa.Array:
    """Return texts with an apostrophe, the mark of a text, in front of those that a spreadsheet would execute."""
    is_formula = pc.and_not(pc.match_substring_regex(texts, _FORMULA), pc.match_substring_regex(texts, _NUMBER))
    return pc.if_else(is_formula, pc.binary_join_element_wise("'", texts, ""), texts)


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _csv_type(kind: pa.DataType) -> pa.DataType:
    is_plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return kind if is_plain else pa.string()


def _csv_column(column: pa.Array) -> pa.Array:
    kind = column.type
    if _csv_type(kind) == kind:
        return column
    if pa.types.is_timestamp(kind):
        return pc.strftime(column, format="%Y-%m-%dT%H:%M:%S" + ("Z" if kind.tz else ""))  # queries run in UTC
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_temporal(kind):
        return pa.array([_json_text(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.string())


def _json_text(value: Any) -> str | None:
    plain = json_value(value)
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


@contextlib.contextmanager
def _json(stream: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    """Write a JSON list of objects, one per line."""
    between = "[\n"

    def write(batch: pa.RecordBatch) -> None:
        nonlocal between
        for values in rows_of(batch):
            record = dict(zip(schema.names, map(json_value, values), strict=True))
            stream.write(f"{between}{json.dumps(record, ensure_ascii=False)}".encode())
            between = ",\n"

    yield write
    stream.write(b"[]\n" if between == "[\n" else b"\n]\n")


@contextlib.contextmanager
def _parquet(stream: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []

        def write(batch: pa.RecordBatch) -> None:
            group.append(batch)
            if sum(batch.num_rows for batch in group) >= ROWS_PER_GROUP:
                flush()

        def flush() -> None:
            if group:
                writer.write_table(pa.Table.from_batches(group, schema))
                group.clear()

        yield write
        flush()


@contextlib.contextmanager
def _arrow(stream: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    """Write an Arrow IPC file, which is Feather version 2."""
    with pa.ipc.new_file(stream, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _xlsx(stream: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    """Write an Excel workbook: the rows on one sheet, the columns with their types and units on another.

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


_WRITERS: Final = {
    FileFormat.CSV: _csv,
    FileFormat.JSON: _json,
    FileFormat.PARQUET: _parquet,
    FileFormat.ARROW: _arrow,
    FileFormat.XLSX: _xlsx,
}


def _writer(format: FileFormat, as_written: bool) -> Callable[..., contextlib.AbstractContextManager[Write]]:
    is_csv = format is FileFormat.CSV
    return functools.partial(_csv, as_written=as_written) if is_csv else _WRITERS[format]
