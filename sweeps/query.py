"""Questions to the result tables: one read-only SQL statement over one or several studies, and the best trials.

DuckDB runs in memory over Arrow datasets that are registered first; then access to anything outside is switched off
and the configuration locked. Before it runs, the statement is parsed, and only reading the study's own tables passes.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pinncore.settings import TrainSettings

from . import specfile
from .errors import QueryError, SpecError, StudyError
from .rendering import render as render
from .store import TABLES, StudyTables, column_of

KEY_METRICS = ("rel_l2", "loss", "heldout_residual", "seconds", "stop_reason")

_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_MISTAKES_IN_SQL = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InterruptException,
)
_TABLE_FUNCTIONS = frozenset(
    {"unnest", "range", "generate_series", "repeat", "json_each", "json_tree", "histogram", "histogram_values"}
)


def query(
    study_dirs: Sequence[Path],
    sql: str,
    *,
    memory_limit: str = "1GiB",
    spill_limit: str = "4GiB",
    time_limit_s: float = 120.0,
    threads: int | None = None,
) -> pa.Table:
    """Answer one SELECT, WITH, DESCRIBE, SUMMARIZE or SHOW over the tables of the studies.

    The tables trials, curves, fields, weights and events have a first column `study`. Raises `QueryError` for a
    statement that does more than read them, that is wrong, or that meets a limit, and `StudyError` for a folder that
    is no study or a damaged file.
    """
    studies = _named_studies(study_dirs)
    with tempfile.TemporaryDirectory(prefix="pinnsweep-query-") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": spill,
            "max_temp_directory_size": spill_limit,
            "max_execution_time": str(int(1000 * time_limit_s)),
            "threads": str(threads or os.cpu_count() or 1),
            "python_enable_replacements": "false",  # no variable of this process is a table
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            tree = _checked_tree(connection, sql)
            columns = _register(connection, studies)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            if any(node.get("type") == "SHOW_REF" and node.get("query") is None for node in _nodes(tree)):
                return _tables_shown(studies, columns)
            try:
                return connection.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                if not isinstance(error, _MISTAKES_IN_SQL):
                    for tables in studies.values():
                        tables.check_files(_tables_used(tree))
                raise _explained(error, tree, columns, memory_limit, time_limit_s) from None


def top(study_dirs: Sequence[Path], n: int = 10, by: str | None = None) -> pa.Table:
    """Return the `n` best complete trials, smallest `by` first: the objective of the studies unless given.

    Columns: study (of several), trial, the objective, the swept settings, the key metrics. Raises `QueryError` where
    `by` is no number in `trials` or the studies have different objectives, and `StudyError` for what is no study.
    """
    if n < 1:
        raise QueryError(f"the number of trials must be at least 1, got {n}")
    files = [read_study_file(Path(folder)) for folder in study_dirs]
    known = query(study_dirs, "DESCRIBE trials").to_pydict()
    numbers = [
        name
        for name, kind in zip(known["column_name"], known["column_type"], strict=True)
        if kind in ("DOUBLE", "INTEGER", "BIGINT")
    ]
    objective = by or _common_objective(files)
    if objective not in numbers:
        raise QueryError(
            f"trials cannot be ranked by {objective!r}, which is no number in the table trials."
            + _did_you_mean(objective, numbers)
        )
    swept = [name for file in files for name in swept_columns(file)]
    wanted = [*(["study"] if len(files) > 1 else []), "trial", objective, *swept, *KEY_METRICS]
    shown = ", ".join(f'"{name}"' for name in dict.fromkeys(wanted) if name in known["column_name"])
    return query(
        study_dirs,
        f"SELECT {shown} FROM trials WHERE state = 'COMPLETE' AND isfinite(\"{objective}\"::DOUBLE) "
        f'ORDER BY "{objective}", study, trial, replicate LIMIT {n}',
    )


def read_study_file(study_dir: Path) -> dict[str, Any]:
    """Return the study file in a study's folder as plain values. Raises `StudyError`."""
    path = study_dir / "study.yaml"
    if not path.is_file():
        found = "which does not exist" if not study_dir.exists() else "where there is no study.yaml"
        raise StudyError(
            f"a study is a folder with a study.yaml in it, got {study_dir}, {found}. "
            "Give the folder that pinnsweep run made, such as runs/quickstart."
        )
    try:
        content, mistakes = specfile.read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SpecError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from None
    if mistakes:
        raise StudyError(f"{path} cannot be read: " + "; ".join(map(str, mistakes)))
    return content


def swept_columns(study_file: dict[str, Any]) -> list[str]:
    """Return the trials columns of the dimensions of a study's space, in the order of its file."""
    train = {field.name for field in dataclass_fields(TrainSettings)}
    return [column_of("train" if name in train else "problem", name) for name in study_file.get("space") or {}]


def objective_of(study_file: dict[str, Any]) -> str:
    """Return the objective of a study."""
    return str((study_file.get("search") or {}).get("objective", "rel_l2"))


def _common_objective(files: Sequence[dict[str, Any]]) -> str:
    objectives = sorted({objective_of(file) for file in files})
    if len(objectives) > 1:
        raise QueryError(f"the studies have different objectives ({', '.join(objectives)}): say by which to rank")
    return objectives[0]


# ---- the statement -------------------------------------------------------------------------------------------------


