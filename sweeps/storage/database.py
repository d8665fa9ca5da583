"""The location of a study's database, and a plain connection to it: SQLite in a file, or PostgreSQL.

The tables are Optuna's. Statements are written in the SQL that both databases share, with `?` for a value. Nothing
heavy is imported here, so that looking into a study takes less than a second.
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
TIMEOUT_S = 60  # how long a statement waits while another program writes to an SQLite file
CONNECT_TIMEOUT_S = 10
_RESTORE = "Restore it, or start a study with another name"
_ANEW = (
    "Restore it from a copy. Without it the study cannot continue: its results stay in its tables, for query, top and "
    "report, and --new-study NAME starts the study anew"
)
_AGAIN = "and run the study again: it continues where it stopped"
_WAYS_OUT = {  # by SQLite's primary result code
    sqlite3.SQLITE_BUSY: f"Close the program that has it open {_AGAIN}",
    sqlite3.SQLITE_LOCKED: f"Close the program that has it open {_AGAIN}",
    sqlite3.SQLITE_FULL: f"Make room on its disk {_AGAIN}",
    sqlite3.SQLITE_READONLY: f"Make it and its folder writable {_AGAIN}",
    sqlite3.SQLITE_CANTOPEN: f"Make it and its folder writable {_AGAIN}",
    sqlite3.SQLITE_IOERR: f"Check its disk {_AGAIN}",
}


@dataclass(frozen=True)
class Database:
    """A study's database: the URL for SQLAlchemy and Optuna, the file of an SQLite database, the name in messages."""

    url: str
    file: Path | None
    label: str

    @property
    def is_shared(self) -> bool:
        """Return whether it is a server, which refuses a second writer itself."""
        return self.file is None


def database(study_dir: Path, state: str | None = None) -> Database:
    """Return the database of a study: in its folder, in the folder `state`, or at the PostgreSQL URL `state`."""
    if state is not None and state.startswith(POSTGRESQL):
        parts = urlsplit(state)
        host = parts.netloc.rpartition("@")[2] or "this machine"
        url = state.replace(POSTGRESQL, "postgresql+psycopg://", 1).replace("{", "%7B").replace("}", "%7D")
        return Database(url, None, f"PostgreSQL database {parts.path.lstrip('/')} on {host}")
    file = study_dir / FILE if state is None else study_dir / state / f"{study_dir.absolute().name}.db"
    return Database(f"sqlite:///{quote(str(file))}", file, str(file))


def connect(where: Database) -> Connection:
    """Open an existing database; nothing is created or changed. Raises `StudyError` where it cannot be used."""
    if where.file is not None and not (where.file.is_file() and where.file.stat().st_size):
        raise StudyError(f"{where.file} is missing or empty. {_ANEW}")
    with explained(where):
        if where.file is None:
            return Connection(where, _postgresql(where))
        opened = sqlite3.connect(
            f"file:{quote(str(where.file.absolute()))}?mode=rw",
            uri=True,
            timeout=TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        return Connection(where, opened)


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
    """A connection for several threads. Each statement is durable alone, those inside `transaction` together."""

    def __init__(self, where: Database, opened: Any) -> None:
        self.database, self._opened = where, opened
        self.lock, self._depth, self._failed = threading.RLock(), 0, False
        self._file_id = _file_id(where)
        self._lost: str | None = None

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT, or of a statement with RETURNING."""
        with self.lock, self._explained():
            return list(self._opened.execute(self._dialect(sql), values).fetchall())

    def run(self, sql: str, *values: Any) -> None:
        """Run a statement."""
        with self.lock, self._explained():
            self._opened.execute(self._dialect(sql), values)

    def run_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values."""
        with self.lock, self._explained():
            self._opened.cursor().executemany(self._dialect(sql), list(rows))

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        return self._depth > 0

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Commit all statements inside, or none; a nested transaction is part of the outer one."""
        return self._within("BEGIN" if self.database.is_shared else "BEGIN IMMEDIATE")

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """Read everything inside from one state of the database."""
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
                    with contextlib.suppress(Exception):  # the first error names the cause
                        self._opened.rollback()
                raise
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(self.database):
                yield
        except StudyError:  # SQLite reports a file that is no longer at its path as read-only
            with contextlib.suppress(OSError):  # the disk does not answer; the first error says so
                self._lost = self._lost or self._loss()  # only once: a restored file is another file
            if self._lost is None:
                raise
            raise StudyError(self._lost) from None

    def _loss(self) -> str | None:
        """Return what happened to an SQLite file since it was opened, and the way out; None where it is unchanged."""
        file, file_id = self.database.file, _file_id(self.database)
        if file is None:
            return None
        if file_id == self._file_id:
            return None if file.stat().st_size else f"{file} was emptied while it was in use. {_ANEW}"
        if file_id is not None:
            return (
                f"{file} was replaced by another file while it was in use, so nothing more is recorded. Run the study "
                "again: it continues from the file that is there now, or says what is missing in it"
            )
        if self._was_restored(file):
            return (
                f"{file} was deleted while it was in use. It has been restored from the open file. Run the study "
                "again: it continues where it stopped"
            )
        return f"{file} was deleted while it was in use. {_ANEW}"

    def _was_restored(self, file: Path) -> bool:
        """Restore a deleted file from the open one, as of the last transaction; return whether that succeeded."""
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
        """Close the connection."""
        with self.lock, contextlib.suppress(Exception):
            self._opened.close()

    def _dialect(self, sql: str) -> str:
        return sql.replace("?", "%s") if self.database.is_shared else sql


def _file_id(where: Database) -> tuple[int, int] | None:
    """Return device and inode of an SQLite file; None where it does not exist."""
    try:
        status = None if where.file is None else where.file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status and (status.st_dev, status.st_ino)


@contextlib.contextmanager
def explained(where: Database) -> Iterator[None]:
    """Turn errors of a database library into a `StudyError` that names the database and the way out."""
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
    """Return the database's own error inside those of SQLAlchemy and Optuna; None for an error of another kind."""
    outermost = None
    while problem is not None:
        module = type(problem).__module__.partition(".")[0]
        if module in ("sqlite3", "psycopg"):
            return problem
        outermost = problem if module in ("sqlalchemy", "optuna") else outermost
        problem = getattr(problem, "orig", None) or problem.__cause__
    return outermost


def _server_way_out(reason: str) -> str:
    if "does not exist" in reason:
        return "Create it (createdb NAME, createuser NAME), or correct the URL"
    if "password" in reason or "authentication" in reason:
        return "Put the password into ~/.pgpass or PGPASSWORD, and check the user name in the URL"
    if "connect" in reason or "translate host" in reason or "resolve" in reason or "timeout" in reason:
        return f"Start the server or correct the URL, {_AGAIN}"
    return f"Fix the cause {_AGAIN}"
