"""Where the error of a trial comes from: the command, what it keeps for the report, and trials without a budget."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pinncore.budget import approximation
from sweeps.query.query import best_trial
from sweeps.report.budget import error_budget as section
from sweeps.report.data import at_one_moment
from sweeps.report.gallery import Gallery
from sweeps.study.loading import load_spec
from sweeps.trial import error_budget
from sweeps.trial.tables import TrialReader

from ..invoking import errors_of, invoke
from ..small import prepare, run_all, write_study
from ..trained_studies import EXPLODING, FIRST_ONLY, LISTED, PLAIN, REPEATED, every_end

PARTS = ["approximation", "formulation", "optimisation", "between the points"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximation, "EPOCHS", 30)
    monkeypatch.setattr(approximation, "ITERATIONS", 20)


@pytest.fixture
def study(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, for the command keeps its result in the folder."""
    return Path(shutil.copytree(every_end(tmp_path_factory), tmp_path / "every-end"))


def test_the_parts_are_printed_and_kept(study: Path) -> None:
    done = invoke("error-budget", study, PLAIN)
    assert done.exit_code == 0
    row = TrialReader.of(study).row(PLAIN)
    assert f"trial {PLAIN}, replicate 0: rel_l2 {100 * row['rel_l2']:.4g} %" in done.stdout
    assert all(f"\n  {part} " in done.stdout for part in PARTS)
    assert "do not add up exactly" in done.stdout
    record = json.loads(invoke("error-budget", study, REPEATED, "--json").stdout)
    assert (record["trial"], record["replicate"]) == (PLAIN, 0), "a repetition has the network of the other"
    assert record["rel_l2"] == row["rel_l2"] and record["loss"] == row["loss"]
    assert [part["part"] for part in record["parts"]] == PARTS
    assert record["residual_between_points"] == row["heldout_residual"]
    kept = error_budget.kept(study, row)
    assert kept is not None and [line.part for line in kept.lines] == PARTS
    assert kept.lines[1].rel_l2 == record["minimisers"][-1]["rel_l2"]
    assert f"Look first at: {kept.largest}. {kept.advice}" in done.stdout


def in_report(study: Path) -> tuple[str, dict[str, bytes]]:
    """Return the section of the report, and its pictures by the names of their files."""
    gallery = Gallery("svg")
    return at_one_moment(study, lambda read: str(section(read, read.best or {}, gallery))), gallery.files


def test_the_report_shows_what_was_kept_of_the_same_training(study: Path) -> None:
    best = best_trial(study)
    command = f"pinnsweep error-budget small {best}"
    text, pictures = in_report(study)
    assert command in text and "Look first at" not in text and not pictures
    assert invoke("error-budget", study, "best").exit_code == 0
    text, pictures = in_report(study)
    assert "Look first at" in text and command not in text
    assert list(pictures) == ["error-budget.svg"]
    (file,) = (study / error_budget.FOLDER).iterdir()
    whole = json.loads(file.read_text())
    for damaged in ("{", "[]", json.dumps(whole | {"parts": 3}), json.dumps(whole | {"training": {}})):
        file.write_text(damaged)
        assert error_budget.kept(study, TrialReader.of(study).row(best)) is None


def test_a_folder_that_cannot_be_written_to_does_not_stop_it(study: Path) -> None:
    (study / error_budget.FOLDER).write_text("a file")
    done = invoke("error-budget", study, FIRST_ONLY)
    assert done.exit_code == 0 and "Look first at" in done.stdout
    assert "the report cannot show this" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([EXPLODING], "failed"),
        ([LISTED], f"has no trial {LISTED}"),
        ([PLAIN, "--replicate", 4], "has no finished replicate 4"),
        (["first"], "first"),
    ],
)
def test_trials_without_a_budget(study: Path, words: list[object], message: str) -> None:
    done = invoke("error-budget", study, *words)
    assert done.exit_code == 2
    assert message in errors_of(done)


def test_a_trial_without_weights(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialReader, "kept_weights", lambda *_: {})  # as with results: {weights: none}
    assert "kept no weights" in errors_of(invoke("error-budget", study, PLAIN))


def test_a_trial_without_reference(tmp_path: Path) -> None:
    file = write_study(tmp_path / "data", trials=1, epochs=3, iterations=0)
    points = tmp_path / "data" / "g.csv"
    rows = [line.split(",") for line in points.read_text().splitlines()]
    points.write_text("\n".join(",".join(row[: rows[0].index("enonlocal_true")]) for row in rows))
    unknown, _ = prepare(tmp_path / "unknown", load_spec(file, ["search.objective=loss"]))
    run_all(unknown, segment_s=5.0)
    message = errors_of(invoke("error-budget", unknown, 0))
    assert "an error budget needs a reference" in message and "Add the column enonlocal_true" in message
