"""Queries of the result tables: one read-only SQL statement over one or several studies, and the ranked trials.

DuckDB runs in memory over Arrow datasets. Once these are registered, access to anything outside is switched off and
the configuration is locked. Each statement is parsed first and refused unless it only reads tables of the studies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from ..errors import QueryError, SpecError, StudyError
from ..spec.outline import outline
from ..storage.object_store import Remote, uri_of
from ..storage.schema import TABLES
from ..storage.stored_tables import tables_of
from ..storage.tables import Snapshot, exactly
from ..study import study_file
from . import confined, views
from .apart import answer_apart
from .confined import Limits
from .ranking import (
    Kind,
    check_numbers,
    common_objectives,
    key_metrics,
    ranked_trials_sql,
    ranking_of,
    swept_columns,
    with_front,
)
from .rows import check_files, dataset_of
from .statement import checked_tree, did_you_mean, names_used, shows_tables
from .text import SPREAD
from .values import unit_of

Schemas = Mapping[str, pa.Schema]  # of each registered table
NAMES: Final = (*TABLES, *views.NEEDS)  # tables and views that a statement may read
BEST: Final = "best"  # stands for the number of the best trial
_DEFAULTS: Final = Limits()
_Result = TypeVar("_Result")


class OpenStudies:
    """Studies that are read together: the place, tables, study file, problem and ranking rules of each, by name.

    Raises `QueryError` where there are none, and `StudyError` where a folder is not a study.
    """

    def __init__(self, study_dirs: Sequence[Path | Remote]) -> None:
        self.places = named_studies(study_dirs)
        self.files = {name: read_study_file(place) for name, place in self.places.items()}
        self.tables = {name: tables_of(place) for name, place in self.places.items()}
        self.problems = {name: tables.problem for name, tables in self.tables.items()}
        self.ranking = {name: ranking_of(file) for name, file in self.files.items()}
        self.swept = list(
            dict.fromkeys(
                column for name, file in self.files.items() for column in swept_columns(file, self.problems[name])
            )
        )

    @property
    def in_per_cent(self) -> frozenset[str]:
        """Return the metrics of the studies that people see in per cent."""
        return frozenset[str]().union(*(problem.in_per_cent for problem in self.problems.values()))

    def metrics(self, by: str | None = None) -> tuple[str, ...]:
        """Return the columns to rank by: `by`, or the objectives. Raises `QueryError` where these differ."""
        return (by,) if by else common_objectives(self.ranking)

    def columns(self, trials: pa.Schema, metrics: Sequence[str]) -> dict[str, Kind]:
        """Return the swept settings and key metrics of the table `trials`, to be shown beside `metrics`.

        Raises `QueryError` where trials cannot be ranked by `metrics`.
        """
        check_numbers(metrics, trials)
        swept: dict[str, Kind] = dict.fromkeys(self.swept, "setting")
        wanted = swept | key_metrics(self.problems.values())
        return {name: kind for name, kind in wanted.items() if name in trials.names and name not in metrics}

    def ranked_trials(self, by: str | None = None, *, limit: int | None = None) -> pa.Table:
        """Return one row per finished trial, the best first: study, trial, state, objectives, settings, key metrics.

        Trials are ranked by the first objective of their study, or by the column `by`. With several objectives, trials
        that no other dominates come first (`pareto`). With a `limit` only so many ranked trials are returned. Raises
        `QueryError` where `by` is not a numeric column of `trials` or the studies have different objectives.
        """
        return self.read(["trials"], lambda connection, schemas: self.ranked_in(connection, schemas, by, limit))

    def ranked_in(
        self, connection: duckdb.DuckDBPyConnection, schemas: Schemas, by: str | None = None, limit: int | None = None
    ) -> pa.Table:
        """Return what `ranked_trials` does, from a connection with the table `trials`."""
        metrics = self.metrics(by)
        columns = self.columns(schemas["trials"], metrics)
        first = None if len(metrics) > 1 else limit
        sql = ranked_trials_sql(self.ranking, metrics, columns, ranked_only=limit is not None, limit=first)
        trials = connection.sql(sql).to_arrow_table()
        return trials if len(metrics) == 1 else with_front(trials, metrics).slice(0, limit)

    def answer(self, sql: str) -> pa.Table:
        """Return the answer to a statement that only reads the table `trials`."""
        return self.read(["trials"], lambda connection, _: connection.sql(sql).to_arrow_table())

    def read(
        self,
        used: Sequence[str],
        answer: Callable[[duckdb.DuckDBPyConnection, Schemas], _Result],
        limits: Limits = _DEFAULTS,
    ) -> _Result:
        """Return the result of `answer` on a locked database with the tables `used`, as published at one moment.

        Raises `QueryError` where a limit is reached, and `StudyError` where a file is damaged.
        """

        def attempt(snapshots: Mapping[str, Snapshot]) -> _Result:
            with confined.database(limits) as connection:
                return self.read_in(connection, snapshots, used, answer, limits)

        return exactly(self.tables, used, attempt)

    def read_in(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshots: Mapping[str, Snapshot],
        used: Sequence[str],
        answer: Callable[[duckdb.DuckDBPyConnection, Schemas], _Result],
        limits: Limits = _DEFAULTS,
    ) -> _Result:
        """Return what `read` does, on an empty database, from snapshots of the studies."""
        schemas: dict[str, pa.Schema] = {}
        for table in used:
            dataset = dataset_of(table, self.tables, snapshots, enumerated=True)
            connection.register(table, dataset)
            schemas[table] = dataset.schema
        confined.lock(connection)
        with confined.enforced(limits, connection, schemas, lambda: check_files(self.tables, used)):
            return answer(connection, schemas)


def query(study_dirs: Sequence[Path | Remote], sql: str, limits: Limits = _DEFAULTS) -> pa.Table:
    """Return the answer to one SELECT, WITH, DESCRIBE, SUMMARIZE or SHOW over the studies, or to `.tables`, `.schema`.

    The first column of the tables trials, curves, fields, weights and events and of the views is `study`. Raises
    `QueryError` where the statement is wrong, does more than read them or reaches a limit, and `StudyError` where a
    folder is not a study or a file is damaged.

    It is computed in another process, which ends at the limits.
    """
    return answer_apart([str(place_of(study_dir)) for study_dir in study_dirs], sql, limits)


def answer_of(study_dirs: Sequence[Path | Remote | str], sql: str, limits: Limits) -> pa.Table:
    """Return what `query` does, computed in this process, which has to see to its own end (`confined`)."""
    places = [place_of(study_dir) for study_dir in study_dirs]
    return stream_query(places, sql, lambda schema, batches: confined.table_of(schema, batches, limits), limits)


def stream_query(
    study_dirs: Sequence[Path | Remote],
    sql: str,
    consume: Callable[[pa.Schema, Iterator[pa.RecordBatch]], _Result],
    limits: Limits = _DEFAULTS,
) -> _Result:
    """Pass an answer to `consume` as it is computed, and return the result. Raises what `query` raises.

    The answer may be larger than the memory. `consume` is called again from the beginning if a compaction has removed
    files in the meantime.
    """
    studies = OpenStudies(study_dirs)
    command, wanted = _command(sql)
    if command is None:
        with confined.database(limits) as connection:
            tree = checked_tree(connection, sql, NAMES)
        command = ".tables" if shows_tables(tree) else None
    used = list(NAMES) if command else names_used(tree, NAMES)

    def answer(connection: duckdb.DuckDBPyConnection, schemas: Schemas) -> _Result:
        columns = {table: schema.names for table, schema in schemas.items()}
        context = views.ViewContext(studies.ranking, studies.swept, columns)
        for view in (name for name in views.NEEDS if name in used):
            views.create(connection, view, context, filled=command is None)
        if command is None:
            return consume(*confined.batches(connection, sql))
        table = _list_tables(connection) if command == ".tables" else _describe(connection, wanted, schemas)
        return consume(table.schema, iter(table.to_batches()))

    needed = {*used, *(table for view, table in views.NEEDS.items() if view in used)}
    return studies.read([name for name in TABLES if name in needed], answer, limits)


def ranked_trials(study_dirs: Sequence[Path | Remote], by: str | None = None, *, limit: int | None = None) -> pa.Table:
    """Return one row per finished trial, the best first, as `OpenStudies.ranked_trials` does."""
    return OpenStudies(study_dirs).ranked_trials(by, limit=limit)


def best_trial(study_dir: Path | Remote) -> int:
    """Return the number of the best trial of a study. Raises `StudyError` where no trial is complete."""
    trials = ranked_trials([study_dir], limit=1)["trial"].to_pylist()
    if not trials:
        raise StudyError(f"{study_dir}: no trial is complete, so there is no best trial")
    return int(trials[0])


def trial_number(study_dir: Path | Remote, trial: str | int) -> int:
    """Return the number of a trial given by its number or as `best`.

    Raises `StudyError` where it is neither, or no trial is complete.
    """
    if trial == BEST:
        return best_trial(study_dir)
    if not str(trial).isdecimal():
        raise StudyError(f"a trial is given by its number, 0 or more, or as {BEST}, got {trial!r}")
    return int(trial)


def read_study_file(study_dir: Path | Remote) -> dict[str, Any]:
    """Return the study file of a study as plain values. Raises `StudyError` where there is none that can be read."""
    if isinstance(study_dir, Path) and not (study_dir / study_file.SPEC_FILE).is_file():
        problem = "which does not exist" if not study_dir.exists() else "which has no study.yaml"
        raise StudyError(
            f"a study is a folder with a study.yaml in it, got {study_dir}, {problem}. "
            "Give the folder that pinnsweep run created, such as runs/quickstart."
        )
    try:
        return outline(study_file.whole_text(study_dir))
    except SpecError as error:
        reasons = "; ".join(map(str, error.mistakes))
        raise StudyError(f"{study_dir}/{study_file.SPEC_FILE} cannot be read: {reasons}") from None


def place_of(study_dir: Path | Remote | str) -> Path | Remote:
    """Return where a study is: its folder, or its place in an object store where `study_dir` is a URI."""
    uri = uri_of(str(study_dir))
    return Path(str(study_dir)).resolve() if uri is None else Remote(uri)


def named_studies(study_dirs: Sequence[Path | Remote]) -> dict[str, Path | Remote]:
    """Return the studies by the names of their folders, or by their paths where two folders share a name.

    Raises `QueryError` where none is given.
    """
    places = list(dict.fromkeys(map(place_of, study_dirs)))
    if not places:
        raise QueryError("a query needs at least one study. Give the folder of one, such as runs/quickstart.")
    names = [place.name for place in places]
    return {str(place) if names.count(place.name) > 1 else place.name: place for place in places}


def _command(text: str) -> tuple[str | None, str]:
    """Return the command in a text and its argument, None for SQL. Raises `QueryError` where the command is unknown."""
    words = text.strip().removesuffix(";").split(maxsplit=1)
    if not words or not words[0].startswith("."):
        return None, ""
    if words[0] not in (".tables", ".schema"):
        raise QueryError(f"the commands are .tables and .schema [TABLE], got {words[0]}. Anything else is SQL.")
    return words[0], words[1].strip() if len(words) > 1 else ""


def _list_tables(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Return the tables and views with their numbers of columns, and of rows for tables."""
    counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in TABLES}
    columns = [len(connection.execute(f"DESCRIBE {name}").fetchall()) for name in NAMES]
    kinds = ["table" if name in TABLES else "view" for name in NAMES]
    rows = pa.array([counts.get(name) for name in NAMES], pa.int64())
    return pa.table({"name": NAMES, "kind": kinds, "rows": rows, "columns": columns})


def _describe(connection: duckdb.DuckDBPyConnection, wanted: str, schemas: Schemas) -> pa.Table:
    """Return the columns of all tables and views, or of the one called `wanted`, with types and units."""
    wanted_name = wanted.lower()
    if wanted_name and wanted_name not in NAMES:
        raise QueryError(f"there is no table {wanted!r}." + did_you_mean(wanted_name, NAMES, "Tables and views"))
    units = {field.name: unit_of(field) for schema in schemas.values() for field in schema}
    rows = [
        (table, column, kind, units.get(column) or units.get(SPREAD.sub("", column), ""))
        for table in ([wanted_name] if wanted_name else NAMES)
        for column, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()
    ]
    return pa.table(dict(zip(("table", "column", "type", "unit"), map(list, zip(*rows, strict=True)), strict=True)))
