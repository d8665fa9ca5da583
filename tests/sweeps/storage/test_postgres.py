"""Studies in PostgreSQL: a server from Debian's package, started for these tests only."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import StudyError
from sweeps.storage.database import Database, connect, database
from sweeps.storage.optuna_sql import Ledger
from sweeps.study.folder import database_of, open_folder, open_study
from sweeps.study.loading import read_spec
from sweeps.study.status import read_status
from tests.cluster.waiting import WAIT_S

from ..study.test_folder import SMALL, spec_of
from .test_optuna_sql import LedgerContract, enter


def _program(name: str) -> str | None:
    """Return the newest version of a program of the server's package, which Debian keeps out of PATH."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: float(path.parent.parent.name), default=None)
    return shutil.which(name) or (newest and str(newest))


INITDB, PG_CTL = _program("initdb"), _program("pg_ctl")
pytestmark = [
    pytest.mark.skipif(not (INITDB and PG_CTL), reason="PostgreSQL is not installed (Debian: postgresql)"),
]
psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'pinnsweep[postgres]')")


@dataclass(frozen=True)
class Server:
    """A running server that listens only on a socket in `folder`; `user` needs no password, `locked` has one."""

    folder: Path
    port: int
    user: str = "me"

    def url(self, name: str, user: str | None = None) -> str:
        return f"postgresql://{user or self.user}@/{name}?host={self.folder}&port={self.port}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """PostgreSQL refuses to run as root: then it runs as the user of its package, or as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="pinnsweep-pg-", dir="/tmp"))  # a socket's path must be short
    run_as: dict[str, Any] = {}
    if os.geteuid() == 0:
        users = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = users.get("postgres") or users["nobody"]
        os.chown(folder, user.pw_uid, user.pw_gid)
        run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, running = folder / "data", Server(folder, port)

    def run(*command: str | None) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd="/tmp", timeout=WAIT_S, **run_as)

    run(INITDB, "-D", str(data), "-U", running.user, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c port={port} -c fsync=off"
    run("sed", "-i", "1i local all locked scram-sha-256", str(data / "pg_hba.conf"))
    run(PG_CTL, "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE ROLE locked LOGIN PASSWORD 'open sesame'")
        yield running
    finally:
        run(PG_CTL, "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server: Server) -> str:
    """A database of its own for a test."""
    name = f"studies_{uuid.uuid4().hex}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url(name)


class TestPostgresql(LedgerContract):
    """The contract of every database."""

    @pytest.fixture
    def where(self, url: str, tmp_path: Path) -> Database:
        return database(tmp_path, url)

    def test_a_second_writer_is_told_who_holds_the_study(
        self, ledger: Ledger, where: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeps.storage.optuna_sql.PATIENCE_S", 0.3)
        second = Ledger(where, "study")
        with pytest.raises(StudyError, match="is being run by the test"):
            second.take("another")
        enter(ledger, 0)
        ledger.close()
        assert second.take("another") == 2
        second.close()

    def test_a_killed_writer_lets_the_study_go(self, where: Database) -> None:
        Ledger(where, "study", create=True).close()
        program = (
            "import os, sys\nfrom pathlib import Path\nfrom sweeps.storage.optuna_sql import Ledger\n"
            "from sweeps.storage.database import database\n"
            "ledger = Ledger(database(Path('.'), sys.argv[1]), 'study')\nledger.take('the killed one')\n"
            "os.kill(os.getpid(), 9)"
        )
        url = where.url.replace("+psycopg", "")
        words = [sys.executable, "-c", program, url]
        assert subprocess.run(words, timeout=WAIT_S, check=False).returncode == -9
        ledger = Ledger(where, "study")
        assert ledger.take("me") == 2
        ledger.close()

    def test_a_server_that_stops_answering_is_told(self, ledger: Ledger, where: Database) -> None:
        enter(ledger, 0)
        other = connect(where)
        other.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with pytest.raises(StudyError, match=r"PostgreSQL database studies_\w+ on this machine cannot be used"):
            enter(ledger, 1)
        other.close()
        again = Ledger(where, "study")
        again.take("me")
        enter(again, 1)
        again.close()


def test_a_study_folder_with_its_database_on_the_server(url: str, tmp_path: Path) -> None:
    spec = spec_of(SMALL, f"state={url}")
    study_dir, _ = open_folder(tmp_path / "one", spec)
    open_study(study_dir, spec).ledger.close()
    assert sorted(path.name for path in study_dir.iterdir()) == ["problem.json", "study.yaml"]
    assert database_of(study_dir) == database_of(study_dir, spec) == database(study_dir, url)
    opened = open_study(study_dir, spec)
    enter(opened.ledger, 0)
    opened.ledger.mark(0, "COMPLETE", [0.5])
    opened.ledger.set_attribute("limit", 8)
    status = read_status(study_dir)
    assert (status["limit"], status["counts"]["COMPLETE"], status["best"]["value"]) == (8, 1, 0.5)
    opened.ledger.close()
    file = study_dir / "study.yaml"
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    assert read_spec(study_dir) == spec
    assert open_study(study_dir).notes and file.read_bytes() == content
    other, _ = open_folder(tmp_path / "two", spec)
    with pytest.raises(StudyError, match=r"PostgreSQL database .* holds 1 trials of a study 'small'.*another name"):
        open_study(other, spec).ledger.close()


@pytest.mark.parametrize("create", [True, False])
def test_what_is_wrong_with_an_address_is_one_sentence(server: Server, tmp_path: Path, create: bool) -> None:
    for address, complaint in (
        (server.url("nowhere"), 'database "nowhere" does not exist.*createdb NAME'),
        (server.url("postgres", "stranger"), 'role "stranger" does not exist.*createuser NAME'),
        (server.url("postgres", "locked"), r"password.*~/\.pgpass or PGPASSWORD"),
        (f"postgresql://me@/postgres?host={tmp_path}", "Start the server or correct the URL"),
        ("postgresql://me@127.0.0.1:1/postgres", "(?i:refused).*Start the server or correct the URL"),
    ):
        with pytest.raises(StudyError, match=complaint) as refusal:
            Ledger(database(tmp_path, address), "study", create=create)
        message = str(refusal.value)
        assert message.startswith("state: PostgreSQL database") and "\n" not in message and len(message) < 400


def test_a_wrong_password_is_told_and_a_right_one_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = database(tmp_path, server.url("postgres", "locked"))
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(StudyError, match=r"password authentication failed.*~/\.pgpass") as refusal:
        connect(where)
    assert "wrong" not in str(refusal.value)
    monkeypatch.setenv("PGPASSWORD", "open sesame")
    connect(where).close()


def test_without_the_package_psycopg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for create in (True, False):
        with pytest.raises(StudyError, match=r"psycopg: pip install 'pinnsweep\[postgres\]'"):
            Ledger(database(tmp_path, "postgresql:///studies"), "study", create=create)
