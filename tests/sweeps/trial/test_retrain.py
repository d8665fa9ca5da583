"""A trial trained again alone: the same bit for bit, or where it parts and why; the study stays as it was."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.errors import StudyError
from sweeps.query.ranking import Ranking
from sweeps.study.initial_weights import trial_weights
from sweeps.trial.compare import reasons
from sweeps.trial.retrain import retrain
from sweeps.trial.tables import TrialReader, network_of

from ..invoking import errors_of, invoke
from ..trained_studies import EXPLODING, FIRST_ONLY, FROM_FILE, LISTED, PLAIN, POISONED, REPEATED, every_end, sampled


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_end(tmp_path_factory)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two replicates of trials that end when they no longer improve, of different width in one pack."""
    pruner = "search.pruner={kind: patience, patience: 0.2, min_improvement: 0.1}"
    folder = tmp_path_factory.mktemp("patient")
    return sampled(folder, pruner, "search.replicates=2", trials=3, epochs=40, iterations=12, pack=4)


def row_of(study_dir: Path, trial: int, replicate: int = 0) -> dict[str, Any]:
    return TrialReader.of(study_dir).row(trial, replicate)


def digests(study_dir: Path) -> dict[str, str]:
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in study_dir.rglob("*") if file.is_file()}


@pytest.mark.parametrize("trial", range(LISTED))
def test_every_end_comes_again_bit_for_bit(study: Path, trial: int) -> None:
    before = digests(study)
    retrained = retrain(study, trial)
    assert retrained.same, (retrained.first, retrained.ends)
    assert (
        retrained.state == row_of(study, trial)["state"] == ("FAIL" if trial in (EXPLODING, POISONED) else "COMPLETE")
    )
    assert digests(study) == before, "the study is not changed"
    if trial != POISONED:
        assert retrained.compared["curve_rows"] >= 1 and retrained.compared["kept_epochs"] == 2
        assert retrained.compared["field_points"] == (0 if trial == EXPLODING else 200)


def test_replicates_out_of_a_mixed_pack_and_pruned_ones_come_again(patient: Path) -> None:
    rows = [row_of(patient, trial, replicate) for trial in range(3) for replicate in range(2)]
    assert len({row["width"] for row in rows}) > 1 and {row["state"] for row in rows} >= {"PRUNED"}
    for row in rows:
        retrained = retrain(patient, row["trial"], row["replicate"])
        assert retrained.same, (row["trial"], row["replicate"], retrained.first, retrained.ends)
        assert retrained.state == row["state"]
        assert retrained.result is not None and retrained.result.counts["evaluations"] == row["evaluations"]


def test_the_best_held_out_weights_are_the_result_everywhere(tmp_path: Path) -> None:
    """In the row, in the table weights, for commands and for other studies, and again when trained anew."""
    over_fitted = ("problem.loss=mean_square", "train.second_stage=ssbroyden", "train.final_weights=best_heldout")
    space = 'space={"adam_lr": {"choice": [0.01]}}'
    study_dir = sampled(tmp_path, *over_fitted, space, "train.width=8", trials=1, epochs=20, iterations=90)
    row, reader = row_of(study_dir, 0), TrialReader.of(study_dir)
    assert row["stop_reason"] == "held_out_stalled" and row["state"] == "COMPLETE"
    assert 20 < row["kept_at"] == 20 + row["iterations_done"] - 50
    weights = reader.kept_weights(row)
    assert sorted(weights) == [0, row["kept_at"]]
    assert int(reader.part("curves", row)["step"].max()) == row["iterations_done"], "the curve goes on"
    taken = np.concatenate([array.ravel() for array in trial_weights(study_dir, 0).values()])
    assert np.array_equal(taken, weights[row["kept_at"]])
    metrics = network_of(study_dir, 0).metrics()
    assert {name: row[name] for name in metrics} == metrics
    retrained = retrain(study_dir, 0)
    assert retrained.same and retrained.result is not None
    assert retrained.result.counts["kept_at"] == row["kept_at"]


def test_a_trial_that_repeats_another_stands_for_it(study: Path) -> None:
    assert retrain(study, REPEATED).row["trial"] == PLAIN
    assert "trial 3 repeats trial 0" in invoke("retrain", study, REPEATED).stdout


def test_another_engine_parts_and_says_where_and_why(study: Path) -> None:
    retrained = retrain(study, PLAIN, engine="reference")
    assert not retrained.same and retrained.first is not None
    assert retrained.first.where.endswith("of the first stage") and 0 < (retrained.first.relative or 0) < 1e-9
    assert {difference.quantity for difference in retrained.ends} >= {"rel_l2", "grad_norm"}
    assert retrained.reasons == ("engine: fused in the study, reference here",)


