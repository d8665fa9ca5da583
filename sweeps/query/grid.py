"""Rows of words as a table for people that fits a terminal: folded where it is narrow, or each row as a column."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP: Final = 2  # spaces between two columns
LEAST_TEXT: Final = 16  # columns that folded text keeps: in fewer it is hard to read


def grid(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    *,
    width: int | None = None,
    grouped: bool = False,
) -> str:
    """Return rows as a table of at most `width` characters, the names above; numbers stand at the right.

    Where rows are wider, first names and then texts are folded; where that is not enough, each row becomes a column.
    With `grouped`, neighbours with the same value in the first column show it once, as long as rows are lines.
    """
    lines = _grouped(rows) if grouped else rows
    if width is None:
        return _drawn(names, lines, numbers, _needs([names, *lines]))
    for heads in (names, folded := [re.sub(r"(?<=_)(?=.)| ", "\n", name) for name in names]):
        if _total(needs := _needs([heads, *lines])) <= width:
            return _drawn(heads, lines, numbers, needs)
    if (widths := _squeezed(folded, lines, numbers, width)) is not None:
        return _drawn(folded, lines, numbers, widths)
    return "\n\n".join(_turned(names, rows, width)) or "no rows"


def _grouped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return rows without those first values that are the one above."""
    above = [None, *(row[0] for row in rows)]
    return [["" if row[0] == before else row[0], *row[1:]] for row, before in zip(rows, above, strict=False)]


def _squeezed(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int
) -> list[int] | None:
    """Return the widths of columns whose texts are folded at spaces; None where that makes them too narrow to read."""
    needs = _needs([heads, *rows])
    words = _needs([[cell.replace(" ", "\n") for cell in row] for row in (heads, *rows)])
    least = [
        need if is_number else max(word, min(need, LEAST_TEXT))
        for need, word, is_number in zip(needs, words, numbers, strict=True)
    ]
    if (room := width - _total(least)) < 0:
        return None
    for _ in range(room):  # each character goes where most are missing
        missing = [need - own for need, own in zip(needs, least, strict=True)]
        least[missing.index(max(missing))] += 1 if max(missing) else 0
    return least


def _turned(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield tables with a column for each row, as many side by side as fit; where none do, they are lists of values."""
    parts = list(_parts(names, rows, width))
    are_beside = any(len(part) > 1 for part in parts)
    for part in parts:
        top, *lines = zip(names, *part, strict=True)
        first = _longest(names)
        room = max(width - first - GAP, 1)
        needs = [first, *(min(_longest(row), room) for row in part)]
        yield _drawn(top, lines, [False] + [are_beside] * len(part), needs)


def _parts(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[list[Sequence[str]]]:
    """Yield groups of rows, at least one row each, that fit side by side beside the names."""
    part: list[Sequence[str]] = []
    room = width - _longest(names)
    for row in rows:
        need = GAP + _longest(row)
        if part and need > room:
            yield part
            part, room = [], width - _longest(names)
        part.append(row)
        room -= need
    if part:
        yield part


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], widths: Sequence[int]) -> str:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False)
    for head, is_number, width in zip(heads, numbers, widths, strict=True):
        table.add_column(Text(head), justify="right" if is_number else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    stream = io.StringIO()
    Console(file=stream, width=_total(widths), color_system=None, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).strip("\n")


def _needs(lines: Sequence[Sequence[str]]) -> list[int]:
    """Return the widths of the columns of a table on the screen, in characters."""
    return [_longest([part for cell in column for part in cell.split("\n")]) for column in zip(*lines, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
