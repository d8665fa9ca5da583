"""A database in memory that cannot reach anything outside and is bounded in memory, disk space and time."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from cluster.scratch import remove_scratch, scratch_folder

from ..errors import QueryError
from ..machine import available_cpus
from .statement import column_hint, plain_message

GRACE_S: Final = 1.0  # from the time limit to the end of the process, if the query has not stopped by then
_GIB: Final = 1 << 30
_BESIDES_BYTES: Final = 3 * _GIB  # for the process beside the memory of the query: the answer, and data read ahead
_STATM_DATA: Final = 5  # index of the number of data pages in /proc/self/statm
_BATCH_ROWS: Final = 65_536
_NO_DAMAGE: Final = ("Binder", "Catalog", "Conversion", "INTERRUPT", "Out of Memory")  # not caused by a damaged file
_MISSING_COLUMN: Final = re.compile(
    r'(?<!\w)column (?:named )?"([^"]+)"(?= not found|$|\n| in \w+ list| does not exist)', re.IGNORECASE
)


@dataclass(frozen=True)
class Limits:
    """Limits of a query."""

    memory_gib: float = 1.0
    spill_gib: float = 4.0
    time_s: float = 120.0
    answer_gib: float = 1.0
    threads: int | None = None


class _ReadError(Exception):
    """An error of the database while its answer is read, which Arrow reports as a failed read."""


@contextlib.contextmanager
def database(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database in memory. The folder that it spills to is removed when it is closed."""
    with scratch_folder("query") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{limits.memory_gib:g}GiB",
            "temp_directory": str(spill),
            "max_temp_directory_size": f"{limits.spill_gib:g}GiB",
            "threads": str(limits.threads or available_cpus()),
            "python_enable_replacements": "false",  # SQL cannot name Python variables as tables
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            yield connection


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Switch off access to anything outside for good.

    There are no `allowed_directories`, because COPY and ATTACH could write to them.
    """
    connection.execute("SET TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true")


def batches(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the columns of an answer and its rows, which are computed as they are read."""
    reader = connection.sql(sql).to_arrow_reader(_BATCH_ROWS)
    return reader.schema, _read(reader)


def _read(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (pa.ArrowException, OSError) as error:
        raise _ReadError(str(error)) from None


def table_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch], limits: Limits) -> pa.Table:
    """Return an answer as a table. Raises `QueryError` where it is larger than `limits.answer_gib`."""
    kept, size_bytes = [], 0
    for batch in batches:
        kept.append(batch)
        size_bytes += batch.nbytes
        if size_bytes > limits.answer_gib * _GIB:
            raise QueryError(
                f"the answer is larger than {limits.answer_gib:g} GiB. Filter or aggregate, or write it to a file: "
                "pinnsweep query STUDY SQL -o answer.parquet"
            )
    return pa.Table.from_batches(kept, schema)


@contextlib.contextmanager
def enforced(
    limits: Limits,
    connection: duckdb.DuckDBPyConnection,
    schemas: Mapping[str, pa.Schema],
    check_files: Callable[[], None],
) -> Iterator[None]:
    """Interrupt a query at its time limit, and turn its errors into a `QueryError`.

    `schemas` are the schemas of the tables. `check_files` raises where a file is damaged.
    """
    timer = threading.Timer(limits.time_s, connection.interrupt)
    timer.start()
    try:
        yield
    except (duckdb.Error, _ReadError) as error:
        if not str(error).startswith(_NO_DAMAGE):
            check_files()
        raise _query_error(error, schemas, limits) from None
    except MemoryError:
        raise _too_much_memory(limits) from None
    finally:
        timer.cancel()


@contextlib.contextmanager
def process_confined(limits: Limits) -> Iterator[None]:
    """Let the operating system enforce the limits that the database cannot, in a process that only runs this query.

    The database does not count the memory of a single huge value, SELECT repeat('x', 4000000000), and cannot be
    interrupted while it computes one. The time of the process is bounded everywhere, its memory on Linux only.
    """
    killer = threading.Timer(limits.time_s + GRACE_S, _end_process, [limits])
    killer.daemon = True
    killer.start()
    try:
        with memory_bounded(limits):
            yield
    finally:
        killer.cancel()


@contextlib.contextmanager
def memory_bounded(limits: Limits) -> Iterator[None]:
    """Bound the memory of this process, on Linux: what it has now, that of the query, and some for the answer."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(statm.read_text().split()[_STATM_DATA]) * resource.getpagesize()
    wanted = used + int(limits.memory_gib * _GIB) + _BESIDES_BYTES
    bounds = [bound for bound in (wanted, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _end_process(limits: Limits) -> None:
    sys.stderr.write(f"error: {too_long(limits)}\n")
    sys.stderr.flush()
    remove_scratch()
    os._exit(QueryError.exit_code)


def _query_error(error: Exception, schemas: Mapping[str, pa.Schema], limits: Limits) -> QueryError:
    message = plain_message(str(error))
    if str(error).startswith("INTERRUPT"):
        return QueryError(too_long(limits))
    if str(error).startswith("Out of Memory"):
        return _too_much_memory(limits)
    missing = _MISSING_COLUMN.search(message)
    if missing and schemas:
        columns = [column for schema in schemas.values() for column in schema.names]
        columns += re.findall(r'"([^"]+)"', message.partition("Candidate bindings:")[2])  # of views
        return QueryError(
            f"there is no column {missing[1]!r} here." + column_hint(missing[1], list(dict.fromkeys(columns)))
        )
    return QueryError(message)


def too_long(limits: Limits) -> str:
    """Return the message for a query that has reached its time limit."""
    return f"the query took longer than {limits.time_s:g} s. Filter more, or allow more time: --time-limit"


def _too_much_memory(limits: Limits) -> QueryError:
    return QueryError(
        f"the query needs more than its {limits.memory_gib:g} GiB of memory or its {limits.spill_gib:g} GiB on disk. "
        "Filter more or aggregate, or allow more memory: --memory-limit"
    )
