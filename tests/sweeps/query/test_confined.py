"""SQL reads only the tables of the studies, writes nothing, and stays within its limits."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from sweeps.errors import QueryError, StudyWarning
from sweeps.query import apart, confined
from sweeps.query.confined import Limits
from sweeps.query.query import answer_of, query
from tests.cluster.waiting import WAIT_S

from .. import synthetic
from ..invoking import errors_of, invoke

ATTACKS = [
    "INSERT INTO trials VALUES (1)",
    "UPDATE trials SET rel_l2 = 0",
    "DELETE FROM trials",
    "CREATE TABLE t (a INT)",
    "CREATE VIEW v AS SELECT 1",
    "DROP VIEW trials",
    "COPY trials TO '{out}'",
    "COPY (SELECT 1) TO '{out}'",
    "EXPORT DATABASE '{out}'",
    "ATTACH '{out}'",
    "DETACH memory",
    "USE temp",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "PRAGMA enable_profiling='json'",
    "SET enable_external_access = true",
    "SET threads = 1",
    "RESET memory_limit",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "MERGE INTO trials USING events ON true WHEN MATCHED THEN DELETE",
    "WITH a AS (INSERT INTO trials VALUES (1) RETURNING *) SELECT * FROM a",
    "WITH a AS (DELETE FROM trials RETURNING *) SELECT * FROM a",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM main.read_csv('/etc/passwd')",
    "SELECT * FROM READ_CSV_AUTO('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM read_duckdb('{out}')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '{file}'",
    "SELECT (SELECT count(*) FROM glob('/etc/*'))",
    "SELECT 1 WHERE EXISTS (FROM glob('/etc/*'))",
    "WITH a AS (FROM glob('/etc/*')) FROM a",
    "SELECT getenv('HOME')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('trials')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM enable_logging(storage='file', storage_path='{out}')",
    "SELECT * FROM enable_profiling(save_location='{out}')",
    "SELECT * FROM create_external_resource('a')",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM a_variable_of_python",
    "SELECT 1; COPY trials TO '{out}'",
    "SELECT 1; SELECT 2",
    # outside tables, wherever a statement may name one
    "DESCRIBE '{file}'",
    "SUMMARIZE '{file}'",
    "FROM '{file}' AS trials",
    "SELECT * FROM trials POSITIONAL JOIN '/etc/passwd'",
    "SELECT * FROM (WITH \"{file}\" AS (SELECT 1) SELECT 1), '{file}'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM duckdb_tables",
    "SHOW nothing",
    # tables of the database itself, by whatever name they are read
    "SELECT * FROM pg_catalog.pg_class",
    "FROM (WITH sqlite_master AS (SELECT 1) SELECT 1), sqlite_master",
    "WITH tables AS (SELECT 1) FROM information_schema.tables",
    "FROM duckdb_settings",
    "FROM memory.information_schema.columns",
    "FROM main.sqlite_master",
    "FROM system.main.sqlite_master",
    "WITH trials AS (SELECT 1) FROM pg_catalog.trials",
    "DESCRIBE information_schema.tables",
    "SUMMARIZE pg_catalog.pg_class",
    "SHOW information_schema.tables",
    "SELECT (SELECT count(*) FROM system.information_schema.tables)",
    "FROM histogram('sqlite_master', sql)",
    "FROM histogram(sqlite_master, sql)",
    "FROM histogram_values('duckdb_tables', sql)",
    "FROM histogram('information_schema.tables', table_name)",
    "FROM histogram(information_schema.tables, table_name)",
    "FROM histogram(col_name := trials, source := 'sqlite_master')",
    "FROM histogram('trials', sql, source := 'sqlite_master')",
    "FROM histogram('sqlite_' || 'master', sql)",
    "FROM histogram((SELECT 'sqlite_master'), sql)",
    "FROM histogram(['trials', 'sqlite_master'], sql)",
    "WITH sqlite_master AS (SELECT 1 AS sql) FROM histogram('sqlite_master', sql)",
    "FROM trials, LATERAL (FROM histogram('sqlite_master', sql))",
    "SELECT * FROM duckdb_views()",
    "FROM histogram('/etc/passwd', column0)",
    "FROM histogram(read_text('/etc/passwd'), content)",
    # functions that read, wherever a statement may have one
    "FROM sniff_csv('/etc/passwd')",
    "FROM read_json('/etc/passwd')",
    "SELECT read_text('/etc/passwd')",
    "SELECT (FROM read_text('/etc/passwd') SELECT content)",
    "SELECT list_transform(['/etc/passwd'], lambda x: (SELECT content FROM read_text(x)))",
    "PIVOT (FROM read_csv('/etc/passwd')) ON column0 IN ('root')",
    "UNPIVOT (FROM glob('/etc/*')) ON file",
    "FROM trials JOIN read_text('/etc/passwd') ON true",
    "FROM trials, LATERAL (FROM read_text('/etc/passwd'))",
    "VALUES ((SELECT count(*) FROM glob('/*')))",
    "FROM trials ORDER BY (SELECT count(*) FROM glob('/*'))",
    "FROM trials LIMIT (SELECT count(*) FROM glob('/*'))",
    "FROM trials QUALIFY row_number() OVER (ORDER BY (SELECT 1 FROM glob('/*'))) = 1",
    "WITH RECURSIVE a AS (FROM read_text('/etc/passwd') UNION ALL FROM a) FROM a",
    "SELECT * FROM unnest((SELECT list(content) FROM read_text('/etc/passwd')))",
    "SELECT * FROM json_each((SELECT content FROM read_text('/etc/passwd')))",
    "SELECT * FROM range((SELECT count(*) FROM glob('/*')))",
    "FROM best WHERE trial IN (SELECT 1 FROM glob('/*'))",
    "SELECT * FROM pragma_table_info('trials')",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM duckdb_logs_parsed('x')",
    "SELECT * FROM seq_scan('x')",
    "SELECT query('SELECT 1')",
    # writing
    "COPY (SELECT 1) TO '{study}/trials/x.parquet'",
    "COPY trials TO '{study}/trials/x' (FORMAT parquet, PARTITION_BY (trial))",
    "EXPORT DATABASE '{study}'",
    "IMPORT DATABASE '{study}'",
    "ATTACH '{study}/x.db'",
    "WITH a AS MATERIALIZED (COPY trials TO '{study}/x.csv') FROM a",
    "EXPLAIN ANALYZE COPY trials TO '{study}/x.csv'",
    "/* SELECT */ ATTACH ':memory:' AS x",
    "CREATE MACRO m() AS TABLE FROM read_text('/etc/passwd')",
    "CREATE TEMP TABLE x AS FROM trials",
    "CREATE SECRET (TYPE s3)",
    "ALTER TABLE trials RENAME TO x",
    "TRUNCATE trials",
    "INSERT INTO trials BY NAME SELECT 1 AS trial RETURNING *",
    "COMMENT ON TABLE trials IS 'x'",
    "UPDATE EXTENSIONS",
    "FORCE CHECKPOINT",
    "SET VARIABLE x = 1",
    "EXECUTE x",
    "SELECT nextval('s')",
]
NESTED = {
    "brackets": "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "sums": "SELECT " + "+".join(["1"] * 5_000),
    "subqueries": "SELECT * FROM " * 2_500 + "trials",
    "named tables": "WITH a0 AS (SELECT 1)"
    + "".join(f", a{n} AS (FROM a{n - 1})" for n in range(1, 1500))
    + " FROM a1499",
    "long": "SELECT 1 IN (" + ",".join(map(str, range(20_000))) + ")",
}


def contents(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study; no byte of it may change in these tests."""
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_study(folder, trials=4, failed=1)
    before = contents(folder.parent)
    yield folder
    assert contents(folder.parent) == before


