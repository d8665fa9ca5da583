"""Velocity and pressure of one network, from study file to tables, rankings, predictions and files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx.reference import ReferenceEvaluator

from sweeps.study.loading import load_spec
from sweeps.trial.tables import TrialReader

from .invoking import invoke
from .small import prepare, run_all

STUDY = """\
study: flow
problem: {name: kovasznay, points: 64, condition_points: 16}
search: {sampler: qmc, trials: 3, objective: rel_l2_v, seed: 1}
space: {width: {choice: [4, 6]}, reynolds: {uniform: [10, 30]}}
train: {depth: 2, epochs: 20, iterations: 20, keep_epochs: [], activation: tanh}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("file") / "flow.yaml"
    file.write_text(STUDY)
    study_dir, _ = prepare(file.parent / "whole", load_spec(file))
    assert run_all(study_dir, segment_s=5.0)["COMPLETE"] == 3
    return study_dir


def test_tables_have_every_output(study: Path) -> None:
    rows = pq.read_table(study / "trials").to_pylist()
    for row in rows:
        errors = [row[f"rel_l2_{name}"] for name in "uvp"]
        assert row["rel_l2"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-12)
        assert {"loss_momentum_x", "loss_momentum_y", "loss_mass", "loss_boundary_u", "loss_outflow"} <= row.keys()
    fields = pq.read_table(study / "fields").column_names
    assert fields[2:] == ["x", "y", *(f"{kind}_{name}" for name in "uvp" for kind in ("predicted", "reference"))]
    best = min(rows, key=lambda row: row["rel_l2_v"])["trial"]
    assert invoke("top", study).stdout.splitlines()[2].split()[0] == str(best)


def test_predictions_and_files_have_every_output(study: Path, tmp_path: Path) -> None:
    field = TrialReader.of(study).part("fields", TrialReader.of(study).row(0))
    points, model = tmp_path / "points.csv", tmp_path / "flow.onnx"
    places = range(0, len(field["x"]), 999)
    points.write_text("x,y\n" + "".join(f"{float(field['x'][i])!r},{float(field['y'][i])!r}\n" for i in places))
    done = invoke("predict", study, 0, points, "--gradient")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    for name in "uvp":
        found = [float(row[f"predicted_{name}"]) for row in rows]
        assert found == [field[f"predicted_{name}"][i] for i in places]
    assert {"predicted_u_x", "predicted_p_y"} <= rows[0].keys()
    assert invoke("weights", study, 0, "-o", model).exit_code == 0
    inputs = {name: np.array([float(row[name]) for row in rows]) for name in "xy"}
    outputs = ReferenceEvaluator(str(model)).run([f"predicted_{name}" for name in "uvp"], inputs)
    for name, values in zip("uvp", outputs, strict=True):
        np.testing.assert_allclose(values, [field[f"predicted_{name}"][i] for i in places], rtol=1e-12)
