"""The result tables: one schema, trials last, all or nothing, plain Parquet, and errors that name the file."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinncore import NonlocalStrain
from sweeps.errors import StudyError, StudyWarning
from sweeps.storage.compaction import compact
from sweeps.storage.meanings import meaning_of
from sweeps.storage.own_files import IDENTITY, marked, unmarked
from sweeps.storage.schema import TABLES, all_settings, column_of, config_of, setting_columns, table_schema
from sweeps.storage.stored_problem import write_problem
from sweeps.storage.tables import StudyTables, of_member
from tests import ROOT

from .. import synthetic
from ..problems import STRAIN, WIND, of_strain

DOCUMENT = ROOT / "docs" / "tables.md"


class Killed(BaseException):
    """Stands for the process being killed: nothing catches it on the way."""


@pytest.fixture
def tables(tmp_path: Path) -> StudyTables:
    return synthetic.make_study(tmp_path / "demo", trials=6, failed=2, per_flush=3)


# ---- plain Parquet -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_every_file_of_a_table_has_one_schema(tables: StudyTables, table: str) -> None:
    schemas = [pyarrow.parquet.read_schema(path) for path in tables.files(table)]
    assert len(schemas) == {"events": 1, "trials": 3}.get(table, 2), "failed trials have rows in trials alone"
    assert all(unmarked(schema).equals(tables.schema(table), check_metadata=True) for schema in schemas)


def test_plain_readers_read_the_tables_without_us(tables: StudyTables) -> None:
    folder = tables.study_dir / "trials"
    (folder / ".half-written.parquet.tmp").write_bytes(b"PAR1 not whole")  # a publication in progress
    by_arrow = pyarrow.dataset.dataset(folder, format="parquet").to_table().sort_by("trial")
    by_pandas = pandas.read_parquet(folder).sort_values("trial", ignore_index=True)
    with duckdb.connect() as connection:
        by_duckdb = connection.sql(f"from read_parquet('{folder}/*.parquet') order by trial").to_arrow_table()
    ours = tables.read("trials").sort_by("trial")
    assert ours.num_rows == 8
    assert by_arrow.equals(ours)
    assert by_duckdb.column_names == ours.column_names
    assert by_duckdb["rel_l2"].to_pylist() == ours["rel_l2"].to_pylist()
    assert by_pandas["adam_lr"].tolist() == ours["adam_lr"].to_pylist()
    assert by_pandas["started_at"].dt.tz is not None


def test_values_come_back_as_they_were_published(tables: StudyTables) -> None:
    row = tables.read("trials").sort_by("trial").to_pylist()[2]
    assert row["trial"] == 2 and row["state"] == "COMPLETE" and row["rel_l2"] == synthetic.error_of(2)
    assert row["inputs"] == '["x", "y"]' and row["keep_epochs"] == "[0, 50, 1000]" and row["data"] == "strb100"
    assert row["first_step"] == 1.0 and row["max_evaluations"] is None
    assert row["started_at"] == synthetic.START.replace(second=40)
    field = tables.read("fields", where=pyarrow.dataset.field("trial") == 2)
    np.testing.assert_array_equal(field["predicted"], synthetic.field(2, synthetic.small_points())["predicted"])
    events = tables.read("events")
    assert events["trial"].null_count == 1 and events["event"][0].as_py() == "started"


def test_a_setting_that_shares_a_metrics_name_is_stored_under_its_section() -> None:
    row = setting_columns(synthetic.config(0), STRAIN.record)
    assert row["problem_loss"] == "norm" and row["problem"] == "nonlocal_strain" and "loss" not in row
    assert column_of("train", "width", STRAIN.record) == "width"
    assert set(row) <= set(table_schema("trials", STRAIN.record).names)


def test_a_configuration_comes_back_from_its_row(tables: StudyTables) -> None:
    for row in tables.read("trials").to_pylist():
        assert config_of(row, STRAIN.record) == synthetic.config(row["trial"])


def test_numpy_scalars_and_other_loss_terms_are_stored(tmp_path: Path) -> None:
    write_problem(tmp_path, WIND)
    tables = StudyTables(tmp_path)
    row = {"trial": np.int32(4), "replicate": 0, "state": "COMPLETE", "loss_walls": np.float32(0.5), "adam_lr": 1}
    tables.publish("a", trials=[row | {"keep_epochs": (0, 50)}])
    stored = tables.read("trials").to_pylist()[0]
    assert (stored["trial"], stored["loss_walls"], stored["adam_lr"], stored["keep_epochs"]) == (4, 0.5, 1.0, "[0, 50]")
    assert "loss_lrb" not in stored


# ---- publication ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(step=st.sampled_from(["fsync", "replace"]), after=st.integers(0, 16), before=st.booleans())
def test_killed_between_any_two_writes_there_is_all_of_a_flush_or_none(step: str, after: int, before: bool) -> None:
    """The process dies before or after the n-th fsync or rename: readers see 3 trials or 6, whole, and never files of
    trials that do not count; cleaned up and published again, the study is the one never interrupted."""
    folder = Path(tempfile.mkdtemp())
    try:
        study = folder / "demo"
        tables = synthetic.make_study(study, trials=3, failed=0, per_flush=3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, step, _kill_at(getattr(os, step), after, before=before))
            with contextlib.suppress(Killed):
                synthetic.publish(tables, "pack-000001", range(3, 6))
        survived = StudyTables(study)
        trials = set(survived.read("trials")["trial"].to_pylist())
        assert trials in ({0, 1, 2}, {0, 1, 2, 3, 4, 5})
        for name in ("curves", "fields", "weights"):
            assert set(survived.read(name)["trial"].to_pylist()) == trials

        removed = survived.remove_orphans()
        assert all("pack-000001" in path for path in removed)
        assert survived.remove_orphans() == []
        for name in ("curves", "fields", "weights"):  # now plain readers agree too
            assert set(pandas.read_parquet(study / name)["trial"]) == trials
        if len(trials) == 3:
            synthetic.publish(survived, "pack-000001", range(3, 6))
        other = StudyTables(of_strain(folder / "never-interrupted"))
        shutil.copy(study / IDENTITY, other.study_dir)
        synthetic.publish(other, "pack-000000", range(3))
        synthetic.publish(other, "pack-000001", range(3, 6))
        for name in ("trials", "curves", "fields", "weights"):
            assert survived.read(name).equals(other.read(name))
            assert [path.read_bytes() for path in survived.files(name)] == [p.read_bytes() for p in other.files(name)]
    finally:
        shutil.rmtree(folder)


def _kill_at(real: Any, after: int, *, before: bool) -> Any:
    calls = iter(range(10_000))

    def replacement(*arguments: Any) -> Any:
        due = next(calls) == after
        if due and before:
            raise Killed
        result = real(*arguments)
        if due:
            raise Killed
        return result

    return replacement


def test_killed_while_writing_a_file_leaves_only_a_hidden_one(tables: StudyTables, monkeypatch: Any) -> None:
    def half(_: pa.Table, stream: Any, **__: Any) -> None:
        stream.write(b"PAR1 half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet, "write_table", half)
        with pytest.raises(Killed):
            synthetic.publish(tables, "late", [20])
    assert tables.read("trials").num_rows == 8
    assert tables.remove_orphans() == ["curves/.late.parquet.tmp"]


def test_orphans_of_an_interrupted_flush_are_removed_and_the_rest_stays(tables: StudyTables) -> None:
    before = {name: tables.read(name) for name in TABLES}
    synthetic.publish(tables, "interrupted", [30])
    (tables.study_dir / "trials" / "interrupted.parquet").unlink()
    assert tables.remove_orphans() == [f"{name}/interrupted.parquet" for name in ("curves", "fields", "weights")]
    assert all(tables.read(name).equals(before[name]) for name in TABLES)


def test_a_published_flush_is_never_written_again(tables: StudyTables) -> None:
    with pytest.raises(StudyError, match=r"trials/pack-000000\.parquet: already published"):
        synthetic.publish(tables, "pack-000000", [40])
    with pytest.raises(StudyError, match="already published"):
        tables.publish_events("attempt-001", [])


def test_nothing_is_written_where_a_later_table_cannot_be_built(tmp_path: Path) -> None:
    tables = StudyTables(of_strain(tmp_path / "demo"))
    with pytest.raises(ValueError, match=r"no such columns in the table trials: \['rel_l3'\]"):
        tables.publish("a", trials=[{"trial": 0, "rel_l3": 1.0}], curves=[synthetic.curve(0)])
    with pytest.raises(ValueError, match="equally long"):
        tables.publish("a", trials=[], curves=[{"step": [1, 2], "loss": [1.0]}])
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["problem.json"]


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_study_without_files_has_empty_tables(tmp_path: Path, table: str) -> None:
    tables = StudyTables(of_strain(tmp_path / "none"))
    assert tables.read(table).num_rows == 0
    assert tables.read(table).schema.equals(tables.schema(table))
    assert tables.remove_orphans() == [] and len(list((tmp_path / "none").iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 3, 0.5, -1])
def test_a_truncated_file_is_named_with_the_way_out(tables: StudyTables, keep: float) -> None:
    path = tables.files("fields")[0]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(StudyError, match=re.escape(str(path))) as caught:
        tables.read("fields")
    assert "move it out of the folder" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_flipped_byte_inside_a_page_is_found_by_its_checksum(tables: StudyTables) -> None:
    path = tables.files("fields")[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StudyError, match=re.escape(str(path))):
        tables.read("fields")
    assert tables.read("trials").num_rows == 8


def test_files_with_other_columns_are_read_side_by_side(tables: StudyTables) -> None:
    other = tables.read("trials").slice(0, 1).drop_columns(["boundary_weight"])
    other = other.append_column("another_setting", pa.array(["x"]))
    other = marked(other, tables.identity(), "trials/other")
    pyarrow.parquet.write_table(other, tables.study_dir / "trials" / "other.parquet")
    read = tables.read("trials")
    assert read.num_rows == 9 and read["boundary_weight"].null_count == 1 and read["another_setting"].null_count == 8


def test_a_table_without_rows_has_no_files_and_all_columns(tmp_path: Path) -> None:
    study = tmp_path / "bare"
    synthetic.make_study(study, trials=0, failed=0)
    tables = StudyTables(study)
    for number in range(3):
        tables.publish(
            f"trials-{number:06d}", trials=[synthetic.trial_row(number)], curves=[synthetic.curve(number)], weights=[]
        )
    assert not (study / "weights").exists() and not (study / "fields").exists()
    for _ in range(2):
        reader = StudyTables(study)
        for table in ("weights", "fields"):
            assert reader.files(table) == () and reader.read(table).num_rows == 0
            assert reader.read(table).schema.equals(tables.schema(table))
            assert reader.dataset(table, enumerated=True).count_rows() == 0
        assert reader.read("curves", where=of_member(1, 0)).num_rows > 0 and reader.orphans() == []
        assert compact(tables).after <= 3, "and a compaction changes nothing"
    tables.publish("late", trials=[synthetic.trial_row(9)], weights=[{"epoch": 0, "value": [1.0, 2.0], "trial": 9}])
    assert StudyTables(study).read("weights").num_rows == 2


# ---- files that are not the study's own ----------------------------------------------------------------------------


def _copied_in(tables: StudyTables, kind: str, other: StudyTables) -> Path:
    """Copy a file into the folder trials; return it."""
    ours, theirs = tables.files("trials")[0], other.files("trials")[-1]
    file = ours.with_name("trials-000009.parquet")
    match kind:
        case "renamed":
            shutil.copy(ours, file)
        case "another study":
            file = Path(shutil.copy(theirs, ours.with_name(theirs.name)))
        case "another table":
            shutil.copy(tables.files("curves")[0], file)
        case "another program":
            pyarrow.parquet.write_table(pa.table({"trial": [0, 1], "rel_l2": ["low", "high"]}), file)
        case "without metadata":
            pyarrow.parquet.write_table(pyarrow.parquet.read_table(ours).replace_schema_metadata(None), file)
    return file


@pytest.mark.parametrize("kind", ["renamed", "another study", "another table", "another program", "without metadata"])
def test_a_file_that_was_copied_into_a_table_is_left_out_and_named(
    tables: StudyTables, kind: str, tmp_path: Path
) -> None:
    order = [(name, "ascending") for name in ("trial", "replicate")]
    before = tables.read("trials").sort_by(order)
    file = _copied_in(tables, kind, synthetic.make_study(tmp_path / "other" / "demo", trials=30, failed=0, per_flush=3))
    left_out = rf"trials: left out {file.name}, which this study did not write"
    for _ in range(2):
        for reader in (StudyTables(tables.study_dir), tables):
            with pytest.warns(StudyWarning, match=left_out):
                rows = reader.read("trials").sort_by(order)
            assert rows.equals(before) and list(reader.left_out) == [f"trials/{file.name}"]
        with pytest.warns(StudyWarning, match=left_out):
            compact(tables)
    assert file.is_file(), "it is somebody's"


def test_a_study_that_was_moved_knows_its_files_and_one_without_its_identity_says_so(
    tables: StudyTables, tmp_path: Path
) -> None:
    moved = StudyTables(tables.study_dir.rename(tmp_path / "elsewhere"))
    assert moved.read("trials").num_rows == 8 and not moved.left_out
    (moved.study_dir / IDENTITY).unlink()
    with pytest.raises(StudyError, match="elsewhere/identity is missing"):
        moved.read("trials")


# ---- the document --------------------------------------------------------------------------------------------------


def _documented() -> dict[str, list[tuple[str, str, str, str]]]:
    """Return (column, type, unit, meaning) of every row in docs/tables.md, by table."""
    columns: dict[str, list[tuple[str, str, str, str]]] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `(\w+)`.*", line):
            table = heading[1]
        elif row := re.fullmatch(r"\| `(\w+)` \| ([^|]+) \| ([^|]*) \| ([^|]+) \|", line):
            assert row[4].strip(), f"{row[1]} has no meaning"
            columns.setdefault(table, []).append((row[1], row[2].strip(), row[3].strip(), row[4].strip()))
    return columns


@pytest.mark.parametrize("table", TABLES)
def test_the_document_lists_every_column_with_its_type_and_unit(table: str, tmp_path: Path) -> None:
    schema = table_schema(table, STRAIN.record)
    units = [(field.metadata or {}).get(b"unit", b"").decode() for field in schema]
    expected = [(field.name, str(field.type), unit) for field, unit in zip(schema, units, strict=True)]
    assert [line[:3] for line in _documented()[table]] == expected


def test_the_document_gives_the_meanings_that_the_report_gives() -> None:
    meanings = {column: meaning.replace("`", "") for column, _, _, meaning in _documented()["trials"]}
    results = {column for column in meanings if column not in {each.column for each in all_settings(STRAIN.record)}}
    assert {"host", "loss_lrb", "rel_l2"} <= results
    for column in results:
        assert (meaning_of(column, STRAIN.record) or "").replace("`", "") == meanings[column]
    assert all(meaning_of(column, STRAIN.record) for column in meanings) and not meaning_of("x", STRAIN.record)


def test_the_document_gives_the_meaning_that_metrics_have() -> None:
    meanings = {column: meaning for column, _, _, meaning in _documented()["trials"]}
    assert {metric.name: meanings[metric.name] for metric in NonlocalStrain.metrics} == {
        metric.name: metric.meaning for metric in NonlocalStrain.metrics
    }
