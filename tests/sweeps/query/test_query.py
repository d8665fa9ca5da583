"""Queries read the tables of studies, and report mistakes in one message."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from sweeps.cli.query import EXPORT_TIME_LIMIT_S
from sweeps.errors import QueryError, StudyError
from sweeps.query.confined import Limits
from sweeps.query.query import query, ranked_trials, read_study_file
from sweeps.query.statement import LONGEST
from sweeps.query.text import render, shown
from sweeps.query.views import NEEDS
from sweeps.storage.schema import TABLES
from sweeps.storage.stored_problem import write_problem
from sweeps.storage.tables import StudyTables
from tests import ROOT

from .. import synthetic
from ..invoking import invoke
from ..problems import STRAIN, WIND, of_strain


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_study(folder, trials=12, failed=2)
    return folder


# ---- reading -------------------------------------------------------------------------------------------------------


def test_the_tables_are_joined_under_one_study_column(study: Path) -> None:
    table = query(
        [study],
        "SELECT study, trial, count(*) AS points FROM trials JOIN fields USING (study, trial) "
        "WHERE state = 'COMPLETE' GROUP BY ALL ORDER BY trial",
    )
    assert table.to_pylist()[0] == {"study": "demo", "trial": 0, "points": 400}
    assert table.num_rows == 12


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("DESCRIBE curves", 14),
        ("SHOW TABLES", 10),
        ("SHOW ALL TABLES", 10),
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
    table = query([study], sql)
    assert rows is None or table.num_rows == rows


def test_the_tables_and_views_are_listed(study: Path) -> None:
    listed = query([study], ".tables").to_pylist()
    assert [line["name"] for line in listed] == [*TABLES, *NEEDS]
    assert listed[0] == {"name": "trials", "kind": "table", "rows": 14, "columns": 107}
    assert {line["rows"] for line in listed[5:]} == {None} and query([study], "SHOW TABLES").to_pylist() == listed


def test_the_schema_says_types_and_units(study: Path) -> None:
    columns = {(line["table"], line["column"]): line for line in query([study], ".schema").to_pylist()}
    assert columns["curves", "time_s"] == {"table": "curves", "column": "time_s", "type": "DOUBLE", "unit": "s"}
    assert columns["fields", "x_mm"]["unit"] == "mm" and columns["by_config", "rel_l2_median"]["unit"] == "1"
    assert columns["trials", "study"]["unit"] == "" and columns["curves", "phase"]["type"] == "VARCHAR"
    assert query([study], ".schema Curves").num_rows == 14
    for wrong, message in ((".schema curve", "Did you mean curves"), (".quit", r"the commands are \.tables and")):
        with pytest.raises(QueryError, match=message):
            query([study], wrong)


def test_several_studies_have_different_names(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "it's another"
    namesake = tmp_path / "elsewhere" / "demo"
    synthetic.make_study(other, trials=2, failed=0)
    synthetic.make_study(namesake, trials=3, failed=0)
    counted = "SELECT study, count(*) AS n FROM trials GROUP BY ALL ORDER BY n"
    assert query([study, other, study], counted).to_pydict() == {"study": ["it's another", "demo"], "n": [2, 14]}
    assert query([study, namesake], counted)["study"].to_pylist() == [str(namesake), str(study)]


def test_studies_with_different_columns_are_read_together(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    synthetic.make_study(other, trials=0, failed=0)
    shutil.rmtree(other / "events")
    write_problem(other, WIND)
    wind = StudyTables(other)
    wind.publish("a", trials=[{"trial": 0, "replicate": 0, "loss_walls": 2}])
    table = query([study, other], "SELECT study, loss_walls, loss_lrb FROM trials WHERE loss_walls IS NOT NULL")
    assert table.to_pylist() == [{"study": "other", "loss_walls": 2.0, "loss_lrb": None}]


@pytest.mark.parametrize("table", TABLES)
def test_a_study_without_results_has_empty_tables(tmp_path: Path, table: str) -> None:
    (of_strain(tmp_path) / "study.yaml").write_text("study: new\n")
    assert query([tmp_path], f"SELECT * FROM {table}").num_rows == 0
    assert query([tmp_path], f"SELECT * FROM {table}").column_names[0] == "study"
    assert ranked_trials([tmp_path]).num_rows == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["problem.json", "study.yaml"]


def test_tables_of_one_query_have_the_same_publications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush published while a query lists the files is in all of its tables or in none."""
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=0)
    real = StudyTables._listing

    def published_meanwhile(self: StudyTables, table: str) -> object:
        if table == "curves" and "meanwhile" not in tables.flushes():
            synthetic.publish(tables, "meanwhile", [9])
        return real(self, table)

    monkeypatch.setattr(StudyTables, "_listing", published_meanwhile)
    table = query(
        [tmp_path / "demo"], "SELECT (SELECT max(trial) FROM trials) AS t, (SELECT max(trial) FROM curves) AS c"
    )
    assert table.to_pylist() == [{"t": 3, "c": 3}]


