"""SQL reads only the tables of the studies, writes nothing, and stays within its limits."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sweeps.errors import QueryError
from sweeps.query.confined import Limits
from sweeps.query.query import query
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
        patch.setattr("sweeps.query.statement._refuse_more_than_reading", lambda tree, tables: None)
        for sql in (
            "FROM read_text('/etc/passwd')",
            "FROM glob('/etc/*')",
            f"FROM '{study}/trials/pack-000000.parquet'",
            "FROM enable_logging()",
            "WITH a AS (INSERT INTO trials VALUES (1) RETURNING *) SELECT * FROM a",
        ):
            with pytest.raises(QueryError):
                query([study], sql)
        assert query([study], "SELECT current_setting('enable_external_access') AS x")["x"].to_pylist() == [False]
        assert query([study], "SELECT current_setting('lock_configuration') AS x")["x"].to_pylist() == [True]


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
