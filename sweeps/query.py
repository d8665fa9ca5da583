"""Questions to the result tables: one read-only SQL statement over one or several studies, and the best trials.

DuckDB runs in memory over Arrow datasets that are registered first; then access to anything outside is switched off
and the configuration locked. Before it runs, the statement is parsed, and only reading the study's own tables passes.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from . import specfile, studyfile
from .errors import QueryError, SpecError, StudyError
from .machine import available_cpus
from .ranking import KEY_METRICS, Kind, Rules, rules_of, standing_sql, swept_columns, with_front
from .remote import Remote, uri_of
from .rendering import render as render
from .statement import checked_tree, did_you_mean, plain_message, shows_tables, tables_used
from .store import StudyTables, tables_of

_MISTAKES_IN_SQL: Final = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InterruptException,
)
_NUMBERS: Final = ("DOUBLE", "INTEGER", "BIGINT")


@dataclass(frozen=True)
class _Limits:
    """What a query may take."""

    memory: str = "1GiB"
    spill: str = "4GiB"
    time_s: float = 120.0
    threads: int | None = None


def query(
    study_dirs: Sequence[Path | Remote],
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
    studies = _tables(study_dirs)
    limits = _Limits(memory_limit, spill_limit, time_limit_s, threads)
    with _database(limits) as connection:
        tree = checked_tree(connection, sql)
        columns = _register(connection, studies, tables_used(tree))
        if shows_tables(tree):
            return _tables_shown(connection, columns)
        return _answer(connection, sql, studies, columns, limits)


def standing(study_dirs: Sequence[Path | Remote], by: str | None = None, *, limit: int | None = None) -> pa.Table:
    """Return every whole trial in a line, the best first: study, trial, state, objectives, swept settings, key metrics.

    Trials rank by the first objective of their study unless `by` names another number, those of several objectives
    first by whether another trial dominates them (`pareto`). A `limit` is on ranked trials and leaves out all others.
    Raises `QueryError` where `by` is no number in `trials` or the studies have different objectives, and `StudyError`
    for what is no study.
    """
    places = _named_studies(study_dirs)
    files = {name: read_study_file(place) for name, place in places.items()}
    studies = {name: tables_of(place) for name, place in places.items()}
    rules = {name: rules_of(file) for name, file in files.items()}
    metrics = (by,) if by else _common_objectives(rules)
    with _database(_Limits()) as connection:
        columns = _register(connection, studies, ["trials"])
        kinds = {name: kind for name, kind, *_ in connection.execute("DESCRIBE trials").fetchall()}
        numbers = [name for name, kind in kinds.items() if kind in _NUMBERS and name not in ("trial", "replicate")]
        for metric in metrics:
            if metric not in numbers:
                raise QueryError(
                    f"trials are ranked by a number in the table trials that is no key, got {metric!r}."
                    + did_you_mean(metric, numbers)
                )
        swept: dict[str, Kind] = {name: "setting" for file in files.values() for name in swept_columns(file)}
        wanted = swept | KEY_METRICS
        others = {name: kind for name, kind in wanted.items() if name in kinds and name not in metrics}
        first = None if len(metrics) > 1 else limit
        sql = standing_sql(rules, metrics, others, ranked_only=limit is not None, limit=first)
        found = _answer(connection, sql, studies, columns, _Limits())
    return found if len(metrics) == 1 else with_front(found, metrics).slice(0, limit)


def top(study_dirs: Sequence[Path | Remote], n: int = 10, by: str | None = None) -> pa.Table:
    """Return the `n` best complete trials, smallest `by` first: the objective of the studies unless given.

    Columns: study (of several), trial, the objectives, with several of these `pareto`, with replicates how far they
    spread, then the swept settings and the key metrics. Raises as `standing` does.
    """
    if n < 1:
        raise QueryError(f"the number of trials must be at least 1, got {n}")
    found = standing(study_dirs, by, limit=n)
    several = len(_named_studies(study_dirs)) > 1
    first = [name for name in ("study", "trial") if several or name != "study"]
    names = [name for name in found.column_names if name not in ("study", "trial", "state")]
    return found.select([*first, *names])


def read_study_file(study_dir: Path | Remote) -> dict[str, Any]:
    """Return the study file of a study as plain values. Raises `StudyError`."""
    path = f"{study_dir}/{studyfile.SPEC_FILE}"
    if isinstance(study_dir, Path) and not (study_dir / studyfile.SPEC_FILE).is_file():
        found = "which does not exist" if not study_dir.exists() else "where there is no study.yaml"
        raise StudyError(
            f"a study is a folder with a study.yaml in it, got {study_dir}, {found}. "
            "Give the folder that pinnsweep run made, such as runs/quickstart."
        )
    try:
        content, mistakes = specfile.read(studyfile.whole_text(study_dir))
    except SpecError as error:
        raise StudyError(f"{path} cannot be read: {error}") from None
    if mistakes:
        raise StudyError(f"{path} cannot be read: " + "; ".join(map(str, mistakes)))
    return content


def _common_objectives(rules: Mapping[str, Rules]) -> tuple[str, ...]:
    found = sorted({each.objectives for each in rules.values()})
    if len(found) > 1:
        told = ", ".join(" and ".join(objectives) for objectives in found)
        raise QueryError(f"the studies have different objectives ({told}): say by which to rank")
    return found[0]


# ---- the tables ----------------------------------------------------------------------------------------------------


def place_of(study_dir: Path | Remote) -> Path | Remote:
    """Return where a study is: its folder, or what an object store's URI names."""
    uri = uri_of(str(study_dir))
    return Path(str(study_dir)).resolve() if uri is None else Remote(uri)


