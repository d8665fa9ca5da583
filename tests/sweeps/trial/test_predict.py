"""A trained network on a table of points: the user's columns, physical numbers, what is extrapolated said."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.trial.predict import members
from sweeps.trial.tables import TrialReader, network_of

from ..invoking import errors_of, invoke
from ..trained_studies import EXPLODING, FOUR_INPUTS, PLAIN, REPEATED, SINGLE, every_end, sampled


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_end(tmp_path_factory)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    file = tmp_path / "points.csv"
    file.write_text("name,x_mm,y_mm\na,10,20\nb,50,50\nc,120,5\n")
    return file


@pytest.mark.parametrize("trial", [PLAIN, SINGLE, REPEATED, FOUR_INPUTS])
def test_at_the_gauss_points_it_predicts_the_field_of_the_study(study: Path, tmp_path: Path, trial: int) -> None:
    """Bit for bit, float32, repeated trials and four inputs included."""
    field = TrialReader.of(study).part("fields", TrialReader.of(study).row(PLAIN if trial == REPEATED else trial))
    table = pa.table({"xcoord": field["x_mm"], "ycoord": field["y_mm"], "elocal": field["local"]})
    file, out = tmp_path / "gauss.parquet", tmp_path / "predicted.parquet"
    pq.write_table(table.append_column("g", pa.array(np.full(len(table), 8.0))), file)
    assert invoke("predict", study, trial, file, "-o", out).exit_code == 0
    predicted = pq.read_table(out)
    assert predicted["predicted"].to_pylist() == field["predicted"].tolist()
    assert not any(predicted["extrapolated"].to_pylist())
    assert predicted.schema.field("predicted").metadata == {b"unit": b"1"}


def test_every_row_and_column_of_the_points_comes_back(study: Path, points: Path) -> None:
    done = invoke("predict", study, PLAIN, points)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    expected = network_of(study, PLAIN).predict([10, 50, 120], [20, 50, 5])
    assert [float(row["predicted"]) for row in rows] == expected.tolist()
    assert [row["extrapolated"] for row in rows] == ["false", "false", "true"]
    assert "1 of 3 points lie outside the region of training" in done.stderr


def test_cells_that_are_no_input_come_back_as_they_were_written(study: Path, tmp_path: Path) -> None:
    rows = [
        ["id", "label", "when", "serial", "t", "x_mm", " y_mm", "v"],
        ["0007", "NA", "1e3", "12345678901234567890", "01:30", "10", "20", "-0.50"],
        ["0012", "null", "2.50", "2", "02:30:10", "30.5", "40", "=1+1"],
    ]
    file, out = tmp_path / "points.csv", tmp_path / "out.csv"
    file.write_text("\n".join(",".join(row) for row in rows) + "\n")
    assert invoke("predict", study, PLAIN, file, "-o", out).exit_code == 0
    for text in (out.read_text(), invoke("predict", study, PLAIN, file).stdout):
        (head, *cells) = csv.reader(io.StringIO(text))
        assert head == [*(name.strip() for name in rows[0]), "predicted", "extrapolated"]
        assert [row[:-2] for row in cells] == rows[1:]


def test_points_in_other_formats(study: Path, points: Path, tmp_path: Path) -> None:
    plain = list(csv.DictReader(io.StringIO(invoke("predict", study, PLAIN, points).stdout)))
    np.savez(tmp_path / "points.npz", xcoord=[10, 50, 120], ycoord=[20, 50, 5])
    (tmp_path / "points.tsv").write_text("x_mm\ty_mm\n10,0\t20\n50,0\t50\n120,0\t5\n")
    for name in ("points.npz", "points.tsv"):
        other = list(csv.DictReader(io.StringIO(invoke("predict", study, PLAIN, tmp_path / name).stdout)))
        assert [row["predicted"] for row in other] == [row["predicted"] for row in plain]


def test_the_gradient_and_json(study: Path, points: Path) -> None:
    rows = json.loads(invoke("predict", study, PLAIN, points, "--gradient", "--json").stdout)
    expected = network_of(study, PLAIN).gradient([10, 50, 120], [20, 50, 5])
    assert [[row["predicted_x_per_mm"], row["predicted_y_per_mm"]] for row in rows] == expected.tolist()


def test_an_ensemble_is_mean_and_spread_over_the_replicates(tmp_path: Path, points: Path) -> None:
    study_dir = sampled(tmp_path, "search.replicates=3", trials=1)
    rows = json.loads(invoke("predict", study_dir, 0, points, "--ensemble", "--json").stdout)
    predictions = np.stack([network_of(study_dir, 0, r).predict([10, 50, 120], [20, 50, 5]) for r in range(3)])
    assert [row["predicted"] for row in rows] == predictions.mean(axis=0).tolist()
    assert [row["predicted_std"] for row in rows] == pytest.approx(predictions.std(axis=0, ddof=1))
    assert [row["predicted_max"] for row in rows] == predictions.max(axis=0).tolist()
    assert members([{"replicate": 0, "state": "FAIL"}, {"replicate": 1, "state": "COMPLETE"}]) == [1]


def test_a_local_strain_ten_times_too_large_is_noticed(study: Path, tmp_path: Path) -> None:
    largest = network_of(study, FOUR_INPUTS).problem.point_sets[0].values["elocal"].max()
    file = tmp_path / "points.csv"
    file.write_text(f"x_mm,y_mm,g_mm2,elocal\n10,20,8,{10 * largest}\n")
    complaint = invoke("predict", study, FOUR_INPUTS, file).stderr
    assert "10 times the largest value in training: divide it by 10 if" in complaint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "lack a column x_mm or xcoord"),
        ("x_mm,xcoord,y_mm\n1,1,2\n", "both x_mm and xcoord"),
        ("x_mm,y_mm\n1,here\n", "points.csv, line 2, column y_mm: 'here' is not a number"),
        ("x_mm,y_mm\n1,2\n3,\n", "line 3, column y_mm is empty"),
        ("x_mm,y_mm,x_mm\n1,2,3\n", "has the column x_mm twice"),
        ("x_mm,y_mm,predicted\n1,2,3\n", "already have a column predicted"),
        ("x_mm,y_mm\n", "has a header but no rows"),
        ("", "is empty"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(study: Path, tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "points.csv"
    file.write_text(content)
    assert message in errors_of(invoke("predict", study, PLAIN, file))


def test_what_cannot_be_done_is_said_before_anything_is_written(study: Path, points: Path, tmp_path: Path) -> None:
    existing = tmp_path / "there.csv"
    existing.write_text("mine")
    assert "exists already" in errors_of(invoke("predict", study, PLAIN, points, "-o", existing))
    assert existing.read_text() == "mine"
    assert invoke("predict", study, PLAIN, points, "-o", existing, "--force").exit_code == 0
    assert existing.read_text() != "mine"
    assert "must end in one of" in errors_of(invoke("predict", study, PLAIN, points, "-o", tmp_path / "a.txt"))
    assert "does not exist" in errors_of(invoke("predict", study, PLAIN, tmp_path / "none.csv"))
    assert "failed (The loss passed" in errors_of(invoke("predict", study, EXPLODING, points))
    assert "every replicate of trial 4 failed" in errors_of(invoke("predict", study, EXPLODING, points, "--ensemble"))
    assert "lack a column g_mm2 or g" in errors_of(invoke("predict", study, FOUR_INPUTS, points))


def test_changed_data_are_refused(tmp_path: Path, points: Path) -> None:
    study_dir = sampled(tmp_path, trials=1)
    table = tmp_path / "data" / "g.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    assert "have changed since it was trained" in errors_of(invoke("predict", study_dir, 0, points))
    table.unlink()
    assert "does not exist" in errors_of(invoke("predict", study_dir, 0, points))