def test_the_command_says_it_with_its_exit_code(study: Path) -> None:
    same, different = invoke("retrain", study, PLAIN), invoke("retrain", study, PLAIN, "--engine", "torch")
    assert same.exit_code == 0 and "the same, bit for bit" in same.stdout
    assert different.exit_code == 1 and "different" in different.stdout
    assert (
        re.search("first difference at step [0-9]+ of the first stage", different.stdout)
        and "why: engine: fused in the study" in different.stdout
    )
    answer = json.loads(invoke("retrain", study, PLAIN, "--engine", "torch", "--json").stdout)
    assert answer["same"] is False and answer["first"]["relative"] > 0 and answer["differences"] and answer["reasons"]


def test_a_failed_one_fails_again_where_the_study_was_moved_to(study: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(study, tmp_path / "small"))
    assert retrain(moved, POISONED).same and retrain(moved, FROM_FILE).same
    assert "it fails here too: init: W2" in invoke("retrain", moved, POISONED).stdout
    shutil.rmtree(moved / "initial_weights")
    with pytest.raises(StudyError, match="has no copy of them"):
        retrain(moved, FROM_FILE)


def test_one_that_no_longer_fails_is_different(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = row_of(study, PLAIN) | {
        "state": "FAIL",
        "failure": "out of memory, alone in its pack",
        "stop_reason": None,
    }
    monkeypatch.setattr("sweeps.trial.tables.TrialReader.row", lambda *which: real)
    retrained = retrain(study, PLAIN)
    assert not retrained.same and retrained.state == "COMPLETE"
    assert {(difference.quantity, difference.here) for difference in retrained.ends} == {("failure", None)}


def test_one_without_its_objective_fails_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = "the objective mean_abs_du_de could not be computed"
    failed = row_of(study, PLAIN) | {"state": "FAIL", "failure": failure}
    monkeypatch.setattr("sweeps.trial.tables.TrialReader.row", lambda *which: failed)
    monkeypatch.setattr("sweeps.trial.retrain.ranking_of", lambda study_file: Ranking(objectives=("mean_abs_du_de",)))
    assert retrain(study, PLAIN).same and retrain(study, PLAIN).state == "FAIL"


def test_the_network_is_kept(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "again.npz"
    assert invoke("retrain", study, PLAIN, "-o", file).exit_code == 0
    with np.load(file) as arrays:
        assert np.array_equal(arrays["W1"].ravel(), network_of(study, PLAIN).parameters[:10])
    file.write_text("mine")
    assert "exists already" in errors_of(invoke("retrain", study, PLAIN, "-o", file))
    assert file.read_text() == "mine"
    assert invoke("retrain", study, PLAIN, "-o", file, "--force").exit_code == 0
    assert file.read_bytes()[:2] == b"PK"


def test_weights_that_were_not_kept_are_made_anew(tmp_path: Path) -> None:
    study_dir = sampled(tmp_path, "results={weights: none, fields: none}", trials=1)
    assert "results.weights: none" in errors_of(invoke("weights", study_dir, 0, "-o", tmp_path / "a.npz"))
    done = invoke("retrain", study_dir, 0, "-o", tmp_path / "b.npz")
    assert done.exit_code == 0 and "sets of weights" not in done.stdout and (tmp_path / "b.npz").is_file()


def test_trials_that_are_not_there_or_were_never_trained_are_refused(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no trial 99; its finished trials are 0 to 7" in errors_of(invoke("retrain", study, 99))
    assert "no finished replicate 3; finished: 0" in errors_of(invoke("retrain", study, 0, "--replicate", 3))
    untrained = row_of(study, PLAIN) | {"seed": None, "failure": "cannot be set up"}
    monkeypatch.setattr("sweeps.trial.tables.TrialReader.row", lambda *which: untrained)
    with pytest.raises(StudyError, match=r"never trained \(cannot be set up\)"):
        retrain(study, PLAIN)


def test_every_known_reason_is_named(study: Path) -> None:
    row: dict[str, Any] = row_of(study, FIRST_ONLY)
    result, (settings, _) = retrain(study, FIRST_ONLY).result, TrialReader.of(study).settings_of(row)
    assert reasons(row, result, settings) == (
        "no reason is known: equal code, libraries and machine should give equal numbers",
    )
    changed = {"torch_version": "1.0", "host": "elsewhere", "device": "cuda", "data_hash": "0" * 64, "rebatched": True}
    text = " ".join(reasons(row | changed | {"engine_used": "torch"}, result, settings))
    for word in (
        "PyTorch: 1.0 in",
        "machine: elsewhere in",
        "device: cuda in",
        "data: hash 000",
        "rebatched",
        "engine: torch",
    ):
        assert word in text
