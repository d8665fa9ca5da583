"""The commands on result tables: a question in SQL, and whole tables as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import QueryError
from .options import DEFAULT_ROOT, AsJson, Root, Studies, print_json, study_place

if TYPE_CHECKING:
    from ..query.export import Exported

EXPORT_TIME_LIMIT_S = 3600.0


class Shown(StrEnum):
    """How an answer is shown, or written to a file."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"
    XLSX = "xlsx"


class Written(StrEnum):
    """What a table is exported as."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"
    XLSX = "xlsx"


class TableName(StrEnum):
    """The tables of a study, and its views."""

    TRIALS = "trials"
    CURVES = "curves"
    FIELDS = "fields"
    WEIGHTS = "weights"
    EVENTS = "events"
    BEST = "best"
    BY_CONFIG = "by_config"
    CURVES_LAST = "curves_last"
    FAILURES = "failures"
    PARETO = "pareto"


TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="SECONDS", min=0.1, help="What SQL may take.")]
MemoryLimit = Annotated[
    float, typer.Option("--memory-limit", metavar="GIB", min=0.1, max=1024, help="What SQL may take.")
]


def query(
    studies: Studies,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT over tables and views, .tables, or .schema.")],
    root: Root = DEFAULT_ROOT,
    shown: Annotated[
        Shown | None, typer.Option("--format", help="Default: a table for people, or what FILE's name says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the answer there, over what it held.")
    ] = None,
    time_limit: TimeLimit = 120.0,
    memory_limit: MemoryLimit = 1.0,
    as_json: AsJson = False,
) -> None:
    """Ask the result tables of studies in SQL, read-only.

    Tables: trials, curves, fields, weights, events. Views: best, by_config, curves_last, failures, pareto. The first
    column of each is the study.

    \b
    pinnsweep query runs/widths .tables
    pinnsweep query runs/widths ".schema trials"
    pinnsweep query runs/widths "SELECT init, median(rel_l2), count(*) FROM trials GROUP BY init ORDER BY 2"
    pinnsweep query runs/widths "SELECT * FROM by_config ORDER BY rel_l2_median LIMIT 5"
    pinnsweep query runs/a runs/b "SELECT study, trial, rel_l2, seconds FROM pareto" --format csv
    pinnsweep query runs/widths "FROM curves JOIN best USING (study, trial, replicate)" -o best.parquet
    """
    chosen = Shown.JSON if as_json and output is None else shown
    if output is None and chosen in (Shown.PARQUET, Shown.ARROW, Shown.XLSX):
        raise QueryError(f"--format {chosen} is no text for a terminal. Say where to write it: -o answer.{chosen}")
    if output is not None and chosen is Shown.TABLE:
        raise QueryError("--format table is for people to look at. To write a file choose csv, json or another one")
    places = [study_place(study, root) for study in studies]
    from ..query import confined
    from ..query.export import export_answer, place_for
    from ..query.files import FileFormat
    from ..query.query import query as answer_of
    from ..query.text import render

    limits = confined.Limits(memory_gib=memory_limit, time_s=time_limit)
    with confined.process_confined(limits):
        if output is None:
            typer.echo(render(answer_of(places, sql, limits), (chosen or Shown.TABLE).value))
            return
        target = place_for(output, "answer", FileFormat(chosen) if chosen else None)
        _tell([export_answer(places, sql, target, limits)], as_json=as_json)


def export(
    studies: Studies,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="PLACE", help="A file of one table, over what it held, or a folder."),
    ],
    table: Annotated[TableName | None, typer.Option("--table", help="Which (default: the five tables).")] = None,
    sql: Annotated[str | None, typer.Option("--sql", metavar="SQL", help="The answer to a question instead.")] = None,
    format: Annotated[
        Written | None, typer.Option("--format", help="Default: what PLACE's name says, csv in a folder.")
    ] = None,
    root: Root = DEFAULT_ROOT,
    time_limit: TimeLimit = EXPORT_TIME_LIMIT_S,
    memory_limit: MemoryLimit = 1.0,
    as_json: AsJson = False,
) -> None:
    """Write result tables of studies to files for other programs.

    Rows are read and written a batch at a time, whatever their number. The first column is the study; units stand in
    the metadata of Parquet and Arrow fields, and on a sheet of their own in Excel.

    \b
    pinnsweep export runs/widths -o tables
    pinnsweep export runs/widths -o tables --format parquet
    pinnsweep export runs/a runs/b --table trials -o trials.xlsx
    pinnsweep export runs/widths --sql "SELECT trial, step, loss FROM curves WHERE trial < 9" -o curves.csv
    """
    if table is not None and sql is not None:
        raise QueryError("one of --table and --sql says what to export, got both")
    places = [study_place(study, root) for study in studies]
    from ..query import confined
    from ..query.export import export_answer, export_tables, place_for, places_in
    from ..query.files import FileFormat
    from ..storage.schema import TABLES

    chosen = FileFormat(format) if format else None
    if table is None and sql is None:
        _tell(export_tables(places, places_in(output, TABLES, chosen or FileFormat.CSV)), as_json=as_json)
    elif table is not None and table.value in TABLES:
        _tell(export_tables(places, {table.value: place_for(output, table.value, chosen)}), as_json=as_json)
    else:
        limits = confined.Limits(memory_gib=memory_limit, time_s=time_limit)
        target = place_for(output, table.value if table else "answer", chosen)
        with confined.process_confined(limits):
            _tell([export_answer(places, sql or f"FROM {table}", target, limits)], as_json=as_json)


def _tell(written: Sequence[Exported], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in written])
    else:
        typer.echo("\n".join(f"{each.path}: {each.rows} row{'s' if each.rows != 1 else ''}" for each in written))
