"""Questions to the result tables: one read-only SQL statement over one or several studies, and the best trials.

DuckDB runs in memory over Arrow datasets that are registered first; then access to anything outside is switched off
and the configuration locked. Before it runs, the statement is parsed, and only reading the study's own tables passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from ..errors import QueryError, SpecError, StudyError
from ..spec import yaml_text
from ..storage.object_store import Remote, uri_of
from ..storage.schema import TABLES
from ..storage.stored_tables import tables_of
from ..storage.tables import Snapshot, StudyTables, exactly
from ..study import study_file
from . import confined, views
from .confined import Limits
from .ranking import (
    KEY_METRICS,
    Kind,
    check_numbers,
    common_objectives,
    ranked_trials_sql,
    ranking_of,
    swept_columns,
    with_front,
)
from .rows import dataset_of
from .statement import checked_tree, did_you_mean, names_used, shows_tables
from .text import SPREAD
from .values import unit_of

Schemas = Mapping[str, pa.Schema]  # of each table that is registered
NAMES: Final = (*TABLES, *views.NEEDS)  # that a statement may read
_DEFAULTS: Final = Limits()
_Made = TypeVar("_Made")


def query(study_dirs: Sequence[Path | Remote], sql: str, limits: Limits = _DEFAULTS) -> pa.Table:
    """Answer one SELECT, WITH, DESCRIBE, SUMMARIZE or SHOW over the tables of the studies, `.tables` or `.schema`.

    The tables trials, curves, fields, weights and events and the views have a first column `study`. Raises
    `QueryError` for a statement that does more than read them, that is wrong, or that meets a limit, and `StudyError`
    for a folder that is no study or a damaged file.
    """
    return stream_query(study_dirs, sql, lambda schema, batches: confined.gathered(schema, batches, limits), limits)


def stream_query(
    study_dirs: Sequence[Path | Remote],
    sql: str,
    consume: Callable[[pa.Schema, Iterator[pa.RecordBatch]], _Made],
    limits: Limits = _DEFAULTS,
) -> _Made:
    """Hand an answer to `consume` as it is computed, so that it may be larger than the memory. Raises as `query` does.

    `consume` is called again, from the beginning, where a compaction took files away meanwhile.
    """
    places = named_studies(study_dirs)
    command, wanted = _command(sql)
    if command is None:
        with confined.database(limits) as connection:
            tree = checked_tree(connection, sql, NAMES)
        command = ".tables" if shows_tables(tree) else None
    used = list(NAMES) if command else names_used(tree, NAMES)
    files = {name: read_study_file(place) for name, place in places.items()}
    studies = {name: tables_of(place) for name, place in places.items()}

    def answer(connection: duckdb.DuckDBPyConnection, schemas: Schemas) -> _Made:
        context = views.view_context(files, {table: schema.names for table, schema in schemas.items()})
        for view in (name for name in views.NEEDS if name in used):
            views.create(connection, view, context, filled=command is None)
        if command is None:
            return consume(*confined.batches(connection, sql))
        found = _listed(connection) if command == ".tables" else _described(connection, wanted, schemas)
        return consume(found.schema, iter(found.to_batches()))

    return run_query(studies, [name for name in TABLES if name in used or name in _needed(used)], limits, answer)


def ranked_trials(study_dirs: Sequence[Path | Remote], by: str | None = None, *, limit: int | None = None) -> pa.Table:
    """Return every whole trial in a line, the best first: study, trial, state, objectives, swept settings, key metrics.

    Trials rank by the first objective of their study unless `by` names another number, those of several objectives
    first by whether another trial dominates them (`pareto`). A `limit` is on ranked trials and leaves out all others.
    Raises `QueryError` where `by` is no number in `trials` or the studies have different objectives, and `StudyError`
    for what is no study.
    """
    places = named_studies(study_dirs)
    files = {name: read_study_file(place) for name, place in places.items()}
    studies = {name: tables_of(place) for name, place in places.items()}
    ranking = {name: ranking_of(file) for name, file in files.items()}
    metrics = (by,) if by else common_objectives(ranking)

    def answer(connection: duckdb.DuckDBPyConnection, schemas: Schemas) -> pa.Table:
        kinds = {name: kind for name, kind, *_ in connection.execute("DESCRIBE trials").fetchall()}
        check_numbers(metrics, kinds)
        swept: dict[str, Kind] = {name: "setting" for file in files.values() for name in swept_columns(file)}
        wanted = swept | KEY_METRICS
        others = {name: kind for name, kind in wanted.items() if name in kinds and name not in metrics}
        first = None if len(metrics) > 1 else limit
        sql = ranked_trials_sql(ranking, metrics, others, ranked_only=limit is not None, limit=first)
        return connection.sql(sql).to_arrow_table()

    found = run_query(studies, ["trials"], _DEFAULTS, answer)
    return found if len(metrics) == 1 else with_front(found, metrics).slice(0, limit)


def read_study_file(study_dir: Path | Remote) -> dict[str, Any]:
    """Return the study file of a study as plain values. Raises `StudyError`."""
    path = f"{study_dir}/{study_file.SPEC_FILE}"
    if isinstance(study_dir, Path) and not (study_dir / study_file.SPEC_FILE).is_file():
        found = "which does not exist" if not study_dir.exists() else "where there is no study.yaml"
        raise StudyError(
            f"a study is a folder with a study.yaml in it, got {study_dir}, {found}. "
            "Give the folder that pinnsweep run made, such as runs/quickstart."
        )
    try:
        content, mistakes = yaml_text.read(study_file.whole_text(study_dir))
    except SpecError as error:
        raise StudyError(f"{path} cannot be read: {error}") from None
    if mistakes:
        raise StudyError(f"{path} cannot be read: " + "; ".join(map(str, mistakes)))
    return content


# ---- the tables ----------------------------------------------------------------------------------------------------


def place_of(study_dir: Path | Remote) -> Path | Remote:
    """Return where a study is: its folder, or what an object store's URI names."""
    uri = uri_of(str(study_dir))
    return Path(str(study_dir)).resolve() if uri is None else Remote(uri)


