"""Questions to the result tables: one read-only SQL statement over one or several studies, and the best trials.

DuckDB runs in memory over Arrow datasets that are registered first; then access to anything outside is switched off
and the configuration locked. Before it runs, the statement is parsed, and only reading the study's own tables passes.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pinncore.settings import TrainSettings

from . import specfile
from .errors import QueryError, SpecError, StudyError
from .machine import available_cpus
from .rendering import render as render
from .statement import checked_tree, did_you_mean, plain_message, shows_tables, tables_used
from .store import StudyTables, column_of

KEY_METRICS = ("rel_l2", "loss", "heldout_residual", "seconds", "stop_reason")

_MISTAKES_IN_SQL = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InterruptException,
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
            "threads": str(threads or available_cpus()),
            "python_enable_replacements": "false",  # no variable of this process is a table
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            tree = checked_tree(connection, sql)
            used = tables_used(tree)
            columns = _register(connection, studies, used)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            if shows_tables(tree):
                return _tables_shown(connection, columns)
            timer = threading.Timer(time_limit_s, connection.interrupt)
            timer.start()
            try:
                return connection.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                if not isinstance(error, _MISTAKES_IN_SQL):
                    for tables in studies.values():
                        tables.check_files(used)
                raise _explained(error, columns, memory_limit, time_limit_s) from None
            finally:
                timer.cancel()


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
            + did_you_mean(objective, numbers)
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


def _register(
    connection: duckdb.DuckDBPyConnection, studies: dict[str, StudyTables], used: Sequence[str]
) -> dict[str, list[str]]:
    """Make a view of each table, all of the same publications; returns their columns."""
    flushes = {name: tables.flushes() for name, tables in studies.items()}
    columns = {}
    for table in used:
        parts = []
        found = ["study"]
        for number, (name, tables) in enumerate(studies.items()):
            dataset = tables.dataset(table, flushes[name])
            connection.register(f"__{table}_{number}", dataset)
            quoted = name.replace("'", "''")
            parts.append(f"SELECT '{quoted}' AS study, * FROM __{table}_{number}")
            found += [column for column in dataset.schema.names if column not in found]
        connection.execute(f"CREATE VIEW {table} AS " + " UNION ALL BY NAME ".join(parts))
        columns[table] = found
    return columns


def _tables_shown(connection: duckdb.DuckDBPyConnection, columns: dict[str, list[str]]) -> pa.Table:
    rows = [connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in columns]
    return pa.table({"name": list(columns), "rows": rows, "columns": [len(found) for found in columns.values()]})


# ---- errors --------------------------------------------------------------------------------------------------------


def _explained(
    error: duckdb.Error, columns: dict[str, list[str]], memory_limit: str, time_limit_s: float
) -> QueryError:
    message = plain_message(error)
    if isinstance(error, duckdb.InterruptException):
        return QueryError(f"the query took longer than {time_limit_s:g} s. Filter more, or ask for fewer columns.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(
            f"the query needs more than its {memory_limit} of memory and its room on disk. Filter more, or aggregate."
        )
    missing = re.search(r'column "([^"]+)" not found|column named "([^"]+)"', message)
    if missing and columns:
        name = missing[1] or missing[2]
        known = list(dict.fromkeys(column for found in columns.values() for column in found))
        whose = f"Columns of {' and '.join(columns)}"
        return QueryError(f"no column is called {name!r} here." + did_you_mean(name, known, whose))
    return QueryError(message)
