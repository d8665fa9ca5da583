"""Exported tables hold what the study holds, in formats that other programs open, whole or not at all."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from sweeps.cli.query import TableName
from sweeps.query import files
from sweeps.query.files import write_file
from sweeps.query.formats import FileFormat
from sweeps.query.query import NAMES, query
from sweeps.query.text import render
from sweeps.storage.schema import TABLES

from .. import synthetic
from ..invoking import errors_of, invoke


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_study(folder, trials=5, failed=1)
    return folder


def output_of(*words: object) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def read(place: Path) -> pd.DataFrame:
    if place.suffix == ".xlsx":
        return pd.read_excel(place)
    if place.suffix == ".arrow":
        return pa.feather.read_table(place).to_pandas()
    return {".csv": pd.read_csv, ".json": pd.read_json, ".parquet": pd.read_parquet}[place.suffix](place)


def test_the_names_of_the_command_are_those_of_queries() -> None:
    assert [name.value for name in TableName] == list(NAMES)


@pytest.mark.parametrize("end", ["csv", "json", "parquet", "arrow", "xlsx"])
def test_a_table_in_each_format(study: Path, tmp_path: Path, end: str) -> None:
    place = tmp_path / f"trials.{end}"
    assert output_of("export", study, "--table", "trials", "-o", place) == f"{place}: 6 rows\n"
    expected = query([study], "FROM trials ORDER BY trial").to_pandas()
    table = read(place).sort_values("trial", ignore_index=True)
    assert list(table) == list(expected) and table.columns[0] == "study"
    for name in ("study", "trial", "state", "width", "failure", "keep_epochs", "rebatched"):
        assert table[name].astype(object).where(table[name].notna(), None).tolist() == [
            None if pd.isna(value) else value for value in expected[name]
        ]
    assert table["rel_l2"].tolist() == pytest.approx(expected["rel_l2"].tolist(), rel=1e-15, nan_ok=True)
    assert pd.to_datetime(table["started_at"], utc=True).tolist() == expected["started_at"].tolist()
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize("end", ["parquet", "arrow"])
def test_units_stay_in_the_fields(study: Path, tmp_path: Path, end: str) -> None:
    place = tmp_path / f"curves.{end}"
    output_of("export", study, "--table", "curves", "-o", place)
    schema = pq.read_schema(place) if end == "parquet" else pa.ipc.open_file(place).schema
    assert schema.field("time_s").metadata[b"unit"] == b"s" and schema.field("step").metadata[b"unit"] == b"count"
    assert schema.metadata[b"pinnsweep_table"] == b"curves"


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_all_tables_go_to_a_folder(study: Path, tmp_path: Path, end: str) -> None:
    exported = json.loads(output_of("export", study, "-o", tmp_path / "a" / "b", "--format", end, "--json"))
    assert [Path(file["path"]).name for file in exported] == [f"{name}.{end}" for name in TABLES]
    for file in exported:
        assert file["rows"] == len(read(Path(file["path"])))


def test_several_studies_an_answer_and_a_view(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    synthetic.make_study(other, trials=2, failed=0)
    place = tmp_path / "both.csv"
    output_of("export", study, other, "--table", "fields", "-o", place)
    assert read(place).groupby("study").size().to_dict() == {"demo": 2000, "other": 800}
    assert output_of("export", study, other, "--table", "best", "-o", tmp_path).startswith(
        f"{tmp_path}/best.csv: 2 rows"
    )
    sql = "SELECT trial, rel_l2 FROM trials WHERE state = 'COMPLETE' ORDER BY trial"
    output_of("export", study, "--sql", sql, "-o", tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")["trial"].tolist() == [0, 1, 2, 3, 4]


def test_an_answer_goes_to_a_file(study: Path, tmp_path: Path) -> None:
    sql = "SELECT trial, rel_l2 FROM trials ORDER BY trial"
    for end in ("csv", "json", "parquet", "arrow", "xlsx"):
        place = tmp_path / f"answer.{end}"
        assert output_of("query", study, sql, "-o", place) == f"{place}: 6 rows\n"
        assert read(place)["trial"].tolist() == [0, 1, 2, 3, 4, 5]
    assert output_of("query", study, sql, "-o", tmp_path / "x", "--format", "csv").endswith("x: 6 rows\n")
    assert (tmp_path / "x").read_text() == output_of("query", study, sql, "--format", "csv")
    assert json.loads(output_of("query", study, sql, "--json")) == json.loads((tmp_path / "answer.json").read_text())
    assert "parquet cannot be printed. Write it to a file: -o answer.parquet" in errors_of(
        invoke("query", study, sql, "--format", "parquet")
    )


def test_what_was_there_is_replaced_by_what_is_whole(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "x.csv"
    place.write_text("mine")
    assert errors_of(invoke("query", study, "SELECT 1", "-o", place)) == (
        f"error: {place} exists already: add --force to replace it, or give another name\n"
    )
    late = "SELECT CASE WHEN trial = 5 THEN error('late') END FROM trials"
    failing = invoke("query", study, late, "-o", place, "--force")
    assert "late" in errors_of(failing) and place.read_text() == "mine"
    umask = os.umask(0o027)
    output_of("query", study, "SELECT 1 AS one", "-o", place, "--force")
    os.umask(umask)
    assert place.read_text() == "one\n1\n" and place.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [place]


def test_an_export_replaces_nothing_unasked(study: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    for words in (
        ["-o", tmp_path],
        ["-o", tmp_path, "--table", "weights"],
        ["-o", tmp_path / "weights.csv", "--sql", "X"],
    ):
        assert f"{tmp_path / 'weights.csv'} exists already" in errors_of(invoke("export", study, *words))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "weights.csv"], "none of the five"
    output_of("export", study, "-o", tmp_path, "--force")
    assert len(list(tmp_path.iterdir())) == 6 and (tmp_path / "weights.csv").read_text() != "mine"
    (tmp_path / "folder.csv" / "answer.csv").mkdir()
    failing = invoke("query", study, "SELECT 1", "-o", tmp_path / "folder.csv", "--force")
    assert "is not a file, so it is not replaced by one" in errors_of(failing)


def test_nothing_is_written_among_the_files_of_a_study(study: Path, tmp_path: Path) -> None:
    before = sorted(study.rglob("*"))
    for place in ("trials/x.parquet", "study.yaml", "lock", "trials"):
        for words in (["export", study, "--table", "trials", "--format", "csv"], ["query", study, "FROM trials"]):
            assert "among the files of the study" in errors_of(invoke(*words, "-o", study / place))
    assert "among the files of the study" in errors_of(invoke("export", study, "-o", study / "checkpoints"))
    assert sorted(study.rglob("*")) == before
    output_of("query", study, "SELECT 1", "-o", study / "mine.csv")  # a file beside them is allowed
    (study / "mine.csv").unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x.csv"], "a file holds one table: choose the table with --table"),
        (["-o", "x", "--table", "trials"], "must end in one of .csv, .json, .parquet, .arrow, .xlsx"),
        (["-o", "no/x.csv", "--table", "trials"], "/no to write x.csv to"),
        (["-o", "x.csv", "--table", "trials", "--sql", "SELECT 1"], "--table and --sql exclude each other"),
        (["-o", "x.csv", "--sql", "DROP VIEW trials"], "a query may only read"),
    ],
)
def test_mistakes(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in errors_of(invoke("export", study, *words))
    assert list(tmp_path.iterdir()) == []


class TestExcel:
    def test_a_sheet_of_rows_and_one_of_columns(self, study: Path, tmp_path: Path) -> None:
        output_of("export", study, "--table", "curves", "-o", tmp_path / "c.xlsx")
        book = openpyxl.load_workbook(tmp_path / "c.xlsx")
        assert book.sheetnames == ["rows", "columns"]
        lines = list(book["columns"].iter_rows(values_only=True))
        assert lines[0] == ("column", "type", "unit") and ("time_s", "double", "s") in lines

    def test_values_that_excel_has_not(self, tmp_path: Path) -> None:
        moment = datetime.datetime(2026, 3, 1, 8, 0, tzinfo=datetime.UTC)
        row: dict[str, Any] = {"time": moment, "big": 2**60, "nan": float("nan"), "inf": float("inf"), "none": None}
        table = pa.Table.from_pylist([row | {"formula": "=1+1", "list": [1, 2], "yes": True}])
        write_file(tmp_path / "x.xlsx", FileFormat.XLSX, table.schema, table.to_batches())
        sheet = openpyxl.load_workbook(tmp_path / "x.xlsx")["rows"]
        values = [cell.value for cell in sheet[2]]
        assert values == [datetime.datetime(2026, 3, 1, 8, 0), str(2**60), None, "inf", None, "=1+1", "[1, 2]", True]
        assert sheet["F2"].data_type == "s"  # text, not a formula

    def test_more_than_a_sheet_holds(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MOST_ROWS", 6)
        words = ["export", study, "--table", "trials", "-o", tmp_path / "x.xlsx"]
        assert "an Excel sheet holds 5 rows" in errors_of(invoke(*words))
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(files, "MOST_ROWS", 7)
        output_of(*words)

    def test_without_xlsxwriter(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "xlsxwriter", None)
        message = errors_of(invoke("export", study, "--table", "trials", "-o", tmp_path / "x.xlsx"))
        assert "pip install 'pinnsweep[excel]'" in message and list(tmp_path.iterdir()) == []


def test_what_csv_writes(tmp_path: Path) -> None:
    table = pa.table({"a,b": ["x\ny", None, ""], "n": [0.1, float("nan"), float("inf")], "l": [[1], None, []]})
    write_file(tmp_path / "x.csv", FileFormat.CSV, table.schema, table.to_batches())
    assert list(csv.reader((tmp_path / "x.csv").open(newline=""))) == [
        ["a,b", "n", "l"], ["x\ny", "0.1", "[1]"], ["", "nan", ""], ["", "inf", "[]"],
    ]  # fmt: skip


def test_no_cell_of_csv_is_a_formula(tmp_path: Path) -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "-", "--1"]
    texts = ["-1.5", "+3e-05", "-.5", "-inf", "a=1", "", None, "'=1", " x", "1-2"]
    names = {"=HYPERLINK()": formulas + texts, "d": pa.array(formulas + texts).dictionary_encode()}
    table = pa.table({**names, "n": [-1.5] * 20, "i": [-7] * 20, "l": [["=1"]] * 20})
    expected = [["'" + text for text in formulas] + [text or "" for text in texts]] * 2

    def columns_of(text: str) -> list[tuple[str, ...]]:
        return list(zip(*csv.reader(io.StringIO(text, newline="")), strict=True))

    for text in (render(table, "csv"), _written(tmp_path / "x.csv", table)):
        heads, *rows = zip(*columns_of(text), strict=True)
        assert heads == ("'=HYPERLINK()", "d", "n", "i", "l")
        columns = list(zip(*rows, strict=True))
        assert [list(column) for column in columns[:2]] == expected
        assert {*columns[2]} == {"-1.5"} and {*columns[3]} == {"-7"} and {*columns[4]} == {'["=1"]'}
    own = columns_of(render(table, "csv", as_written=True))
    assert own[0] == ("=HYPERLINK()", *formulas, *(text or "" for text in texts))
    write_file(tmp_path / "x.parquet", FileFormat.PARQUET, table.schema, table.to_batches())
    assert pq.read_table(tmp_path / "x.parquet")["=HYPERLINK()"].to_pylist() == formulas + texts


def _written(place: Path, table: pa.Table) -> str:
    write_file(place, FileFormat.CSV, table.schema, table.to_batches())
    return place.read_bytes().decode()


def test_batches_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS_PER_GROUP", 10)
    batch = pa.record_batch({"a": list(range(4))})
    assert write_file(tmp_path / "x.parquet", FileFormat.PARQUET, batch.schema, iter([batch] * 7)) == 28
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 3
    assert pq.read_table(tmp_path / "x.parquet")["a"].to_pylist() == list(range(4)) * 7
