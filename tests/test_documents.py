"""The founding documents: every line of their tables holds, and docs/documents.md shows these tables."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sweeps

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "documents"
PAGE = (ROOT / "docs" / "documents.md").read_text()
MAIN = FOLDER / "__main__.py"
HELPERS = {"__main__", "neuron", "overview", "table"}
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in HELPERS)


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[None]:
    """Scripts import their neighbours, as they do when they are run."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def script(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name in ("jax", "tensorflow"):
            pytest.skip(f"needs {missing.name}")
        raise


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_line_of_a_script_holds_and_is_in_the_docs(name: str) -> None:
    rows = script(name).rows()
    assert rows
    whats = [row.what for row in rows]
    assert len(set(whats)) == len(whats)
    broken = [(row.what, row.printed, row.ours) for row in rows if not row.holds]
    assert not broken
    section = PAGE.partition(f"[{name}.py](../examples/documents/{name}.py)\n\n")[2].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in section.splitlines()[2:]]
    expected = [[row.what, row.printed] for row in rows]
    assert [line[:2] for line in lines] == expected, "bring it up to date: python examples/documents --write"
    assert all(line[3] == "yes" for line in lines)


def test_the_folder_runs_all_scripts() -> None:
    assert sorted(runpy.run_path(str(MAIN))["SCRIPTS"]) == SCRIPTS


def test_a_script_that_does_not_exist_is_named() -> None:
    run = subprocess.run([sys.executable, str(FOLDER), "fizbus"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "there is no fizbus: choose of " in run.stderr and "fizbuz" in run.stderr


def test_a_line_that_does_not_hold_is_seen() -> None:
    table = script("table")
    row = table.equal("half", "0.50", 0.506)
    assert not row.holds and "**no**" in table.markdown([row])
    assert table.equal("half", "0.50", 0.5049).holds
    assert table.equal("small", "-1.5e-04", -1.549e-4).ours == "-1.5e-04"
    with pytest.raises(SystemExit, match="1"):
        table.show([row])


def test_the_starts_of_the_predictions_are_those_of_their_families() -> None:
    made = script("slides_predictions").starts()
    with np.load(FOLDER / "slides_starts.npz") as kept:
        assert set(kept.files) == set(made)
        for name, array in made.items():
            np.testing.assert_array_equal(kept[name], array)


def test_another_study_is_not_read_as_the_predictions(tmp_path: Path) -> None:
    finished = script("slides_predictions").finished
    with pytest.raises(sweeps.StudyError, match="there is no study in"):
        finished(tmp_path)
    (tmp_path / "study.yaml").write_text("study: other\nproblem: {name: poisson}\nsearch: {trials: 1}\n")
    with pytest.raises(sweeps.StudyError, match="is not the study slides-predictions"):
        finished(tmp_path)


@pytest.mark.slow
def test_the_study_of_the_predictions(tmp_path: Path) -> None:
    """The study runs, shortened, and the script reads it."""
    short = ("train.epochs=2", "train.iterations=1", "train.max_evaluations=9", "train.keep_epochs=[0]")
    study = FOLDER / "slides_predictions.yaml"
    command = [sys.executable, "-m", "sweeps.cli", "run", str(study), "--root", str(tmp_path), "--plain"]
    command += [part for value in short for part in ("--set", value)]
    subprocess.run(command, check=True, timeout=300)
    rows = script("slides_predictions").finished(tmp_path / "slides-predictions")
    assert len(rows) == 8
