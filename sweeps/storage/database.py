"""Where a study's database lies, and a plain connection to it: SQLite in a file, or PostgreSQL.

The tables are Optuna's. Statements are written with `?` for a value and in the SQL that both databases share. Nothing
heavy is imported here, so that a look into a study costs no second.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..errors import StudyError

FILE = "study.db"
POSTGRESQL = "postgresql://"
TIMEOUT_S = 60  # how long a statement waits for another program that writes to an SQLite file
CONNECT_TIMEOUT_S = 10
_RESTORE = "Restore it, or start a study of another name"
_ANEW = (
    "Restore it from a copy. Without it the study cannot go on: its results stay in its tables, for query, top and "
    "report, and --new-study NAME begins the study anew"
)
_AGAIN = "and run the study again: it goes on where it was"
_WAYS_OUT = {  # by SQLite's primary result code
    sqlite3.SQLITE_BUSY: f"Close the program that has it open {_AGAIN}",
    sqlite3.SQLITE_LOCKED: f"Close the program that has it open {_AGAIN}",
    sqlite3.SQLITE_FULL: f"Make room on its disk {_AGAIN}",
    sqlite3.SQLITE_READONLY: f"Make it and its folder writable {_AGAIN}",
    sqlite3.SQLITE_CANTOPEN: f"Make it and its folder writable {_AGAIN}",
    sqlite3.SQLITE_IOERR: f"Look after its disk {_AGAIN}",
}


@dataclass(frozen=True)
class Database:
    """A study's database: the URL as SQLAlchemy and Optuna take it, the file of an SQLite one, a name for messages."""

    url: str
    file: Path | None
    label: str

    @property
    def is_shared(self) -> bool:
        """Whether it is a server that itself refuses a second writer."""
        return self.file is None


def database(study_dir: Path, state: str | None = None) -> Database:
    """Where the database of a study lies: in its folder, in the folder `state`, or at the PostgreSQL URL `state`."""
    if state is not None and state.startswith(POSTGRESQL):
        parts = urlsplit(state)
        host = parts.netloc.rpartition("@")[2] or "this machine"
        url = state.replace(POSTGRESQL, "postgresql+psycopg://", 1).replace("{", "%7B").replace("}", "%7D")
        return Database(url, None, f"PostgreSQL database {parts.path.lstrip('/')} on {host}")
    file = study_dir / FILE if state is None else study_dir / state / f"{study_dir.absolute().name}.db"
    return Database(f"sqlite:///{quote(str(file))}", file, str(file))


def connect(where: Database) -> Connection:
    """Open a database that is there; nothing is made or changed. Raises `StudyError`."""
    if where.file is not None and not (where.file.is_file() and where.file.stat().st_size):
        raise StudyError(f"{where.file} is missing or empty. {_ANEW}")
    with explained(where):
        if where.file is None:
            return Connection(where, _postgresql(where), "%s")
        opened = sqlite3.connect(
            f"file:{quote(str(where.file.absolute()))}?mode=rw",
            uri=True,
            timeout=TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        return Connection(where, opened, "?")


def _postgresql(where: Database) -> Any:
    try:
        import psycopg
    except ImportError:
        raise StudyError(
            "state: a study in PostgreSQL needs the package psycopg: pip install 'pinnsweep[postgres]'"
        ) from None
    url = where.url.replace("postgresql+psycopg://", POSTGRESQL, 1)
    return psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S, autocommit=True, application_name="pinnsweep")


