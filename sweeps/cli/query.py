"""The commands on result tables: `query` for SQL, `export` for whole tables as files."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import QueryError
from ..own_name import own_name
from ..query.formats import FileFormat
from ..study.home import is_study
from .options import DEFAULT_ROOT, AsJson, Force, Root, Studies, print_json, refuse_taken, study_names, study_place

if TYPE_CHECKING:
    from ..query.export import Exported

EXPORT_TIME_LIMIT_S = 3600.0
STDIN = "-"

AnswerFormat = StrEnum("AnswerFormat", "table csv json parquet arrow xlsx")  # a FileFormat, or text for people
TableName = StrEnum("TableName", "trials curves fields weights events best by_config curves_last failures pareto")

TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="SECONDS", min=0.1, help="Time limit of the query.")]
MemoryLimit = Annotated[
    float, typer.Option("--memory-limit", metavar="GIB", min=0.1, max=1024, help="Memory limit of the query.")
]


def _words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what a word of `query` may be, for the shell: a study or, after one, a command."""
    commands = (".tables", ".schema") if ctx.params.get("words") else ()
    return [*study_names(ctx, incomplete), *(command for command in commands if command.startswith(incomplete))]


def query(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY... [SQL]",
            help="Studies, then a SELECT, .tables or .schema; from stdin where it is - or left out.",
            autocompletion=_words,
        ),
    ],
    root: Root = DEFAULT_ROOT,
    format: Annotated[
        AnswerFormat | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, csv, json, parquet, arrow or xlsx (default: table, or by the name of FILE).",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the answer to a new FILE.")
    ] = None,
    force: Force = False,
    time_limit: TimeLimit = 120.0,
    memory_limit: MemoryLimit = 1.0,
    as_json: AsJson = False,
) -> None:
    """Query the result tables of studies in SQL, read-only.

    Tables: trials, curves, fields, weights, events. Views: best, by_config, curves_last, failures, pareto. The first
    column of each is the study.
    """
    chosen = AnswerFormat.json if as_json and output is None else format
    if output is None and chosen in ("parquet", "arrow", "xlsx"):
        raise QueryError(f"--format {chosen} cannot be printed. Write it to a file: -o answer.{chosen}")
    if output is not None and chosen is AnswerFormat.table:
        raise QueryError("--format table cannot be written to a file. Choose csv, json, parquet, arrow or xlsx")
    studies, sql = _studies_and_sql(words)
    given = [study_place(study, root) for study in studies]
    if sql in ("", STDIN):
        sql = _sql_from_stdin(studies[0], is_wanted=sql == STDIN)
    from ..query import confined
    from ..query.export import export_answer, place_for
    from ..query.query import answer_of, place_of
    from ..query.text import render
    from ..storage.stored_problem import read_problem

    places = [place_of(place) for place in given]
    limits = confined.Limits(memory_gib=memory_limit, time_s=time_limit)
    with confined.process_confined(limits):
        if output is None:
            answer = answer_of(places, sql, limits)
            in_per_cent = {metric for place in places for metric in read_problem(place).record.in_per_cent}
            typer.echo(render(answer, (chosen or AnswerFormat.table).value, in_per_cent=in_per_cent))
            return
        target = place_for(output, "answer", FileFormat(chosen) if chosen else None)
        refuse_taken(target.path, force=force)
        _print_files([export_answer(places, sql, target, limits)], as_json=as_json)


def export(
    studies: Studies,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="PLACE",
            help="Folder for new files, or file for one table: .csv, .json, .parquet, .arrow, .xlsx.",
        ),
    ],
    table: Annotated[
        TableName | None,
        typer.Option(
            "--table",
            metavar="NAME",
            help="trials, curves, fields, weights, events, best, by_config, curves_last, failures or pareto "
            "(default: the first five).",
        ),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option("--sql", metavar="SQL", help="Write the answer of this query instead; - reads it from stdin."),
    ] = None,
    format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv, json, parquet, arrow or xlsx (default: by the name of PLACE; csv in a folder).",
        ),
    ] = None,
    force: Force = False,
    root: Root = DEFAULT_ROOT,
    time_limit: TimeLimit = EXPORT_TIME_LIMIT_S,
    memory_limit: MemoryLimit = 1.0,
    as_json: AsJson = False,
) -> None:
    """Write result tables of studies to files for other programs.

    Rows are read and written in batches, so tables may be of any size. The first column is the study. Units are in the
    metadata of Parquet and Arrow fields, and on a separate sheet in Excel.
    """
    if table is not None and sql is not None:
        raise QueryError("--table and --sql exclude each other, got both")
    places = [study_place(study, root) for study in studies]
    sql = _sql_from_stdin(studies[0], is_wanted=True) if sql == STDIN else sql
    from ..query import confined
    from ..query.export import export_answer, export_tables, place_for, places_in
    from ..storage.schema import TABLES

    if table is None and sql is None:
        targets = places_in(output, TABLES, format or FileFormat.CSV)
    else:
        name = table.value if table else "answer"
        targets = {name: place_for(output, name, format)}
    refuse_taken(*(target.path for target in targets.values()), force=force)
    if set(targets) <= set(TABLES):
        files = export_tables(places, targets)
    else:
        limits = confined.Limits(memory_gib=memory_limit, time_s=time_limit)
        with confined.process_confined(limits):
            files = [export_answer(places, sql or f"FROM {table}", targets[name], limits)]
    _print_files(files, as_json=as_json)


def _studies_and_sql(words: Sequence[str]) -> tuple[list[Path], str]:
    """Return the studies and the SQL of a command; the SQL is empty where there is none. Raises `QueryError`."""
    *first, last = words
    if last != STDIN and not _is_sql(last):
        return [Path(word) for word in words], ""
    if not first:
        raise QueryError(f"the study is missing: {own_name()} query STUDY {shlex.quote(last)}")
    return [Path(word) for word in first], last


def _is_sql(word: str) -> bool:
    """Return whether a word is SQL or a command such as .tables, and not the folder of a study."""
    if word.strip() and not re.search(r"[\s(;]|^\.[a-z]", word):
        return False
    try:
        return not is_study(Path(word))
    except OSError:  # longer than the name of a file may be
        return True


def _sql_from_stdin(study: Path, *, is_wanted: bool) -> str:
    """Return the SQL on stdin. Raises `QueryError` where there is none, on a terminal unless `is_wanted`."""
    from ..query.query import NAMES
    from ..query.statement import LONGEST

    is_given = sys.stdin is not None and (is_wanted or not sys.stdin.isatty())
    content = sys.stdin.buffer.read(4 * (LONGEST + 1)) if is_given else b""
    try:
        sql = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise QueryError("the SQL on stdin is not text in UTF-8") from None
    if sql.strip():
        return sql
    command = f"{own_name()} query {shlex.quote(str(study))}"
    raise QueryError(
        "the SQL is missing: write it in quotes after the studies, or pass it on stdin, for example\n"
        f'  {command} "SELECT trial, rel_l2 FROM trials ORDER BY rel_l2 LIMIT 5"\n'
        f"  {command} .tables\n"
        f"Tables and views: {', '.join(NAMES)}"
    )


def _print_files(files: Sequence[Exported], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(file) for file in files])
    else:
        typer.echo("\n".join(f"{file.path}: {file.rows} row{'s' if file.rows != 1 else ''}" for file in files))