def _checked_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """Return the parsed statement. Raises `QueryError` unless it is one statement that reads our tables only."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_with_reserved_word(_plain(error))) from None
    if not statements:
        raise QueryError("a query is one statement, got none. Try: SELECT trial, rel_l2 FROM trials ORDER BY rel_l2")
    if len(statements) > 1:
        raise QueryError(f"a query is one statement, got {len(statements)}. Ask them one at a time.")
    kind = statements[0].type.name
    if kind == "MULTI":
        raise QueryError("a PIVOT must list its columns, so that it only reads: PIVOT ... ON width IN (8, 16) ...")
    if kind != "SELECT":
        raise QueryError(f"a query only reads (SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW), got {kind}")
    try:
        serialized = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()[0][0]
        tree = json.loads(serialized)
    except (duckdb.Error, RecursionError):
        raise QueryError("the statement is nested too deeply to be checked. Split it.") from None
    if tree["error"]:
        raise QueryError(f"the statement cannot be checked: {tree['error_message']}")
    _refuse_more_than_reading(tree)
    return tree


def _refuse_more_than_reading(tree: Any) -> None:
    common = set(TABLES) | {entry["key"].lower() for node in _nodes(tree) for entry in _common_tables(node)}
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "VALUE_PARAMETER":
            raise QueryError("a query has no parameters, got $ or ?. Write the value itself.")
        if "cte_map" in node and kind not in _READING_NODES:
            raise QueryError(f"a query only reads, got {str(kind).removesuffix('_QUERY_NODE')} inside it")
        if kind == "TABLE_FUNCTION" and node["function"]["function_name"].lower() not in _TABLE_FUNCTIONS:
            name = node["function"]["function_name"]
            raise QueryError(
                f"a query reads only the study's tables ({', '.join(TABLES)}), got {name}(...). "
                f"Functions that make rows: {', '.join(sorted(_TABLE_FUNCTIONS))}."
            )
        if kind == "BASE_TABLE" and node["table_name"].lower() not in common:
            name = node["table_name"]
            raise QueryError(f"no table is called {name!r}." + _did_you_mean(name, sorted(common), "Tables"))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parsed statement; a loop, because statements nest deeper than Python recurses."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())


def _common_tables(node: dict[str, Any]) -> list[dict[str, Any]]:
    found = node.get("cte_map")
    return found["map"] if isinstance(found, dict) else []


def _tables_used(tree: Any) -> list[str]:
    named = {node["table_name"].lower() for node in _nodes(tree) if node.get("type") == "BASE_TABLE"}
    return [table for table in TABLES if table in named]


# ---- the tables ----------------------------------------------------------------------------------------------------


def _named_studies(study_dirs: Sequence[Path]) -> dict[str, StudyTables]:
    """The studies by the name of their folder, or by its path where two folders share a name."""
    folders = list(dict.fromkeys(Path(folder).resolve() for folder in study_dirs))
    if not folders:
        raise QueryError("a query needs at least one study. Give its folder, such as runs/quickstart.")
    for folder in folders:
        read_study_file(folder)
    names = [folder.name for folder in folders]
    return {str(folder) if names.count(folder.name) > 1 else folder.name: StudyTables(folder) for folder in folders}


def _register(connection: duckdb.DuckDBPyConnection, studies: dict[str, StudyTables]) -> dict[str, list[str]]:
    """Make the five views; returns their columns."""
    columns = {}
    for table in TABLES:
        parts = []
        found = ["study"]
        for number, (name, tables) in enumerate(studies.items()):
            dataset = tables.dataset(table)
            connection.register(f"__{table}_{number}", dataset)
            quoted = name.replace("'", "''")
            parts.append(f"SELECT '{quoted}' AS study, * FROM __{table}_{number}")
            found += [column for column in dataset.schema.names if column not in found]
        connection.execute(f"CREATE VIEW {table} AS " + " UNION ALL BY NAME ".join(parts))
        columns[table] = found
    return columns


def _tables_shown(studies: dict[str, StudyTables], columns: dict[str, list[str]]) -> pa.Table:
    rows = [sum(tables.dataset(table).count_rows() for tables in studies.values()) for table in TABLES]
    return pa.table({"name": TABLES, "rows": rows, "columns": [len(columns[table]) for table in TABLES]})


# ---- errors --------------------------------------------------------------------------------------------------------


def _explained(
    error: duckdb.Error, tree: Any, columns: dict[str, list[str]], memory_limit: str, time_limit_s: float
) -> QueryError:
    message = _plain(error)
    if isinstance(error, duckdb.InterruptException):
        return QueryError(f"the query took longer than {time_limit_s:g} s. Filter more, or ask for fewer columns.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(
            f"the query needs more than its {memory_limit} of memory and its room on disk. Filter more, or aggregate."
        )
    missing = re.search(r'column "([^"]+)" not found|column named "([^"]+)"', message)
    used = _tables_used(tree)
    if missing and used:
        name = missing[1] or missing[2]
        known = list(dict.fromkeys(column for table in used for column in columns[table]))
        return QueryError(
            f"no column is called {name!r} here." + _did_you_mean(name, known, f"Columns of {_and(used)}")
        )
    return QueryError(message)


def _plain(error: duckdb.Error) -> str:
    """DuckDB's message without its class and blank lines; the caret line stays, it shows the place."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^[A-Za-z ]+ Error: ", "", "\n".join(lines))


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _with_reserved_word(message: str) -> str:
    reserved = 'at or near "column"' in message
    return message + (
        '\nThe column is called "column", a reserved word: write it in double quotes.' if reserved else ""
    )


def _did_you_mean(wanted: str, known: Sequence[str], what: str = "Known") -> str:
    close = difflib.get_close_matches(wanted.lower(), known, n=3, cutoff=0.6)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{meant} {what}: {', '.join(known)}."
