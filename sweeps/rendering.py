"""Result tables as text: for people on a terminal, or as CSV and JSON for scripts."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Fractions shown to people as per cent; scripts get them as they are stored.
PERCENT_COLUMNS = frozenset({"rel_l2", "process_zone_error", "distance_to_local"})
GAP = 2  # blanks between two columns


def render(table: pa.Table, format: Literal["table", "csv", "json"] = "table", *, width: int | None = None) -> str:
    """Return a table as text: `table` for people, `csv` and `json` (a list of objects) for scripts.

    For people, numbers have four significant digits and relative errors are per cent; where rows are wider than
    `width` (the terminal's unless given, unlimited where there is none), each becomes a column.
    """
    if format == "csv":
        return _csv(table)
    if format == "json":
        return json.dumps(_records(table), indent=2, ensure_ascii=False)
    names = [printable(name) for name in table.column_names]
    rows = [[shown(name, value) for name, value in row] for row in _rows(table)]
    numbers = [_is_number(field.type) for field in table.schema]
    limit = width or _terminal_width()
    if limit is None:
        return _grid(names, rows, numbers, limit)
    for heads in (names, [name.replace("_", "_\n") for name in names]):
        if _width([heads, *rows]) <= limit:
            return _grid(heads, rows, numbers, limit)
    blocks = [_grid(*_turned(names, part), limit) for part in _parts(names, rows, limit)]
    return "\n\n".join(blocks) or "no rows"


def shown(name: str, value: Any) -> str:
    """Return a value as people read it: four significant digits, per cent for relative errors and their spread."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        is_share = name.removesuffix("_min").removesuffix("_max") in PERCENT_COLUMNS and math.isfinite(value)
        return f"{100 * value:.4g} %" if is_share else f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return printable(str(value))


def span(name: str, low: float, high: float) -> str:
    """Return two values as people read a range: three significant digits, per cent for relative errors."""
    factor, unit = (100, " %") if name in PERCENT_COLUMNS else (1, "")
    return f"{factor * low:.3g} – " + ("∞" if math.isinf(high) else f"{factor * high:.3g}{unit}")


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: `45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = round(seconds)
    for size, part, name, part_name in ((86_400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part:02d} {part_name}"
    return f"{whole} s"


def printable(text: str) -> str:
    """Return text on one line without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], limit: int | None) -> str:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False)
    for head, number in zip(heads, numbers, strict=True):
        grid.add_column(Text(head), justify="right" if number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    stream = io.StringIO()
    Console(file=stream, width=limit or _width([heads, *rows]), color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).strip("\n")


def _parts(names: Sequence[str], rows: Sequence[Sequence[str]], limit: int) -> Iterator[list[Sequence[str]]]:
    """Rows in groups that fit side by side beside the names, at least one in each."""
    part: list[Sequence[str]] = []
    room = limit - _longest(names)
    for row in rows:
        need = GAP + _longest(row)
        if part and need > room:
            yield part
            part, room = [], limit - _longest(names)
        part.append(row)
        room -= need
    if part:
        yield part


def _turned(names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[tuple[str, ...]], list[bool]]:
    """Heads, rows and which columns are numbers of the table whose columns were rows."""
    turned = list(zip(names, *rows, strict=True))
    return list(turned[0]), turned[1:], [False] + [True] * len(rows)


def _width(lines: Sequence[Sequence[str]]) -> int:
    """Columns of the screen that heads and rows take side by side."""
    widths = [_longest([part for cell in column for part in cell.split("\n")]) for column in zip(*lines, strict=True)]
    return sum(widths) + GAP * (len(widths) - 1)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _terminal_width() -> int | None:
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _rows(table: pa.Table) -> Iterator[list[tuple[str, Any]]]:
    """Each row as pairs, because a query may name two columns alike."""
    columns = [column.to_pylist() for column in table.columns]
    for values in zip(*columns, strict=True):
        yield list(zip(table.column_names, values, strict=True))


def _csv(table: pa.Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([_csv_value(value) for _, value in row] for row in _rows(table))
    return stream.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(_json_value(value), ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value


def _records(table: pa.Table) -> list[dict[str, Any]]:
    return [{name: _json_value(value) for name, value in row} for row in _rows(table)]


def _json_value(value: Any) -> Any:
    """A value JSON has: not-a-number and infinity become null, times ISO 8601 text."""
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