@pytest.mark.parametrize("sql", ATTACKS)
def test_anything_but_reading_the_tables_is_refused(study: Path, tmp_path: Path, sql: str) -> None:
    a_variable_of_python = pa.table({"a": [1]})  # noqa: F841  DuckDB would find it by its name
    file = study / "trials" / "pack-000000.parquet"
    with pytest.raises(QueryError) as caught:
        query([study], sql.format(out=tmp_path / "out", file=file, study=study))
    assert caught.value.exit_code == 2 and str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sql", NESTED.values(), ids=NESTED)
def test_a_statement_that_is_nested_too_deeply_or_too_long_is_refused(study: Path, sql: str) -> None:
    with pytest.raises(QueryError, match=r"depth|characters long|nested too deeply|syntax error"):
        query([study], sql)


def test_the_database_refuses_where_the_check_of_the_statement_would_fail(study: Path) -> None:
    """The second defence alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.query.statement._refuse_more_than_reading", lambda *_: None)
        for sql in (
            "FROM read_text('/etc/passwd')",
            "FROM glob('/etc/*')",
            f"FROM '{study}/trials/pack-000000.parquet'",
            "FROM enable_logging()",
            "WITH a AS (INSERT INTO trials VALUES (1) RETURNING *) SELECT * FROM a",
        ):
            with pytest.raises(QueryError):
                answer_of([study], sql, Limits())
        for setting, value in (("enable_external_access", False), ("lock_configuration", True)):
            answer = answer_of([study], f"SELECT current_setting('{setting}') AS x", Limits())
            assert answer["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("sql", "limits", "message"),
    [
        ("SELECT sum(random()) FROM range(100000000000)", Limits(time_s=0.3), r"longer than 0\.3 s.*--time-limit"),
        ("FROM trials a, trials b, range(100000000000)", Limits(answer_gib=0.01), r"larger than 0\.01 GiB"),
        (
            "FROM range(4000000) ORDER BY hash(range)",
            Limits(memory_gib=0.02, spill_gib=0.001),
            r"0\.02 GiB of memory or its 0\.001 GiB on disk.*--memory-limit",
        ),
        ("SELECT list(repeat('x', 1000000)) FROM range(100000)", Limits(memory_gib=0.1), r"0\.1 GiB of memory"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL FROM n) SELECT count(*) FROM n", Limits(time_s=0.3), "longer"),
    ],
)
def test_a_query_ends_at_its_limits(study: Path, sql: str, limits: Limits, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        query([study], sql, limits)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT lpad('x', 2000000000, 'y')",  # computed while the statement is planned
        f"SELECT {'.'.join(['a'] * 24_000)} FROM trials",
        "SELECT lpad('x', 400000000 + range::INT, 'y') FROM range(100000)",
    ],
    ids=["folded", "dots", "rows"],
)
def test_what_cannot_be_interrupted_ends_from_python_too(study: Path, sql: str) -> None:
    query([study], "SELECT 1")  # the process is there
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"took longer than|GiB of memory|has ended|not found|No function"):
        query([study], sql, Limits(time_s=0.5))
    assert time.monotonic() - started < 0.5 + confined.GRACE_S + WAIT_S / 10
    assert query([study], "SELECT count(*) AS n FROM trials")["n"].to_pylist() == [5], "and the next one is answered"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds the memory of a process")
def test_one_value_of_gigabytes_is_refused_from_python_too(study: Path) -> None:
    with pytest.raises(QueryError, match="more than its 1 GiB of memory"):
        query([study], "SELECT length(repeat('x', 4000000000))")


def test_queries_from_python_share_processes_and_survive_their_end(study: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda n: query([study], f"SELECT {n} AS n")["n"].to_pylist(), range(9)))
    assert answers == [[n] for n in range(9)] and 1 <= len(apart._idle) <= 3
    first = apart._idle[-1]
    query([study], "SELECT 1")
    with pytest.raises(QueryError, match="there is no table"):
        query([study], "FROM nothing")
    assert apart._idle[-1] is first, "the process is used again, after a mistake too"
    for worker in apart._idle:
        worker._process.kill()
        worker._process.wait(WAIT_S)
    assert query([study], "SELECT 1 AS n")["n"].to_pylist() == [1]


def test_a_process_that_ends_by_itself_is_one_sentence(study: Path) -> None:
    query([study], "SELECT 1")
    worker, endless = apart._take(), "SELECT sum(random()) FROM range(100000000000)"
    threading.Timer(0.3, worker._process.kill).start()
    with pytest.raises(QueryError, match=r"has ended \(SIGKILL\)"):
        worker.ask((dict(os.environ), [str(study)], endless, Limits()), Limits())
    worker.end()


def test_a_foreign_file_is_named_from_python_and_by_the_command(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=0)
    ours = tables.files("trials")[0]
    shutil.copy(ours, ours.with_name("copy.parquet"))
    with pytest.warns(StudyWarning, match=r"trials: left out copy\.parquet, which this study did not write"):
        answer = query([tables.study_dir], "SELECT count(*) AS n FROM trials")
    assert answer["n"].to_pylist() == [4]
    for words in (["query", tables.study_dir, "SELECT count(*) FROM trials"], ["top", tables.study_dir]):
        message = invoke(*words).stderr
        assert message.startswith("warning: ") and message.count("left out copy.parquet") == 1, message


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds the memory of a process")
def test_the_command_refuses_one_value_of_gigabytes(study: Path) -> None:
    """The database does not count its memory, and cannot be interrupted while it computes it."""
    bound = resource.getrlimit(resource.RLIMIT_DATA)
    message = errors_of(invoke("query", study, "SELECT length(repeat('x', 4000000000))"))
    assert message.startswith("error: the query needs more than its 1 GiB of memory")
    assert resource.getrlimit(resource.RLIMIT_DATA) == bound


def test_the_process_ends_where_the_database_cannot_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "import time\nfrom sweeps.query import confined\nconfined.GRACE_S = 0.1\nlimits = confined.Limits(time_s=0.1)\n"
        "with confined.database(limits), confined.process_confined(limits): time.sleep(600)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: the query took longer than 0.1 s")
    assert list(tmp_path.iterdir()) == []  # the spilled files are removed


def test_the_next_query_removes_spilled_files_of_a_killed_one(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os\nfrom sweeps.query import confined\n"
        "with confined.database(confined.Limits()): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=50, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    query([study], "SELECT 1")
    assert list(tmp_path.iterdir()) == []
