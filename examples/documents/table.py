"""A document's number beside ours: the rows that the scripts of this folder return, and how they are printed."""

import sys
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Row:
    """One line of a table; `holds` says whether ours bears out what the line says."""

    what: str
    printed: str  # as the document prints it, "" where it prints none
    ours: str
    holds: bool
    note: str = ""


def equal(what: str, printed: str, ours: float, within: float | None = None, note: str = "") -> Row:
    """Return the row of a number that is to be as printed: within half a unit of its last digit unless said."""
    _, digits, exponent = Decimal(printed).as_tuple()
    unit = 10.0**exponent
    text = f"{ours:.{len(digits) - 1}e}" if "e" in printed.lower() else f"{ours:.{max(-exponent, 0)}f}"
    return Row(
        what, printed, text, abs(ours - float(printed)) <= (unit / 2 * 1.0001 if within is None else within), note
    )


def markdown(rows: list[Row]) -> str:
    """Return the table of some rows, as it stands in docs/documents.md."""
    lines = [("quantity", "printed", "ours", "holds", "note"), ("---",) * 5]
    lines += [(row.what, row.printed, row.ours, "yes" if row.holds else "**no**", row.note) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    if max(widths) > 60:  # a long note would only push the columns apart
        widths = [0] * 5
    return "\n".join("| " + " | ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)) + " |" for line in lines)


def show(rows: list[Row]) -> None:
    """Print the table, and exit with 1 where a line does not hold."""
    print(markdown(rows))
    sys.exit(0 if all(row.holds for row in rows) else 1)
