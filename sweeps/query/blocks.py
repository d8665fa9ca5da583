"""Results as people read them: sentences and tables, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from rich.cells import cell_len

from .grid import GAP
from .text import IN_PER_CENT, printable, render, shown
from .values import is_number, rows_of


@dataclass(frozen=True)
class Listing:
    """A table among sentences; people see the metrics `in_per_cent` so, and rows `grouped` by their first value."""

    table: pa.Table
    in_per_cent: Collection[str] = IN_PER_CENT
    grouped: bool = False

    def cells(self) -> list[list[str]]:
        """Return the rows as text for people."""
        names = self.table.column_names
        return [
            [shown(name, value, self.in_per_cent) for name, value in zip(names, row, strict=True)]
            for row in rows_of(self.table)
        ]

    def fitting(self, width: int) -> Listing:
        """Return the first columns that fit side by side into `width` characters, at least one."""
        names, room, count = self.table.column_names, width + GAP, 0
        for column in zip(map(printable, names), *self.cells(), strict=True):
            room -= GAP + max(map(cell_len, column))
            if room < 0:
                break
            count += 1
        return Listing(self.table.select(range(max(count, 1))), self.in_per_cent)


Block = str | Listing


def text_of_blocks(blocks: Iterable[Block]) -> str:
    """Return blocks as text for a terminal, an empty line between two of them."""
    parts = (
        block if isinstance(block, str) else render(block.table, in_per_cent=block.in_per_cent, grouped=block.grouped)
        for block in blocks
    )
    return "\n\n".join(parts)


def html_of_blocks(blocks: Iterable[Block]) -> str:
    """Return blocks as HTML in the colours of the notebook around it; every text is escaped."""
    return "".join(html_of_text(block) if isinstance(block, str) else _html_of_listing(block) for block in blocks)


def html_of_text(text: str) -> str:
    """Return a text as a paragraph that keeps its lines and indents."""
    return f'<p style="white-space: pre-wrap; max-width: 60em">{html.escape(text, quote=False)}</p>'


def html_of_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[bool], units: Sequence[str] = ()
) -> str:
    """Return a table of texts as HTML, scrolled where it is wider than the notebook.

    `numbers` says which columns hold numbers, which stand at the right; `units` are a second line of heads.
    """

    def line(kind: str, cells: Sequence[str]) -> str:
        sides = ("right" if is_number else "left" for is_number in numbers)
        pairs = zip(cells, sides, strict=True)
        parts = (f'<{kind} style="text-align: {side}">{html.escape(cell)}</{kind}>' for cell, side in pairs)
        return f"<tr>{''.join(parts)}</tr>"

    head = line("th", list(map(printable, heads))) + (line("td", units) if units else "")
    body = "".join(line("td", row) for row in rows)
    return f'<div style="overflow-x: auto"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _html_of_listing(listing: Listing) -> str:
    numbers = [is_number(field.type) for field in listing.table.schema]
    return html_of_table(listing.table.column_names, listing.cells(), numbers=numbers)
