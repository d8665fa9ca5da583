"""What docs/trials.md tells a reader to type works, in the order of the page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from pinncore.budget import approximation
from sweeps.study.loading import load_spec
from sweeps.trial.tables import network_of
from tests.pages import DOCS, blocks, lines_of

from ..invoking import invoke
from ..small import prepare, run_all, write_study

PAGE = DOCS / "trials.md"
COMMANDS = [line for block in blocks(PAGE, "sh") for line in lines_of(block)]
DIFFERENT = "--engine torch"  # the one command that ends with exit code 1


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["study=widths", "search.replicates=2", "results.fields=none", "space.dtype={choice: [float32]}"]
    spec = load_spec(write_study(tmp_path / "data", trials=6, pack=6, epochs=4, iterations=3), overrides)
    run_all(prepare(tmp_path / "runs", spec)[0], segment_s=5.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(approximation, "EPOCHS", 10)
    monkeypatch.setattr(approximation, "ITERATIONS", 10)
    Path("points.csv").write_text("x_mm,y_mm\n10,20\n50,50\n")
    assert {line.split()[1] for line in COMMANDS} == {"show", "retrain", "predict", "weights", "error-budget"}
    for line in dict.fromkeys(COMMANDS):
        words = shlex.split(line, comments=True)[1:]
        done = invoke(*words)
        assert done.exit_code == (1 if DIFFERENT in line else 0), (line, done.output)
        if words[-1] == "network.npz":
            Path("network.npz").unlink()
    names: dict[str, Any] = {}
    for script in blocks(PAGE, "python"):
        exec(compile(script.text, "docs/trials.md", "exec"), names)
    expected = network_of(Path("runs/widths"), 5).predict([10.0, 50.0], [20.0, 50.0])
    assert names["strain"].tolist() == pytest.approx(expected.tolist(), rel=1e-5), "of the training, in float32"
