"""What results say, from Python: the text of the command, HTML that escapes, data frames, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import sweeps

from ..invoking import invoke, made_study
from ..synthetic import make_study
from ..trained_studies import PLAIN, every_end


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> sweeps.Study:
    folder = tmp_path_factory.mktemp("root") / "demo"
    make_study(folder, trials=16, failed=2)
    return sweeps.Study(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> sweeps.Study:
    return sweeps.Study(every_end(tmp_path_factory))


def same_as(said: sweeps.Assessment, *command: object) -> bool:
    """Whether an assessment is what the command prints, as text and as JSON."""
    text, record = invoke(*command), invoke(*command, "--json")
    assert text.exit_code == record.exit_code == 0, text.output
    return (f"{said}\n", said.record) == (text.stdout, json.loads(record.stdout))


def test_top_is_that_of_the_command(study: sweeps.Study) -> None:
    best = study.top(3)
    assert same_as(best, "top", study.path, "-n", 3)
    frame = best.to_pandas()
    assert len(frame) == 3 and frame["rel_l2"].is_monotonic_increasing
    assert frame["rel_l2"][0] == study.trials()["rel_l2"].to_numpy().astype(float)[frame["trial"][0]]
    assert best.notes and all(note in repr(best) and note in best._repr_html_() for note in best.notes)
    assert best._repr_html_().count("<tr>") == 4
    assert study.top(16, by="seconds").to_pandas()["seconds"].is_monotonic_increasing
    with pytest.raises(sweeps.QueryError, match="must be at least 1, got 0"):
        study.top(0)
    with pytest.raises(sweeps.QueryError, match="init"):
        study.top(by="init")


def test_effects_are_those_of_the_command(study: sweeps.Study) -> None:
    said = study.effects()
    assert same_as(said, "effects", study.path)
    values, importance = said.to_pandas(), said.to_pandas("importance")
    assert set(values["dimension"]) == set(importance["name"]) == set(study.spec.space)
    assert importance["share"].sum() == pytest.approx(1.0)
    assert said._repr_html_().count("<table>") == 2
    with pytest.raises(sweeps.QueryError, match=r"there is no table 'x' here\. Its tables are values, importance"):
        said.to_pandas("x")


def test_trials_are_compared_as_by_the_command(study: sweeps.Study) -> None:
    complete = [row["trial"] for row in study.trials().filter(state="COMPLETE").to_pylist()]
    said = study.compare_trials(complete[0], complete[1])
    assert same_as(said, "compare", study.path / str(complete[0]), study.path / str(complete[1]))
    metrics = said.to_pandas().set_index("metric")
    assert metrics["ratio"]["rel_l2"] == pytest.approx(metrics["first"]["rel_l2"] / metrics["second"]["rel_l2"])
    assert "adam_lr" in set(said.to_pandas("settings")["setting"])
    assert study.compare_trials("best", complete[1], of=study.path).record["second"] == f"demo/{complete[1]}"
    with pytest.raises(sweeps.QueryError, match="no finished trial 99"):
        study.compare_trials(0, 99)


def test_studies_are_compared_and_ranked_together(study: sweeps.Study, tmp_path: Path) -> None:
    make_study(tmp_path / "other", trials=8, failed=0)
    other = sweeps.Study(tmp_path / "other")
    said = study.compare(other)
    assert same_as(said, "compare", study.path, other.path)
    assert said.record == study.compare(other.path).record and "rel_l2" in set(said.to_pandas()["metric"])
    assert set(sweeps.open(study.path, other.path).top(20).to_pandas()["study"]) <= {"demo", "other"}
    with pytest.raises(sweeps.QueryError, match="two different studies are needed"):
        study.compare(study)


def test_nothing_to_judge_is_said(tmp_path: Path) -> None:
    empty = sweeps.Study(made_study(tmp_path, "begun", ["WAITING", "RUNNING"]))
    assert repr(empty.top()) == "No configuration has a finite rel_l2 yet." and empty.top().to_pandas().empty
    other = sweeps.Study(made_study(tmp_path, "other", ["COMPLETE"]))
    assert "nothing to compare" in repr(empty.compare(other)) and empty.compare(other).to_pandas().empty


def test_the_error_budget_is_kept_for_the_report(trained: sweeps.Study) -> None:
    said = trained.error_budget(PLAIN)
    assert list(said.to_pandas()["part"]) == ["approximation", "formulation", "optimisation", "between the points"]
    assert said.record["largest"] in said.notes[0] and said.notes[0] in repr(said)
    assert (trained.path / "error_budgets" / f"{PLAIN}-0.json").is_file() and "<table>" in said._repr_html_()


def test_text_of_others_is_escaped(tmp_path: Path) -> None:
    """A study file may hold any text, which a notebook must not execute."""
    hostile = "file:<img src=x onerror=alert(1)>.npz"
    made = made_study(tmp_path, "first", ["COMPLETE"])
    other = made_study(tmp_path, "second", ["COMPLETE"])
    text = (other / "study.yaml").read_text()
    (other / "study.yaml").write_text(re.sub(r"\n  init: \w+", f"\n  init: '{hostile}'", text))
    assert hostile in (other / "study.yaml").read_text()
    page = sweeps.Study(made).compare(other)._repr_html_()
    assert "&lt;img" in page and "<img" not in page