def named_studies(study_dirs: Sequence[Path | Remote]) -> dict[str, Path | Remote]:
    """The studies by the name of their folder, or by its path where two folders share a name."""
    places = list(dict.fromkeys(map(place_of, study_dirs)))
    if not places:
        raise QueryError("a query needs at least one study. Give its folder, such as runs/quickstart.")
    names = [place.name for place in places]
    return {str(place) if names.count(place.name) > 1 else place.name: place for place in places}


def run_query(
    studies: Mapping[str, StudyTables],
    used: Sequence[str],
    limits: Limits,
    answer: Callable[[duckdb.DuckDBPyConnection, Schemas], _Made],
) -> _Made:
    """What `answer` finds in a locked database with these tables of the studies, all of one moment."""
    schemas: dict[str, pa.Schema] = {}

    def check_files() -> None:
        for tables in studies.values():
            tables.check_files(used)

    def attempt(snapshots: Mapping[str, Snapshot]) -> _Made:
        with confined.database(limits) as connection:
            for table in used:
                dataset = dataset_of(table, studies, snapshots, enumerated=True)
                connection.register(table, dataset)
                schemas[table] = dataset.schema
            confined.lock(connection)
            with confined.within(limits, connection, schemas, check_files):
                return answer(connection, schemas)

    return exactly(studies, used, attempt)


def _command(text: str) -> tuple[str | None, str]:
    """The command that a text is, with its argument; None for SQL. Raises `QueryError` for another one."""
    words = text.strip().removesuffix(";").split(maxsplit=1)
    if not words or not words[0].startswith("."):
        return None, ""
    if words[0] not in (".tables", ".schema"):
        raise QueryError(f"the commands are .tables and .schema [TABLE], got {words[0]}. Anything else is SQL.")
    return words[0], words[1].strip() if len(words) > 1 else ""


def _needed(used: Sequence[str]) -> set[str]:
    """The tables that the views among names are made of."""
    return {table for view, table in views.NEEDS.items() if view in used}


def _listed(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The tables and views; only tables are counted."""
    counted = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in TABLES}
    columns = [len(connection.execute(f"DESCRIBE {name}").fetchall()) for name in NAMES]
    kinds = ["table" if name in TABLES else "view" for name in NAMES]
    rows = pa.array([counted.get(name) for name in NAMES], pa.int64())
    return pa.table({"name": NAMES, "kind": kinds, "rows": rows, "columns": columns})


def _described(connection: duckdb.DuckDBPyConnection, wanted: str, schemas: Schemas) -> pa.Table:
    """The columns of the tables and views, of one alone where it is named, with types and units."""
    name = wanted.lower()
    if name and name not in NAMES:
        raise QueryError(f"no table is called {wanted!r}." + did_you_mean(name, NAMES, "Tables and views"))
    units = {field.name: unit_of(field) for schema in schemas.values() for field in schema}
    lines = [
        (each, column, kind, units.get(column) or units.get(SPREAD.sub("", column), ""))
        for each in ([name] if name else NAMES)
        for column, kind, *_ in connection.execute(f"DESCRIBE {each}").fetchall()
    ]
    return pa.table(dict(zip(("table", "column", "type", "unit"), map(list, zip(*lines, strict=True)), strict=True)))
