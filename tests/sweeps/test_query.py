"""A query reads the study's tables and nothing else, and says in one message what is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from sweeps.errors import QueryError, StudyError
from sweeps.query import query, read_study_file, render, top
from sweeps.ranking import swept_columns
from sweeps.store import TABLES, StudyTables

from . import synthetic


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_study(folder, trials=12, failed=2)
    return folder


# ---- reading -------------------------------------------------------------------------------------------------------


def test_the_tables_are_joined_under_one_study_column(study: Path) -> None:
    found = query(
        [study],
        "SELECT study, trial, count(*) AS points FROM trials JOIN fields USING (study, trial) "
        "WHERE state = 'COMPLETE' GROUP BY ALL ORDER BY trial",
    )
    assert found.to_pylist()[0] == {"study": "demo", "trial": 0, "points": 400}
    assert found.num_rows == 12


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("DESCRIBE curves", 13),
        ("SHOW TABLES", 5),
        ("SHOW ALL TABLES", 5),
        ("SUMMARIZE weights", 8),
        ("FROM histogram(trials, rel_l2)", None),
        ("FROM trials", 14),
        ("TABLE trials;", 14),
        ("WITH best AS (SELECT trial FROM trials ORDER BY rel_l2 LIMIT 3) SELECT * FROM best", 3),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) FROM n", 4),
        ("SELECT * FROM trials t, unnest([1, 2]) WHERE t.trial = 0", 2),
        ("SELECT * FROM range(3)", 3),
        ("PIVOT trials ON init IN ('torch', 'tf1') USING min(rel_l2)", None),
        ("SELECT trial FROM main.trials UNION SELECT trial FROM events", 15),
        ('SELECT max("column") FROM weights', 1),
        ("-- the best\nSELECT min(rel_l2) FROM trials", 1),
    ],
)
def test_reading_statements_are_answered(study: Path, sql: str, rows: int | None) -> None:
    found = query([study], sql)
    assert rows is None or found.num_rows == rows


def test_several_studies_are_told_apart(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "it's another"
    namesake = tmp_path / "elsewhere" / "demo"
    synthetic.make_study(other, trials=2, failed=0)
    synthetic.make_study(namesake, trials=3, failed=0)
    counted = "SELECT study, count(*) AS n FROM trials GROUP BY ALL ORDER BY n"
    assert query([study, other, study], counted).to_pydict() == {"study": ["it's another", "demo"], "n": [2, 14]}
    assert query([study, namesake], counted)["study"].to_pylist() == [str(namesake), str(study)]
    assert "study" in top([study, other]).column_names and "study" not in top([study]).column_names


def test_a_study_of_another_schema_version_is_read_beside(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    synthetic.make_study(other, trials=0, failed=0)
    StudyTables(other, terms=("residual", "walls")).publish("a", trials=[{"trial": 0, "replicate": 0, "loss_walls": 2}])
    found = query([study, other], "SELECT study, loss_walls, loss_lrb FROM trials WHERE loss_walls IS NOT NULL")
    assert found.to_pylist() == [{"study": "other", "loss_walls": 2.0, "loss_lrb": None}]


@pytest.mark.parametrize("table", TABLES)
def test_a_study_without_results_has_empty_tables(tmp_path: Path, table: str) -> None:
    (tmp_path / "study.yaml").write_text("study: new\n")
    assert query([tmp_path], f"SELECT * FROM {table}").num_rows == 0
    assert query([tmp_path], f"SELECT * FROM {table}").column_names[0] == "study"
    assert top([tmp_path]).num_rows == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.yaml"]


def test_tables_of_one_query_are_of_the_same_publications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush published while a query lists the files is in all of its tables or in none."""
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=0)
    real = StudyTables.dataset

    def published_meanwhile(self: StudyTables, table: str, flushes: list[str]) -> object:
        if table == "curves":
            synthetic.publish(tables, "meanwhile", [9])
        return real(self, table, flushes)

    monkeypatch.setattr(StudyTables, "dataset", published_meanwhile)
    found = query(
        [tmp_path / "demo"], "SELECT (SELECT max(trial) FROM trials) AS t, (SELECT max(trial) FROM curves) AS c"
    )
    assert found.to_pylist() == [{"t": 3, "c": 3}]


def test_an_unfinished_publication_is_not_seen(study: Path, tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=0)
    synthetic.publish(tables, "interrupted", [9])
    (tables.study_dir / "trials" / "interrupted.parquet").unlink()
    assert query([tables.study_dir], "SELECT max(trial) AS m FROM curves")["m"].to_pylist() == [3]


# ---- confinement ---------------------------------------------------------------------------------------------------

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
    "SELECT * FROM query_table('__trials_0')",
    "SELECT * FROM __trials_0",
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
]


