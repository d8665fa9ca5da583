"""Configurations listed one by one: the rows of a CSV file, and the space that a list of rows spans."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import NOT_GIVEN, Mistake, SpecError
from . import yaml_text
from .dimensions import Choice
from .mistakes import did_you_mean

PLACE: Final = "search.list"
ReadText = Callable[[Path], str]
_MOST_REPORTED: Final = 20  # mistakes in a list that are reported one by one


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file as mappings from field to value, and the number of the line where each begins."""

    file: Path
    rows: list[dict[str, Any]]
    lines: list[int]
    mistakes: list[Mistake]


def with_rows(
    raw: Mapping[str, Any], base: Path, fields: Sequence[str], read_text: ReadText | None
) -> tuple[dict[str, Any], Table | None]:
    """Return a study file with the rows of its CSV file, if it names one, in place of the path, and the table read."""
    search = raw.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("list"), str):
        return dict(raw), None
    file = Path(os.path.abspath(base / os.path.expanduser(search["list"])))
    if read_text is None:
        table = Table(file, [], [], [Mistake(PLACE, str(file), "must list the configurations themselves here")])
    else:
        table = read_csv(file, fields, read_text)
    without = {name: value for name, value in search.items() if name != "list"}
    return {**raw, "search": {**search, "list": table.rows} if table.rows else without}, table


def read_csv(file: Path, fields: Sequence[str], read_text: ReadText) -> Table:
    """Return a table whose header names `fields`. An empty cell is not given, any other is read as YAML.

    Cells that cannot be read are left out and reported in `mistakes`.
    """
    try:
        text = read_text(file)
        lines = list(_lines(text))
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not a CSV file in UTF-8: {error}"
        return Table(file, [], [], [Mistake(PLACE, str(file), f"cannot be read ({reason})")])
    if len(lines) < 2:
        hint = "The first line names the fields; every further line is a configuration."
        return Table(file, [], [], [Mistake(PLACE, str(file), "must list at least 1 configuration", hint)])
    header = [name.strip() for name in lines[0][1]]
    mistakes = list(_wrong_columns(header, fields, file))
    rows: list[dict[str, Any]] = []
    numbers = []
    for number, cells in lines[1:]:
        row, row_mistakes = _row(header, cells, fields, f"{PLACE}[{len(rows)}]")
        mistakes += row_mistakes
        rows.append(row)
        numbers.append(number)
    return Table(file, rows, numbers, mistakes)


def dimensions(rows: Iterable[Mapping[str, Any]]) -> dict[str, Choice]:
    """Return the space of listed configurations: the distinct values of each field, in order of appearance."""
    values: dict[str, dict[str, Any]] = {}
    for row in rows:
        for field, value in row.items():
            values.setdefault(field, {}).setdefault(json.dumps(value, sort_keys=True), value)
    return {field: Choice(tuple(distinct.values())) for field, distinct in values.items()}


def abridge(mistakes: Sequence[Mistake], table: Table | None) -> list[Mistake]:
    """Return the mistakes with those in a list shortened: unknown fields once, and at most `_MOST_REPORTED`.

    Rows of a CSV file are named by their lines.
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
                place = f"{PLACE} (line {table.lines[index]} of {table.file.name})"
                place += f".{field}" if field else ""
                mistake = Mistake(place, mistake.value, mistake.rule, mistake.hint)
        abridged.append(mistake)
    if cells > _MOST_REPORTED:
        abridged.append(Mistake(PLACE, NOT_GIVEN, f"has {cells - _MOST_REPORTED} more mistakes like these"))
    return abridged


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a table that are not blank, with their numbers."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True, skipinitialspace=True)
    number = 1
    for cells in reader:
        if any(cell.strip() for cell in cells) or len(cells) > 1:
            yield number, cells
        number = reader.line_num + 1


def _wrong_columns(header: Sequence[str], fields: Sequence[str], file: Path) -> Iterator[Mistake]:
    for index, name in enumerate(header):
        if name not in fields:
            rule = f"a column of {file.name} names no field of train or problem"
            yield Mistake(PLACE, name, rule, did_you_mean(name, fields))
        elif name in header[:index]:
            yield Mistake(PLACE, name, f"a column of {file.name} appears twice", "Keep one of the two.")


def _row(
    header: Sequence[str], cells: Sequence[str], fields: Sequence[str], place: str
) -> tuple[dict[str, Any], list[Mistake]]:
    if len(cells) != len(header):
        rule = f"must have {len(header)} cells like the header"
        return {}, [Mistake(place, len(cells), rule, "Put text with a comma in double quotes.")]
    row: dict[str, Any] = {}
    mistakes = []
    for name, cell in zip(header, cells, strict=True):
        if cell.strip() and name in fields:
            try:
                row[name] = yaml_text.read_value(cell.strip())
            except SpecError as error:
                (mistake,) = error.mistakes
                mistakes.append(Mistake(yaml_text.joined(place, name), cell, mistake.rule))
    return row, mistakes


def _cell(path: str) -> tuple[int | None, str]:
    """Return row and field of a path such as `search.list[3].width`; the row is None for other paths."""
    if not path.startswith(f"{PLACE}["):
        return None, ""
    index, _, field = path.removeprefix(f"{PLACE}[").partition("]")
    return int(index), field.removeprefix(".")
