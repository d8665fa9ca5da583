"""A second problem goes from study file to page without a line changed elsewhere: its class is all there is to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import sweeps
from sweeps.dashboard.pictures import PICTURES, trial_picture
from sweeps.dashboard.storage import StudyStorage
from sweeps.storage.stored_tables import tables_of
from sweeps.study.loading import load_spec
from sweeps.study.problems import study_schema

from .invoking import errors_of, invoke
from .problems import WIND, WIND_FILE
from .small import assert_same_tables, kill, prepare, run_all, train_all

STUDY = """\
study: windy
problem: {name: "FILE:Wind", points: 64, condition_points: 32}
search: {sampler: qmc, trials: 6, objective: worst, seed: 1, replicates: 2}
space:
  width: {choice: [4, 6]}
  diffusivity: {loguniform: [0.05, 0.5]}
train: {depth: 2, epochs: 60, iterations: 60, adam_lr: 1.0e-2, record_every: 10, keep_epochs: [0]}
resources: {pack: 4}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("file") / "windy.yaml"
    file.write_text(STUDY.replace("FILE", str(WIND_FILE)))
    return file


@pytest.fixture(scope="module")
def study(file: Path) -> Path:
    """The study, trained without interruption."""
    study_dir, _ = prepare(file.parent / "whole", load_spec(file))
    assert run_all(study_dir, segment_s=5.0) == {"COMPLETE": 6, "FAIL": 0, "PRUNED": 0, "RUNNING": 0, "WAITING": 0}
    return study_dir


def test_the_file_is_checked_by_its_settings_and_metrics(file: Path) -> None:
    assert "6 trials by qmc, sweeping width, diffusivity" in invoke("validate", file).output
    assert "6 by qmc" in invoke("plan", file, "--no-calibrate").output
    for override, message in (
        ("search.objective=paper_metric", "must be one of rel_l2, worst, loss"),
        ("problem.difusivity=1", "diffusivity"),
        ("problem.diffusivity=-1", "greater than 0"),
        ("problem.boundary_weight=1", "unknown"),
    ):
        assert message in errors_of(invoke("validate", file, "--set", override)).replace("\n", " "), override
    assert "NonlocalStrain" in json.dumps(study_schema()) and "PACKAGE.MODULE:CLASS" in json.dumps(study_schema())


def test_tables_have_its_columns_with_units(study: Path) -> None:
    rows = pq.read_table(study / "trials").to_pylist()
    assert {row["problem"] for row in rows} == {WIND.name} and len(rows) == 12
    assert all(0 < row["worst"] < 1 and row["rel_l2"] > 0 and row["loss_walls"] > 0 for row in rows)
    assert len({row["data_hash"] for row in rows}) == 1 and len({row["diffusivity"] for row in rows}) == 6
    units = {
        name: (pq.read_schema(next(study.glob("fields/*.parquet"))).field(name).metadata or {}).get(b"unit")
        for name in ("a_m", "b_m", "predicted", "reference")
    }
    assert units == {"a_m": b"m", "b_m": b"m", "predicted": b"K", "reference": b"K"}
    trials = pq.read_schema(next(study.glob("trials/*.parquet")))
    assert trials.field("worst").metadata[b"unit"] == b"K" and "elocal" not in trials.names
    curves = pq.read_table(study / "curves")
    assert {"loss_heat", "loss_walls"} <= set(curves.column_names) and "loss_lrb" not in curves.column_names


def test_commands_read_it(study: Path, tmp_path: Path) -> None:
    top = invoke("top", study).output
    assert "worst" in top and "diffusivity" in top and "rel_l2" in top
    best = json.loads(invoke("top", study, "--json").output)
    ranked = best["trials"] if isinstance(best, dict) else best
    assert ranked[0]["worst"] == min(row["worst"] for row in ranked)
    shown = invoke("show", study, 0).output
    assert "worst" in shown and "diffusivity" in shown and "loss_walls" in shown
    assert "least" in invoke("query", study, "SELECT min(worst) AS least FROM trials").output
    for command in (
        ["compare", f"{study}/0", f"{study}/1"],
        ["effects", study],
        ["status", study],
        ["retrain", study, 0],
    ):
        result = invoke(*command)
        assert result.exit_code == 0, (command, result.output)
    assert invoke("export", study, "-o", tmp_path / "tables").exit_code == 0


def test_the_report_shows_its_field(study: Path, tmp_path: Path) -> None:
    result = invoke("report", study, "-o", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    assert re.search(r"Temperature \(K\) at [0-9,]+ points", page) and "worst" in page and "Traps" in page
    names = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert {"field-predicted", "field-reference", "field-error", "training-best"} <= names
    assert "strain" not in page.lower()


def test_its_network_is_evaluated_and_written(study: Path, tmp_path: Path) -> None:
    network = sweeps.open(study).network(0)
    points = pa.table({"a_m": [0.25, 0.75], "b_m": [0.5, 0.5], "note": ["x", "y"]})
    pyarrow.csv.write_csv(points, tmp_path / "points.csv")
    result = invoke("predict", study, 0, tmp_path / "points.csv", "--gradient", "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    predicted = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert predicted.column_names[3:6] == ["predicted", "predicted_a_per_m", "predicted_b_per_m"]
    values = network.predict([0.25, 0.75], [0.5, 0.5])
    assert np.allclose(predicted["predicted"].to_numpy(), values, rtol=1e-12)
    assert np.abs(values - [0.125, 0.375]).max() < 0.3
    assert np.isfinite(network.residual([0.3], [0.3])).all()
    assert invoke("weights", study, 0, "-o", tmp_path / "network.npz").exit_code == 0
    about = json.loads(str(np.load(tmp_path / "network.npz")["pinnsweep"]))
    assert [column["name"] for column in about["inputs"]] == ["a_m", "b_m"]


def test_the_dashboard_shows_it(study: Path) -> None:
    storage = StudyStorage(study)
    storage.look()
    assert all("worst" in trial.user_attrs for trial in storage.get_all_trials(storage.get_study_id_from_name("windy")))
    for picture in PICTURES:
        assert trial_picture(tables_of(study), picture, 0, 0).startswith(b"\x89PNG")


def test_interrupted_it_goes_on_to_the_same_tables(study: Path, file: Path) -> None:
    again, _ = prepare(file.parent / "again", load_spec(file))
    kill(train_all(again, segment_s=0.0, least=2))
    run_all(again, segment_s=5.0)
    assert_same_tables(study, again)
