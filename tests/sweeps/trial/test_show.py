"""All about one trial: what is told of complete, failed, pruned, repeated and unfinished ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.own_name import own_name
from sweeps.query.query import ranked_trials, trial_number
from sweeps.trial.show import about_trial, text
from sweeps.trial.tables import TrialReader, stage_ends

from ..invoking import errors_of, invoke, made_study
from ..problems import STRAIN
from ..synthetic import FAILURE, error_of, make_pruned_study, make_study
from ..trained_studies import every_end


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve complete trials of three replicates and two failed ones, made up."""
    folder = tmp_path_factory.mktemp("made") / "made"
    make_study(folder, trials=12, failed=2, replicates=3)
    return folder


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned") / "pruned"
    make_pruned_study(folder, replicates=3)
    return folder


def shown_text(place: Path, trial: int, **options: Any) -> str:
    return text(about_trial(place, trial, **options), STRAIN.record)


def test_a_complete_trial_has_its_rank_settings_and_spread(study: Path) -> None:
    about, ranked = about_trial(study, 4), ranked_trials([study], limit=99)["trial"].to_pylist()
    assert about["rank"] == {"place": ranked.index(4) + 1, "of": 12, "by": "rel_l2", "value": about["rank"]["value"]}
    assert list(about["settings"]["swept"]) == ["width", "depth", "adam_lr", "lbfgs_history", "init", "scale_factor"]
    assert about["settings"]["changed"]["lr_schedule"] == "cosine" and "momentum" in about["settings"]["default"]
    errors = sorted(error_of(4, replicate) for replicate in range(3))
    assert about["spread"]["rel_l2"] == {"middle": errors[1], "min": errors[0], "max": errors[2]}
    assert [replicate["seed"] for replicate in about["replicates"]] == [1004, 101004, 201004]
    assert about["kept"]["weights_epochs"] == [0, 50, 1000, 1500]


def test_best_stands_for_the_number_of_the_best_trial(study: Path, tmp_path: Path) -> None:
    best = ranked_trials([study], limit=1)["trial"][0].as_py()
    assert trial_number(study, "best") == best and trial_number(study, "4") == 4
    assert invoke("show", study, "best").stdout == invoke("show", study, best).stdout
    for wrong in ("bets", "1.0", "x3"):
        message = f"a trial is given by its number, 0 or more, or as best, got '{wrong}'"
        assert message in errors_of(invoke("show", study, wrong))
    failed = made_study(tmp_path, states=("FAIL", "PRUNED"))
    assert "no trial is complete, so there is no best trial" in errors_of(
        invoke("weights", failed, "best", "-o", "n.npz")
    )


@pytest.mark.parametrize(
    ("replicates", "objective"), [(1, "rel_l2"), (3, "rel_l2"), (1, "[process_zone_error, rel_l2]")]
)
def test_it_is_the_best_trial_of_the_status(tmp_path: Path, replicates: int, objective: str) -> None:
    make_study(tmp_path / "made", trials=9, failed=1, replicates=replicates, objective=objective)
    first = objective.strip("[").partition(",")[0]
    values = ranked_trials([tmp_path / "made"], first)[first].to_pylist()
    best = trial_number(tmp_path / "made", "best")
    assert ranked_trials([tmp_path / "made"], first)["trial"].to_pylist()[0] == best and values[0] == min(values[:9])


def test_the_phases_say_what_each_stage_did_and_where_its_loss_ended(study: Path) -> None:
    adam, lbfgs = about_trial(study, 4, 1)["phases"]
    assert (adam["optimiser"], adam["done"], adam["planned"], adam["evaluations"]) == ("adam", 1000, 1000, 1000)
    assert (lbfgs["phase"], lbfgs["done"], lbfgs["step"]) == ("second", 500, 500)
    assert adam["loss"] > lbfgs["loss"] > 0 and {"loss_residual", "loss_lrb", "loss_btb"} <= set(lbfgs)


def test_the_text_has_it_all(study: Path) -> None:
    output = shown_text(study, 4)
    for words in (
        "made, trial 4: COMPLETE, rel_l2",
        "rank ",
        "searched",
        "set by the study",
        "metrics over 3 replicates",
        "1000 of 1000",
        "at the end of each stage",
        "iterations_done: Give iterations more.",
        "host               node-1",
        "config_hash        000000000000",
        "asked pack 1",
        "weights at epochs 0, 50, 1000, 1500",
        f"{own_name()} retrain {study} 4",
    ):
        assert words in output
    assert "metrics (seed 101004)" in shown_text(study, 4, replicate=1)


