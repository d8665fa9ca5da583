"""Tables in text: any separator, quotes as in RFC 4180, a byte order mark, comments above the header."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pinncore.errors import DataError

from . import cells
from .sheet import Sheet, without_unnamed

SEPARATORS: Final = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars", " ": "blanks"}
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
MOST_ROWS: Final = 20_000_000
_MOST_COMMENTS: Final = 10_000  # lines above the header
_SAMPLE: Final = 30  # rows that decide the separator
_CHUNK: Final = 50_000  # rows that are Python objects at a time

Record = tuple[int, list[str]]  # line and cells


def read(source: str, content: bytes) -> Sheet:
    """Return the table of a text file. Raises `DataError`."""
    text = _decoded(source, content)
    head = list(itertools.islice(_lines(text), _MOST_COMMENTS))
    start, comments = _header_line(head)
    if start == len(head):
        raise DataError(f"{source} is empty: its first line must name the columns")
    first = head[start].lstrip("# \t") if head[start].startswith("#") else head[start]
    separator = _separator([first, *head[start + 1 :]])
    body = itertools.chain([first], itertools.islice(_lines(text), start + 1, None))
    skips_blanks = f'{separator} "' in text  # else blanks after a separator belong to the cell
    records = _records(source, body, separator, skips_blanks=skips_blanks)
    names = [name.strip() for name in next(records)[1]]
    if all(map(_is_number, names)):
        raise DataError(f"{source}, line {start + 1} must name the columns, and holds numbers: {_shown(names)}")
    columns, places = _columns(source, names, records, separator, start)
    left_out = [number for number in comments if number != start]
    notes = [f"{source}: {len(left_out)} lines above the header begin with # and are left out"] if left_out else []
    table = without_unnamed(pa.Table.from_arrays(columns, names=names))
    return Sheet(source, table, lambda row: f"line {places[row] + start}", tuple(notes))


def _lines(text: str) -> Iterator[str]:
    """Return the lines of a text as editors count them, with their ends as they stand."""
    return io.StringIO(text, newline="")


def _decoded(source: str, content: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise DataError(
            f"{source}, line {line}: not text in UTF-8 (byte 0x{content[problem.start]:02x}). Save the table as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{source}, line {line}: a zero byte, so this is no table in text")
    return text


def _header_line(lines: Sequence[str]) -> tuple[int, list[int]]:
    """Return the line of the header, from 0, and the lines above it that are comments.

    Of lines with `#` above the table, the last is the header where the first line without one holds numbers.
    """
    comments: list[int] = []
    for number, line in enumerate(lines):
        if not line.strip() or line.lower().startswith(("sep=", '"sep=')):  # Excel's hint
            continue
        if not line.startswith("#"):
            if comments and all(_is_number(cell) for cell in _split(line, _separator([line, line]))):
                return comments[-1], comments
            return number, comments
        comments.append(number)
    return (comments[-1], comments) if comments else (len(lines), [])


def _separator(lines: Sequence[str]) -> str:
    """Return the separator that gives the header and every row of a sample the same number of cells."""
    sample = [line for line in itertools.islice(lines, _SAMPLE) if line.strip()]
    counts = {separator: [len(_split(line, separator)) for line in sample] for separator in SEPARATORS}
    even = [separator for separator, count in counts.items() if count[0] > 1 and len(set(count)) == 1]
    split = [separator for separator, count in counts.items() if count[0] > 1 and separator != " "]
    return next(iter((*even, *split)), ",")


def _split(line: str, separator: str) -> list[str]:
    """Return the cells of one line."""
    text = _blanked(line) if separator == " " else line
    return next(csv.reader([text], delimiter=separator, skipinitialspace=True), [])


def _blanked(line: str) -> str:
    return line.strip().replace("\t", " ") + "\n"


def _records(source: str, lines: Iterator[str], separator: str, *, skips_blanks: bool) -> Iterator[Record]:
    """Yield line, from 1 at the header, and cells of the header and of every row that is not blank."""
    if separator == " ":
        lines, skips_blanks = map(_blanked, lines), True
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=skips_blanks)
    number = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as problem:
            raise DataError(f"{source}, line {number}: the quotes do not match ({problem})") from None
        if row is None:
            return
        if len(row) > 1 or (row and row[0].strip()):
            yield number, row
        number = reader.line_num + 1


def _columns(
    source: str, names: Sequence[str], records: Iterator[Record], separator: str, start: int
) -> tuple[list[pa.ChunkedArray], NDArray[np.int64]]:
    """Return columns of text, and the line of each row after the header's."""
    chunks: list[list[pa.Array]] = [[] for _ in names]
    places: list[NDArray[np.int64]] = []
    while part := list(itertools.islice(records, _CHUNK)):
        uneven = [(number + start, row) for number, row in part if len(row) != len(names)]
        if uneven:
            raise DataError(_uneven(source, uneven, names, separator))
        if len(places) * _CHUNK >= MOST_ROWS:
            raise DataError(f"{source} has more than {MOST_ROWS:,} rows: write the table as Parquet")
        places.append(np.array([number for number, _ in part], dtype=np.int64))
        for chunk, column in zip(chunks, zip(*(row for _, row in part), strict=True), strict=True):
            chunk.append(pa.array(column, pa.string()))
    columns = [pa.chunked_array(chunk, pa.string()) for chunk in chunks]
    return columns, np.concatenate(places) if places else np.empty(0, dtype=np.int64)


def _uneven(source: str, uneven: Sequence[Record], names: Sequence[str], separator: str) -> str:
    hint = "Put text with a comma in double quotes; decimal commas need another separator" if separator == "," else ""
    hint = hint or f"The separator is taken to be {SEPARATORS[separator]}"
    number, row = uneven[0]
    others = f" (and {len(uneven) - 1} more such lines)" if len(uneven) > 1 else ""
    return f"{source}, line {number} has {len(row)} cells, and the header {len(names)}{others}: {_shown(row)}. {hint}"


def _shown(row: Sequence[str]) -> str:
    return ", ".join(row)[:80]


def _is_number(cell: str) -> bool:
    try:
        cells.numbers(pa.chunked_array([[cell]], pa.string()), lambda: True)
    except cells.WrongCell:
        return False
    return True
