"""Configurations listed one by one: the rows of a table, and the space that a list of rows spans."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from pinncore.errors import DataError

from ..errors import NOT_GIVEN, Mistake, SpecError
from . import yaml_text
from .dimensions import Choice
from .meant import LEFT_OUT
from .mistakes import did_you_mean

PLACE: Final = "search.list"
MOST_COLUMNS: Final = 1_000
_MOST_REPORTED: Final = 20  # mistakes in a list that are reported one by one


class ListedTable(Protocol):
    """A table in a file."""

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the place of each row and its cells as text; what is missing is empty."""


OpenList = Callable[[str], ListedTable]  # raises `DataError`


@dataclass(frozen=True)
class Table:
    """The rows of a file as mappings from field to value, and the place of each in the file, such as "line 2"."""

    file: Path
    rows: list[dict[str, Any]]
    places: list[str]
    mistakes: list[Mistake]


def with_rows(
    raw: Mapping[str, Any], base: Path, fields: Sequence[str], open_list: OpenList | None
) -> tuple[dict[str, Any], Table | None]:
    """Return a study file with the rows of the table, if it names one, in place of the path, and the table read."""
    search = raw.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("list"), str):
        return dict(raw), None
    file = Path(os.path.abspath(base / os.path.expanduser(search["list"])))
    if open_list is None:
        table = Table(file, [], [], [Mistake(PLACE, str(file), "must list the configurations themselves here")])
    else:
        try:
            table = _table(file, open_list(str(file)), fields)
        except DataError as error:
            hint = "The first line names the fields; every further line is a configuration."
            table = Table(file, [], [], [Mistake(PLACE, NOT_GIVEN, str(error).rstrip("."), hint)])
    without = {name: value for name, value in search.items() if name != "list"}
    return {**raw, "search": {**search, "list": table.rows} if table.rows else without}, table


def _table(file: Path, sheet: ListedTable, fields: Sequence[str]) -> Table:
    """Return a table whose header names `fields`. An empty cell is not given, any other is read as YAML.

    Columns without a name, as pandas and R write for their row labels, are passed over. Cells that cannot be read are
    left out and reported in `mistakes`.
    """
    if len(sheet.names) > MOST_COLUMNS:
        rule = f"may have {MOST_COLUMNS:,} columns, this has {len(sheet.names):,}"
        return Table(file, [], [], [Mistake(PLACE, str(file), rule)])
    mistakes = list(_wrong_columns(sheet.names, fields, file))
    rows: list[dict[str, Any]] = []
    places = []
    for place, cells in sheet.rows():
        if (len(rows) + 1) * (1 + 2 * len(cells)) > yaml_text.MOST_VALUES:
            rule = f"may have {len(rows):,} rows of {len(cells):,} cells, this has more"
            return Table(file, [], [], [Mistake(PLACE, str(file), rule, "List fewer configurations.")])
        row, row_mistakes = _row(sheet.names, cells, fields, f"{PLACE}[{len(rows)}]")
        mistakes += row_mistakes
        rows.append(row)
        places.append(place)
    return Table(file, rows, places, mistakes)


def dimensions(rows: Iterable[Mapping[str, Any]]) -> dict[str, Choice]:
    """Return the space of listed configurations: the distinct values of each field, in order of appearance."""
    values: dict[str, dict[str, Any]] = {}
    for row in rows:
        for field, value in row.items():
            values.setdefault(field, {}).setdefault(json.dumps(value, sort_keys=True), value)
    return {field: Choice(tuple(distinct.values())) for field, distinct in values.items()}


def abridge(mistakes: Sequence[Mistake], table: Table | None) -> list[Mistake]:
    """Return the mistakes with those in a list shortened: unknown fields once, and at most `_MOST_REPORTED`.

    Rows of a file are named by their lines.
    """
    abridged: list[Mistake] = []
    unknown: set[str] = set()
    cells = 0
    for mistake in mistakes:
        index, field = _cell(mistake.path)
        if index is not None:
            if mistake.rule.startswith("names no field"):
                if field in unknown:
                    continue
                unknown.add(field)
            cells += 1
            if cells > _MOST_REPORTED:
                continue
            if table is not None:
                place = f"{PLACE} ({table.places[index]} of {table.file.name})"
                place += f".{field}" if field else ""
                hint = "Leave the cell empty." if mistake.hint == LEFT_OUT else mistake.hint
                mistake = Mistake(place, mistake.value, mistake.rule, hint)
        abridged.append(mistake)
    if cells > _MOST_REPORTED:
        abridged.append(Mistake(PLACE, NOT_GIVEN, f"has {cells - _MOST_REPORTED} more mistakes like these"))
    return abridged


def _wrong_columns(header: Sequence[str], fields: Sequence[str], file: Path) -> Iterator[Mistake]:
    for name in header:
        if name and name not in fields:
            rule = f"a column of {file.name} names no field of train or problem"
            yield Mistake(PLACE, name, rule, did_you_mean(name, fields))


def _row(
    header: Sequence[str], cells: Sequence[str], fields: Sequence[str], place: str
) -> tuple[dict[str, Any], list[Mistake]]:
    row: dict[str, Any] = {}
    mistakes = []
    for name, cell in zip(header, cells, strict=True):
        if cell.strip() and name in fields:
            try:
                row[name] = _value(cell.strip())
            except SpecError as error:
                (mistake,) = error.mistakes
                mistakes.append(Mistake(yaml_text.joined(place, name), cell, mistake.rule, mistake.hint))
    return row, mistakes


def _value(cell: str) -> Any:
    """Return the value of a cell; `8.0` is 8: programs that mark missing numbers write whole ones so.

    Raises `SpecError` with one mistake.
    """
    whole, _, rest = cell.partition(".")
    is_whole = re.fullmatch(r"[+-]?[0-9]+", whole) and re.fullmatch(r"0+", rest)
    return yaml_text.read_value(whole if is_whole else cell)


def _cell(path: str) -> tuple[int | None, str]:
    """Return row and field of a path such as `search.list[3].width`; the row is None for other paths."""
    if not path.startswith(f"{PLACE}["):
        return None, ""
    index, _, field = path.removeprefix(f"{PLACE}[").partition("]")
    return int(index), field.removeprefix(".")