class Connection:
    """A connection whose statements are each durable alone, or together inside `transaction`; several threads may."""

    def __init__(self, where: Database, opened: Any, placeholder: str) -> None:
        self.database, self._opened, self._placeholder = where, opened, placeholder
        self.lock, self._depth, self._failed = threading.RLock(), 0, False
        self._file_id = _file_id(where)
        self._lost: str | None = None

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a SELECT, or a statement with RETURNING, gives."""
        with self.lock, self._explained():
            return list(self._opened.execute(self._dialect(sql), values).fetchall())

    def run(self, sql: str, *values: Any) -> int:
        """Run a statement; returns the number of rows it changed."""
        with self.lock, self._explained():
            return int(self._opened.execute(self._dialect(sql), values).rowcount)

    def run_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement once a row of values."""
        with self.lock, self._explained():
            self._opened.cursor().executemany(self._dialect(sql), list(rows))

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._depth > 0

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All statements inside are made, or none; one inside another is part of it."""
        return self._within("BEGIN" if self.database.is_shared else "BEGIN IMMEDIATE")

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """All that is read inside is of one moment."""
        return self._within("BEGIN ISOLATION LEVEL REPEATABLE READ" if self.database.is_shared else "BEGIN")

    @contextlib.contextmanager
    def _within(self, begin: str) -> Iterator[None]:
        with self.lock:
            if not self._depth:
                self.run(begin)
                self._failed = False
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    if self._failed:
                        raise RuntimeError("a part of this transaction has failed, so none of it can be kept")
                    self.run("COMMIT")
            except BaseException:
                self._failed = True
                if self._depth == 1:
                    with contextlib.suppress(Exception):  # the first error says what is wrong
                        self._opened.rollback()
                raise
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(self.database):
                yield
        except StudyError:  # SQLite calls a file read-only that is no longer at its path
            with contextlib.suppress(OSError):  # of a disk that does not answer, of which the first error tells
                self._lost = self._lost or self._found_lost()  # once: the file written anew is another one
            if self._lost is None:
                raise
            raise StudyError(self._lost) from None

    def _found_lost(self) -> str | None:
        """What became of an SQLite file that is no longer what was opened, and the way out; None where it is that."""
        file, found = self.database.file, _file_id(self.database)
        if file is None:
            return None
        if found == self._file_id:
            return None if file.stat().st_size else f"{file} was emptied while it was in use. {_ANEW}"
        if found is not None:
            return (
                f"{file} was replaced by another file while it was in use, so nothing more is recorded. Run the study "
                "again: it goes on from the file that is there now, or says what that one lacks"
            )
        if self._written_anew(file):
            return (
                f"{file} was deleted while it was in use. It has been written anew from what was still open of it. Run "
                "the study again: it goes on where it was"
            )
        return f"{file} was deleted while it was in use. {_ANEW}"

    def _written_anew(self, file: Path) -> bool:
        """Write a deleted file again, as of the last transaction: who has it open can still read it."""
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            self._opened.rollback()
            with contextlib.closing(sqlite3.connect(beside)) as copy:
                self._opened.backup(copy)
            if file.exists():  # another program was first
                return False
            beside.replace(file)
        except (OSError, sqlite3.Error):
            return False
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Let the database go."""
        with self.lock, contextlib.suppress(Exception):
            self._opened.close()

    def _dialect(self, sql: str) -> str:
        return sql if self._placeholder == "?" else sql.replace("?", self._placeholder)


def _file_id(where: Database) -> tuple[int, int] | None:
    """What tells an SQLite file from another one of its name; None where it is not there."""
    try:
        found = None if where.file is None else where.file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found and (found.st_dev, found.st_ino)


@contextlib.contextmanager
def explained(where: Database) -> Iterator[None]:
    """Turn what a database library raises into a `StudyError` that names the database and the way out."""
    try:
        yield
    except StudyError:
        raise
    except Exception as problem:
        cause = _cause(problem)
        if cause is None:
            raise
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(cause).__name__).rstrip(".")
        if where.is_shared:
            raise StudyError(f"state: {where.label} cannot be used ({reason}). {_server_way_out(str(cause))}") from None
        way_out = _WAYS_OUT.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, _RESTORE)
        raise StudyError(f"{where.label} cannot be used as the study's database ({reason}). {way_out}") from None


def _cause(problem: BaseException | None) -> BaseException | None:
    """The database's own error inside those of SQLAlchemy and Optuna, or None where no database is to blame."""
    seen = None
    while problem is not None:
        module = type(problem).__module__.partition(".")[0]
        if module in ("sqlite3", "psycopg"):
            return problem
        seen = problem if module in ("sqlalchemy", "optuna") else seen
        problem = getattr(problem, "orig", None) or problem.__cause__
    return seen


def _server_way_out(reason: str) -> str:
    if "does not exist" in reason:
        return "Make it (createdb NAME, createuser NAME), or mend the URL"
    if "password" in reason or "authentication" in reason:
        return "Put the password into ~/.pgpass or PGPASSWORD, and mend the user's name in the URL if need be"
    if "connect" in reason or "translate host" in reason or "resolve" in reason or "timeout" in reason:
        return f"Start the server or mend the URL, {_AGAIN}"
    return f"Mend it {_AGAIN}"