def test_an_unfinished_publication_is_not_seen(study: Path, tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=0)
    synthetic.publish(tables, "interrupted", [9])
    (tables.study_dir / "trials" / "interrupted.parquet").unlink()
    assert query([tables.study_dir], "SELECT max(trial) AS m FROM curves")["m"].to_pylist() == [3]


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT rel_l FROM curves",
            "there is no column 'rel_l' here. Did you mean rel_l2? To see all columns: ",
        ),
        ("SELECT time FROM curves", "there is no column 'time' here. Did you mean time_s? To see all"),
        ("SELECT rel_l2_med FROM by_config", "Did you mean rel_l2_median, rel_l2_min or rel_l2_max? To see all"),
        ("SELECT * EXCLUDE (rel_l3) FROM trials", "there is no column 'rel_l3' here. Did you mean rel_l2? To"),
        ("FROM trials JOIN curves USING (trail)", "there is no column 'trail' here. Did you mean trial? To"),
        ("SELECT t.widht FROM trials t", "Did you mean width?"),
        ("SELECT * FROM trails", "there is no table 'trails'. Did you mean trials? Tables: best, by_config, curves, "),
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


@pytest.mark.parametrize("sql", ["SELECT nonsense FROM trials", "SELECT widht FROM trials"])
def test_a_wrong_column_does_not_list_all(study: Path, sql: str) -> None:
    with pytest.raises(QueryError) as refusal:
        query([study], sql)
    assert len(str(refusal.value)) < 300 and str(refusal.value).endswith("query STUDY '.schema TABLE'")


def test_a_folder_that_is_not_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere, which does not exist\. Give the folder that pinnsweep run created"):
        query([tmp_path / "nowhere"], "FROM trials")
    with pytest.raises(StudyError, match=r"which has no study\.yaml"):
        ranked_trials([tmp_path])
    with pytest.raises(QueryError, match="at least one study"):
        query([], "FROM trials")
    (tmp_path / "study.yaml").write_text("space: [")
    with pytest.raises(StudyError, match=r"study\.yaml cannot be read: this is not valid YAML"):
        read_study_file(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=8, failed=0)
    path = tables.files("fields")[1]
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(StudyError, match=re.escape(str(path))):
        query([tmp_path / "demo"], "SELECT count(*) FROM fields")
    middle = len(content) // 3
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    with pytest.raises(StudyError, match=re.escape(str(path))):
        query([tmp_path / "demo"], "SELECT sum(predicted), sum(x_mm), sum(y_mm), sum(reference) FROM fields")


# ---- the page ------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "query.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
STATEMENTS = [line for block in re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name in ("widths", "optimisers"):
        synthetic.make_study(folder / "runs" / name, trials=4, failed=1, replicates=3)
    return folder


def test_the_page_names_every_view_and_limit() -> None:
    assert len(COMMANDS) >= 14 and len(STATEMENTS) >= 6
    limits = Limits()
    assert [name for name in NEEDS if f"| `{name}` |" not in PAGE or f"FROM {name}" not in PAGE] == []
    for words in (
        f"{limits.memory_gib:g} GiB of memory",
        f"{limits.spill_gib:g} GiB on disk",
        f"{limits.time_s:g} s (`--",
    ):
        assert words in PAGE
    assert f"{LONGEST:,} characters" in PAGE and f"{EXPORT_TIME_LIMIT_S:g} s in `export`" in PAGE


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_runs(root: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    result = invoke(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("sql", STATEMENTS)
def test_each_statement_of_the_page_is_answered(root: Path, sql: str) -> None:
    assert query([root / "runs" / "widths"], sql).num_rows > 0


@pytest.mark.parametrize("view", NEEDS)
def test_the_page_lists_the_columns_of_a_view(root: Path, view: str) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{view}` |")]
    listed = set(re.findall(r"`(\w+)`", line))
    swept = {"width", "depth", "adam_lr", "lbfgs_history", "init", "scale_factor"}
    columns = set(query([root / "runs" / "widths"], f"DESCRIBE {view}")["column_name"].to_pylist()) - swept
    columns -= {name for name in columns if name.startswith("rel_l2")}
    if "those of `trials`" in line or "those of `curves`" in line:
        table = "trials" if "those of `trials`" in line else "curves"
        columns -= set(query([root / "runs" / "widths"], f"DESCRIBE {table}")["column_name"].to_pylist())
    assert columns <= listed


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rel_l2", "1.482 %"),
        ("rel_l2_median", "1.482 %"),
        ("min(rel_l2)", "1.482 %"),
        ('avg(t."rel_l2")', "1.482 %"),
        ("quantile_cont(process_zone_error, 0.25)", "1.482 %"),
        ("round(min(rel_l2), 4)", "1.482 %"),
        ("min(loss)", "0.01482"),
        ("min((100 * rel_l2))", "0.01482"),
        ("variance(rel_l2)", "0.01482"),
        ("best", "0.01482"),
    ],
)
def test_relative_errors_and_their_aggregates_are_in_per_cent(name: str, text: str) -> None:
    assert shown(name, 0.01482, STRAIN.record.in_per_cent) == text


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
    assert render(SMALL, "csv").splitlines()[1] == '3,0.0131319,6.14e-7,"done"'
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
    line = '"91","[0, 1]","{""a"": 1.5}","2026-03-01T08:00:00.000000Z",'
    assert render(kinds, "csv").splitlines()[1].startswith(line)
