"""The example on scale factors: its equations and their errors are those of its text, and its query answers."""

from __future__ import annotations

from pathlib import Path

import pytest

import sweeps
from sweeps.study.loading import load_spec

from .small import prepare, run_all
from .spec.study_files import ROOT

SHORT = ("train.width=4", "train.epochs=4", "train.iterations=2", "train.record_every=1")


def test_its_equations_and_the_steps_to_an_equal_loss(tmp_path: Path) -> None:
    folder, _ = prepare(tmp_path, load_spec(ROOT / "examples" / "scale.yaml", SHORT))
    assert run_all(folder, segment_s=5.0)["COMPLETE"] == 9
    study, sql = sweeps.open(folder), (ROOT / "examples" / "scale.sql").read_text()
    rows = {(row["scale_scope"], row["scale_factor"]): row for row in study.sql(sql).to_pylist()}
    assert set(rows) == {(scope, s) for scope in ("elocal", "all", "consistent") for s in (1.0, 10.0, 100.0)}
    errors = {place: row["error_of_equation"] for place, row in rows.items() if row["error_of_equation"] is not None}
    assert errors == {("all", 10.0): pytest.approx(0.116, abs=5e-4), ("all", 100.0): pytest.approx(0.154, abs=5e-4)}
    g = study.sql("SELECT scale_scope, effective_g_mm2 AS g FROM trials WHERE scale_factor = 10").to_pylist()
    assert {row["scale_scope"]: row["g"] for row in g} == {"elocal": 8, "all": pytest.approx(0.8), "consistent": 8}
    (course,) = study.sql(
        "SELECT min(loss) / arg_min(loss, evaluations) AS share FROM curves WHERE trial = 6"
    ).to_pylist()
    assert rows["consistent", 1.0]["steps_to_loss"] is None, "a tenth was not reached"
    least = study.sql(sql.replace("share <= 0.1", f"share <= {course['share']!r}")).to_pylist()
    (row,) = (row for row in least if (row["scale_scope"], row["scale_factor"]) == ("consistent", 1.0))
    assert 4 < row["steps_to_loss"] <= 6, "after four epochs, in one of two iterations"
    assert row["evaluations_to_loss"] > 4 and row["seconds_to_loss"] > 0