def _named_studies(study_dirs: Sequence[Path | Remote]) -> dict[str, Path | Remote]:
    """The studies by the name of their folder, or by its path where two folders share a name."""
    places = list(dict.fromkeys(map(place_of, study_dirs)))
    if not places:
        raise QueryError("a query needs at least one study. Give its folder, such as runs/quickstart.")
    names = [place.name for place in places]
    return {str(place) if names.count(place.name) > 1 else place.name: place for place in places}


def _tables(study_dirs: Sequence[Path | Remote]) -> dict[str, StudyTables]:
    """The tables of the studies, by name. Raises `StudyError` for what is no study."""
    studies = _named_studies(study_dirs)
    for place in studies.values():
        read_study_file(place)
    return {name: tables_of(place) for name, place in studies.items()}


@contextmanager
def _database(limits: _Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in memory, with a folder to spill to as long as it is open."""
    with tempfile.TemporaryDirectory(prefix="pinnsweep-query-") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": limits.memory,
            "temp_directory": spill,
            "max_temp_directory_size": limits.spill,
            "threads": str(limits.threads or available_cpus()),
            "python_enable_replacements": "false",  # no variable of this process is a table
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            yield connection


def _register(
    connection: duckdb.DuckDBPyConnection, studies: dict[str, StudyTables], used: Sequence[str]
) -> dict[str, list[str]]:
    """Make a view of each table, all of the same publications, and lock the rest; returns their columns."""
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
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return columns


def _answer(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    studies: dict[str, StudyTables],
    columns: dict[str, list[str]],
    limits: _Limits,
) -> pa.Table:
    timer = threading.Timer(limits.time_s, connection.interrupt)
    timer.start()
    try:
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        if not isinstance(error, _MISTAKES_IN_SQL):
            for tables in studies.values():
                tables.check_files(list(columns))
        raise _explained(error, columns, limits) from None
    finally:
        timer.cancel()


def _tables_shown(connection: duckdb.DuckDBPyConnection, columns: dict[str, list[str]]) -> pa.Table:
    rows = [connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in columns]
    return pa.table({"name": list(columns), "rows": rows, "columns": [len(found) for found in columns.values()]})


# ---- errors --------------------------------------------------------------------------------------------------------


def _explained(error: duckdb.Error, columns: dict[str, list[str]], limits: _Limits) -> QueryError:
    message = plain_message(error)
    if isinstance(error, duckdb.InterruptException):
        return QueryError(f"the query took longer than {limits.time_s:g} s. Filter more, or ask for fewer columns.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(
            f"the query needs more than its {limits.memory} of memory and its room on disk. Filter more, or aggregate."
        )
    missing = re.search(r'column "([^"]+)" not found|column named "([^"]+)"', message)
    if missing and columns:
        name = missing[1] or missing[2]
        known = list(dict.fromkeys(column for found in columns.values() for column in found))
        whose = f"Columns of {' and '.join(columns)}"
        return QueryError(f"no column is called {name!r} here." + did_you_mean(name, known, whose))
    return QueryError(message)
