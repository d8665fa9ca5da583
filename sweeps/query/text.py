"""Result tables as text: for people on a terminal, or as CSV and JSON for scripts."""

from __future__ import annotations

import io
import math
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pinncore.problems.columns import REL_L2

from ..words import rounded
from .files import text_of
from .formats import FileFormat
from .values import is_number, rows_of

SPREAD = re.compile(r"_(min|q1|median|q3|max|low|high)$")  # endings of columns that describe another column
_AGGREGATE = re.compile(  # of numbers with the unit of these, as DuckDB names its column
    r"(any_value|arg_min|arg_max|avg|first|last|max|mean|median|min|mode|quantile\w*|round|stddev\w*)"
    r"\(\"?(?:\w+\.)?\"?(\w+(?:\(.*\))?)\"?(?:, .*)?\)"
)
IN_PER_CENT: Final = frozenset({REL_L2.name})  # metrics that people see so; every problem has them
GAP = 2  # spaces between two columns


def render(
    table: pa.Table,
    format: str = "table",
    *,
    in_per_cent: Collection[str] = IN_PER_CENT,
    width: int | None = None,
    as_written: bool = False,
) -> str:
    """Return a table as text: `table` for people, `csv` or `json` (a list of objects) for scripts.

    For people, numbers have four significant digits, and metrics `in_per_cent` and their spread are shown so. Where
    rows are wider than `width`, each row becomes a column. `width` is by default that of the terminal, unlimited
    without one. `as_written` is for CSV, as in `write_file`.
    """
    if format != "table":
        return text_of(table, FileFormat(format), as_written=as_written).rstrip("\n")
    names = [printable(name) for name in table.column_names]
    rows = [
        [shown(name, value, in_per_cent) for name, value in zip(table.column_names, row, strict=True)]
        for row in rows_of(table)
    ]
    numbers = [is_number(field.type) for field in table.schema]
    limit = width or (os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None)
    if limit is None:
        return _grid(names, rows, numbers, limit)
    for heads in (names, [name.replace("_", "_\n") for name in names]):
        if _width([heads, *rows]) <= limit:
            return _grid(heads, rows, numbers, limit)
    blocks = []
    for part in _parts(names, rows, limit):
        top, *lines = zip(names, *part, strict=True)
        blocks.append(_grid(top, lines, [False] + [True] * len(part), limit))
    return "\n\n".join(blocks) or "no rows"


def shown(name: str, value: Any, in_per_cent: Collection[str] = IN_PER_CENT) -> str:
    """Return a value as text for people: four significant digits, metrics `in_per_cent` and their spread so."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return rounded(value, is_percent=scale(SPREAD.sub("", name), in_per_cent)[0] != 1)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return printable(str(value))


def scale(name: str, in_per_cent: Collection[str] = IN_PER_CENT) -> tuple[int, str]:
    """Return the factor by which people see a number, and the unit behind it: those `in_per_cent` times 100.

    So is what SQL calls an aggregate of one: `min(rel_l2)`.
    """
    while aggregate := _AGGREGATE.match(name):
        name = aggregate[2]
    return (100, " %") if name in in_per_cent else (1, "")


def span(name: str, low: float, high: float, in_per_cent: Collection[str] = IN_PER_CENT) -> str:
    """Return a range as text for people: three significant digits, metrics `in_per_cent` so."""
    factor, unit = scale(name, in_per_cent)
    return f"{factor * low:.3g} – " + ("∞" if math.isinf(high) else f"{factor * high:.3g}{unit}")


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: `45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`."""
    rounded = round(seconds)
    for size, part, name, part_name in ((86_400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if rounded >= size:
            return f"{rounded // size} {name} {rounded % size // part:02d} {part_name}"
    return f"{rounded} s"


def printable(text: str) -> str:
    """Return text on one line, without control characters, which a terminal would execute."""
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
    """Yield groups of rows, at least one row each, that fit side by side beside the names."""
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


def _width(lines: Sequence[Sequence[str]]) -> int:
    """Return the width of a table on the screen, in characters."""
    widths = [_longest([part for cell in column for part in cell.split("\n")]) for column in zip(*lines, strict=True)]
    return sum(widths) + GAP * (len(widths) - 1)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
