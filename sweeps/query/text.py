"""Result tables as text: for people on a terminal, or as CSV and JSON for scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from pinncore.problems.columns import REL_L2

from ..words import rounded, terminal_width
from .files import text_of
from .formats import FileFormat
from .grid import grid
from .values import is_number, rows_of

SPREAD = re.compile(r"_(min|q1|median|q3|max|low|high)$")  # endings of columns that describe another column
_AGGREGATE = re.compile(  # of numbers with the unit of these, as DuckDB names its column
    r"(any_value|arg_min|arg_max|avg|first|last|max|mean|median|min|mode|quantile\w*|round|stddev\w*)"
    r"\(\"?(?:\w+\.)?\"?(\w+(?:\(.*\))?)\"?(?:, .*)?\)"
)
IN_PER_CENT: Final = frozenset({REL_L2.name})  # metrics that people see so; every problem has them


def render(
    table: pa.Table,
    format: str = "table",
    *,
    in_per_cent: Collection[str] = IN_PER_CENT,
    width: int | None = None,
    as_written: bool = False,
    grouped: bool = False,
) -> str:
    """Return a table as text: `table` for people, `csv` or `json` (a list of objects) for scripts.

    For people, numbers have four significant digits, and metrics `in_per_cent` and their spread are shown so. `width`,
    which nothing exceeds, is by default that of the terminal, unlimited without one; `grouped` is that of `grid`.
    `as_written` is for CSV, as in `write_file`.
    """
    if format != "table":
        return text_of(table, FileFormat(format), as_written=as_written).rstrip("\n")
    names = [printable(name) for name in table.column_names]
    rows = [
        [shown(name, value, in_per_cent) for name, value in zip(table.column_names, row, strict=True)]
        for row in rows_of(table)
    ]
    numbers = [is_number(field.type) for field in table.schema]
    return grid(names, rows, numbers, width=width or terminal_width(), grouped=grouped)


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