def test_a_failed_trial_says_why_and_how_to_go_on(study: Path) -> None:
    output = shown_text(study, 12)
    assert "trial 12: FAIL" in output and f"failed: {FAILURE}" in output and f"{own_name()} retry {study} 12" in output
    assert about_trial(study, 12)["rank"] is None and "predict" not in output


def test_pruned_repeated_and_retried_trials_say_so(pruned: Path) -> None:
    assert "trial 21: PRUNED" in shown_text(pruned, 21) and "pruned" in shown_text(pruned, 21)
    assert "has the configuration of trial 0, whose results are shown" in shown_text(pruned, 35)
    assert about_trial(pruned, 35)["phases"] == about_trial(pruned, 0)["phases"]
    assert "retries trial 32, which failed" in shown_text(pruned, 34)
    assert "trial 3: COMPLETE" in shown_text(pruned, 3) and "∞" in shown_text(pruned, 3), (
        "a replicate of trial 3 failed"
    )
    assert about_trial(pruned, 3, 1)["state"] == "FAIL"
    assert about_trial(pruned, 21)["next"] == [f"{own_name()} retrain {pruned} 21 -o network.npz"], "kept no weights"


def test_a_trained_study_shows_every_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    study_dir = every_end(tmp_path_factory)
    shown = [shown_text(study_dir, trial) for trial in range(8)]
    assert "asked" in shown[0] and "leased pack" in shown[0] and "finished pack" in shown[0]
    assert "not finite" in shown[5] and "stages" not in shown[5]
    assert "lbfgs" not in shown[6].partition("stages")[2].partition("why it ended")[0]


def test_a_stage_ends_at_its_last_step_and_where_that_was_not_recorded_the_text_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    study_dir = every_end(tmp_path_factory)
    reader = TrialReader.of(study_dir)
    for trial in range(8):
        curve = reader.part("curves", reader.row(trial))
        begins = (curve["phase"] == "second") & (curve["step"] == 0)
        phases = {phase["phase"]: phase for phase in about_trial(study_dir, trial)["phases"]}
        if begins.any():
            assert phases["first"]["step"] == phases["first"]["done"]
            assert phases["first"]["loss"] == curve["loss"][begins].item()
        for phase in phases.values():
            is_recorded = phase.get("step") == phase["done"]
            assert is_recorded or f"{phase['step']}, the last recorded" in shown_text(study_dir, trial)


@pytest.mark.parametrize(
    ("phases", "steps", "ends"),
    [
        (["first", "first", "second", "second"], [0, 390, 0, 300], {"first": 2, "second": 3}),
        (["first", "first"], [0, 400], {"first": 1}),
        (["first", "second"], [0, 10], {"first": 0, "second": 1}),  # the row at step 0 is missing
        ([], [], {}),
    ],
)
def test_a_stage_ends_where_the_next_one_begins(phases: list[str], steps: list[int], ends: dict[str, int]) -> None:
    curve = {"phase": phases, "step": steps, "row": list(range(len(steps)))}
    assert {phase: row["row"] for phase, row in stage_ends(curve).items()} == ends


def test_a_trial_under_way_shows_what_is_known(tmp_path: Path) -> None:
    study_dir = made_study(tmp_path, states=("COMPLETE", "RUNNING", "WAITING"))
    assert "trial 1: RUNNING" in shown_text(study_dir, 1) and "adam_lr" in shown_text(study_dir, 1)
    assert about_trial(study_dir, 2)["state"] == "WAITING"


def test_the_command_prints_text_or_json(study: Path) -> None:
    assert invoke("show", study, 4).stdout.startswith("made, trial 4: COMPLETE")
    about = json.loads(invoke("show", study, 12, "--json").stdout)
    assert about["state"] == "FAIL" and about["replicates"][0]["failure"] == FAILURE
    assert "no trial 14; its finished trials are 0 to 13" in errors_of(invoke("show", study, 14))
    assert "no finished replicate 3; finished: 0, 1, 2" in errors_of(invoke("show", study, 4, "--replicate", 3))
