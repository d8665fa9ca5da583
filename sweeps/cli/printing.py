"""Text for people: on a terminal it fits, everywhere else it is as it is."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence

import typer

from ..own_name import SCRIPT
from ..words import terminal_width

_LABEL = re.compile(
    r"(?<=\S) {2,}(?=\S)|^(?:error|warning|Note): "
)  # its end: what is before says what a text is about
_COMMAND = re.compile(rf"(?:error:)? *(?:\S*/)?(?:{SCRIPT}|python\S* -m sweeps\.cli) ")


def print_text(text: str, *, err: bool = False) -> None:
    """Print text that fits the terminal."""
    typer.echo(fitted(text, terminal_width(sys.stderr if err else sys.stdout)), err=err)


def fitted(text: str, width: int | None) -> str:
    """Return text whose lines are broken at spaces where they exceed `width`; None is no limit.

    What follows stands below the text of the line, behind its label. Commands stay whole, so that they can be copied.
    """
    if width is None:
        return text
    return "\n".join(part for line in text.splitlines() for part in _broken(line, width))


def _broken(line: str, width: int) -> Sequence[str]:
    if len(line) <= width or _COMMAND.match(line):
        return [line]
    indent = len(line) - len(line.lstrip())
    ends = [label.end() for label in _LABEL.finditer(line) if label.end() <= 3 * width // 5]
    hanging = ends[-1] if ends else indent + (2 if indent else 0)
    return textwrap.wrap(
        line, width, subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False
    ) or [line]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of words in aligned columns, the first row being the header; on a narrow terminal, as a list."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    width = terminal_width()
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        from ..query.grid import grid

        return grid(rows[0], rows[1:], [False] * len(widths), width=width)
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