@pytest.mark.parametrize("sql", ATTACKS)
def test_anything_but_reading_the_tables_is_refused(study: Path, tmp_path: Path, sql: str) -> None:
    a_variable_of_python = pa.table({"a": [1]})  # noqa: F841  DuckDB would find it by its name
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    with pytest.raises(QueryError) as caught:
        query([study], sql.format(out=tmp_path / "out", file=study / "trials" / "pack-000000.parquet"))
    assert caught.value.exit_code == 2
    assert before == {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    assert list(tmp_path.iterdir()) == []


def test_external_access_is_off_even_where_the_statement_check_would_fail(study: Path) -> None:
    """The second wall alone: with the check of the statement gone, DuckDB itself refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.statement._refuse_more_than_reading", lambda tree: None)
        for sql in (
            "FROM read_text('/etc/passwd')",
            "FROM glob('/etc/*')",
            "FROM enable_logging()",
            "WITH a AS (INSERT INTO trials VALUES (1) RETURNING *) SELECT * FROM a",
        ):
            with pytest.raises(QueryError):
                query([study], sql)
        assert query([study], "SELECT current_setting('enable_external_access') AS x")["x"].to_pylist() == [False]
        assert query([study], "SELECT current_setting('lock_configuration') AS x")["x"].to_pylist() == [True]


def test_limits_on_time_memory_and_spill_end_a_query_with_a_message(study: Path) -> None:
    with pytest.raises(QueryError, match=r"longer than 0\.3 s"):
        query([study], "SELECT sum(random()) FROM range(100000000000)", time_limit_s=0.3)
    with pytest.raises(QueryError, match="more than its 40MB of memory"):
        query([study], "FROM range(30000000) ORDER BY hash(range)", memory_limit="40MB", spill_limit="1MB")


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT rel_l FROM curves",
            "no column is called 'rel_l' here. Did you mean rel_l2? Columns of curves: study, ",
        ),
        ("SELECT t.widht FROM trials t", "Did you mean width?"),
        ("SELECT * FROM trails", "no table is called 'trails'. Did you mean trials? Tables: curves, events, fields"),
        ("SELECT column FROM weights", "write it in double quotes"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("", "a query is one statement, got none"),
        ("SELECT nothing(1)", "nothing does not exist"),
        ("FROM trials WHERE trial = $1", "a query has no parameters"),
        ("PIVOT trials ON init USING min(rel_l2)", "a PIVOT must list its columns"),
        ("SELECT * FROM trials WHERE rel_l2 < 'small'", "Could not convert string 'small'"),
        ("SELECT " + "+".join(["1"] * 5000), "depth"),
        ("SELECT \x00", "not found"),
    ],
)
def test_a_mistake_in_sql_is_one_clear_message(study: Path, sql: str, message: str) -> None:
    with pytest.raises(QueryError, match=re.escape(message)):
        query([study], sql)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere, which does not exist\. Give the folder that pinnsweep run made"):
        query([tmp_path / "nowhere"], "FROM trials")
    with pytest.raises(StudyError, match=r"where there is no study\.yaml"):
        top([tmp_path])
    with pytest.raises(QueryError, match="at least one study"):
        query([], "FROM trials")
    (tmp_path / "study.yaml").write_text("space: [")
    with pytest.raises(StudyError, match=r"study\.yaml cannot be read: this is not valid YAML"):
        read_study_file(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=8, failed=0)
    path = tables.files("fields")[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(StudyError, match=re.escape(str(path))):
        query([tmp_path / "demo"], "SELECT count(*) FROM fields")
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    with pytest.raises(StudyError, match=re.escape(str(path))):
        query([tmp_path / "demo"], "SELECT sum(predicted), sum(x_mm), sum(y_mm), sum(reference) FROM fields")


# ---- top -----------------------------------------------------------------------------------------------------------


def test_top_ranks_complete_trials_by_the_objective_and_shows_what_was_swept(study: Path) -> None:
    found = top([study], 5)
    assert found.column_names == [
        "trial",
        "rel_l2",
        "width",
        "depth",
        "adam_lr",
        "lbfgs_history",
        "init",
        "scale_factor",
        "loss",
        "heldout_residual",
        "seconds",
        "stop_reason",
    ]
    assert found["rel_l2"].to_pylist() == sorted(map(synthetic.error_of, range(12)))[:5]
    assert top([study], 100).num_rows == 12
    assert top([study], by="seconds").column_names[:2] == ["trial", "seconds"]
    assert top([study], by="seconds")["trial"].to_pylist() == list(range(10))  # ties in the order of trials


def test_top_follows_another_objective_and_swept_settings_named_like_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    text = synthetic.STUDY_FILE.replace("space:", "space:\n  loss: {{choice: [norm, mean_square]}}")
    synthetic.make_study(folder, trials=3, failed=1, objective="process_zone_error", text=text)
    assert swept_columns(read_study_file(folder))[0] == "problem_loss"
    assert top([folder]).column_names[:3] == ["trial", "process_zone_error", "problem_loss"]


def test_top_refuses_what_cannot_rank(study: Path, tmp_path: Path) -> None:
    with pytest.raises(
        QueryError, match=r"ranked by a number in the table trials that is no key, got 'rel_l3'\. Did you mean rel_l2"
    ):
        top([study], by="rel_l3")
    for name in ("init", "trial"):
        with pytest.raises(QueryError, match=f"a number in the table trials that is no key, got '{name}'"):
            top([study], by=name)
    with pytest.raises(QueryError, match="at least 1, got 0"):
        top([study], 0)
    synthetic.make_study(tmp_path / "other", trials=1, objective="loss")
    with pytest.raises(QueryError, match=r"different objectives \(loss, rel_l2\)"):
        top([study, tmp_path / "other"])
    assert top([study, tmp_path / "other"], by="rel_l2").num_rows == 10


def test_trials_without_a_finite_objective_are_not_ranked(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=2, failed=0)
    tables.publish(
        "odd", trials=[synthetic.trial_row(7) | {"rel_l2": float("nan")}, synthetic.trial_row(8) | {"rel_l2": None}]
    )
    assert set(top([tmp_path / "demo"])["trial"].to_pylist()) == {0, 1}


# ---- rendering -----------------------------------------------------------------------------------------------------

SMALL = pa.table(
    {
        "trial": [3, 12],
        "rel_l2": [0.0131319, None],
        "loss": [6.14e-7, float("nan")],
        "stop_reason": ["done", "a\x1b[31m\nb"],
    }
)


def test_rendered_for_people() -> None:
    assert render(SMALL).splitlines() == [
        "trial   rel_l2      loss  stop_reason",
        "─────────────────────────────────────",
        "    3  1.313 %  6.14e-07  done",
        "   12                nan  a [31m b",
    ]


def test_rows_wider_than_the_terminal_become_columns() -> None:
    assert render(SMALL, width=31).splitlines() == [
        "trial               3        12",
        "───────────────────────────────",
        "rel_l2        1.313 %",
        "loss         6.14e-07       nan",
        "stop_reason      done  a [31m b",
    ]
    assert render(SMALL, width=34).splitlines()[:2] == [
        "          rel_            stop_",
        "trial       l2      loss  reason",
    ]
    narrow = render(SMALL, width=25)
    assert narrow.count("stop_reason") == 2 and all(len(line) <= 25 for line in narrow.splitlines())


def test_rendered_for_scripts() -> None:
    assert render(SMALL, "csv").splitlines()[0] == "trial,rel_l2,loss,stop_reason"
    assert render(SMALL, "csv").splitlines()[1] == "3,0.0131319,6.14e-07,done"
    rows = json.loads(render(SMALL, "json"))
    assert rows[0] == {"trial": 3, "rel_l2": 0.0131319, "loss": 6.14e-07, "stop_reason": "done"}
    assert rows[1]["loss"] is None and rows[1]["rel_l2"] is None
    assert render(SMALL.slice(0, 0), "json") == "[]"
    assert render(SMALL.slice(0, 0)).splitlines()[0].split() == ["trial", "rel_l2", "loss", "stop_reason"]
    assert render(SMALL.slice(0, 0), width=10) == "no rows"


def test_every_kind_of_value_is_rendered(study: Path) -> None:
    kinds = query(
        [study],
        "SELECT sum(trial) AS huge, list(trial ORDER BY trial)[1:2] AS list, {'a': 1.5} AS record, "
        "min(started_at) AS time, INTERVAL 1 DAY AS span, DATE '2026-01-02' AS day, "
        "1.25::DECIMAL(5, 2) AS exact, true AS yes, 'x'::BLOB AS bytes FROM trials",
    )
    record = json.loads(render(kinds, "json"))[0]
    assert record["huge"] == 91 and record["list"] == [0, 1] and record["record"] == {"a": 1.5}
    assert record["time"] == "2026-03-01T08:00:00+00:00" and record["day"] == "2026-01-02" and record["exact"] == 1.25
    assert "2026-03-01 08:00:00+00:00" in render(kinds)
    assert render(kinds, "csv").splitlines()[1].startswith('91,"[0, 1]","{""a"": 1.5}",2026-03-01T08:00:00+00:00')
