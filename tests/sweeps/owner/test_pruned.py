"""Pruning in a study: pruned trials keep their rows, others take their places, a restart decides the same."""

from __future__ import annotations

import datetime
import math
import random
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pyarrow.dataset as ds
import pytest

import pinncore
from sweeps.owner.messages import PackProgress, PackReport, RungReached
from sweeps.owner.owner import StudyOwner
from sweeps.runner.pack_run import PackRun
from sweeps.runner.records import untrained
from sweeps.runner.worker import SlotWorker
from sweeps.search.learner import Learner
from sweeps.study.loading import load_spec

from ..small import MACHINES, Calm, events, kill, next_slot, prepare, run_all, table, train_together, write_study

ASHA = "search.pruner={kind: asha, reduction: 2, rungs: 1, startup_trials: 2}"
ORDER = (5.0, 6.0, 7.0, 4.0, 8.0, 3.0, 9.0, 4.5, 10.0, 2.0)  # at the rung, by trial
RUNG = 500


@pytest.fixture
def constructed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the values at the rung those of ORDER."""
    real = pinncore.Pack.recorded

    def recorded(self: pinncore.Pack, row: int, step: int) -> dict[str, float] | None:
        label = self.members[row].label
        values = real(self, row, step)
        return values and {"rel_l2": ORDER[label % len(ORDER)], "loss": -ORDER[label % len(ORDER)]}

    monkeypatch.setattr(pinncore.Pack, "recorded", recorded)


def start(tmp_path: Path, *overrides: str, **settings: Any) -> Path:
    file = write_study(tmp_path / "data", **{"trials": 10, "pack": 4, "epochs": 30, "iterations": 10} | settings)
    return prepare(tmp_path / "root", load_spec(file, [ASHA, *overrides]))[0]


def rows(study_dir: Path) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = table(study_dir, "trials").to_pylist()
    return trials


def in_optuna(study_dir: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="small", storage=f"sqlite:///{study_dir}/study.db").trials


def logged(study_dir: Path) -> list[int]:
    """Return the trials that reached the rung, in order."""
    with sqlite3.connect(study_dir / "study.db") as database:
        rows = database.execute(
            "SELECT number FROM trial_intermediate_values v JOIN trials t USING (trial_id) "
            "ORDER BY v.trial_intermediate_value_id"
        ).fetchall()
    database.close()
    return [number for (number,) in rows]


def hopeless(arrivals: list[int], values: Mapping[int, float]) -> set[int]:
    """Return the trials to prune by the plain rule: those not in the better half of the arrivals so far."""
    ended = set()
    for n, trial in enumerate(arrivals, start=1):
        better = sum(values[other] < values[trial] for other in arrivals[: n - 1])
        if n > 2 and better >= math.ceil(n / 2):
            ended.add(trial)
    return ended


# ---- asha ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("constructed")
def test_hopeless_trials_end_with_what_they_have(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    assert run_all(study_dir)["RUNNING"] == 0
    arrivals = logged(study_dir)
    ended = hopeless(arrivals, dict(enumerate(ORDER)))
    assert sorted(arrivals) == list(range(10)) and len(ended) >= 4
    curves = table(study_dir, "curves")
    for row, trial in zip(rows(study_dir), in_optuna(study_dir), strict=True):
        assert trial.intermediate_values == {RUNG: ORDER[trial.number]}
        if row["trial"] not in ended:
            assert (row["state"], trial.state.name, trial.value) == ("COMPLETE", "COMPLETE", row["rel_l2"])
            continue
        assert (row["state"], row["stop_reason"], row["failure"]) == ("PRUNED", "pruned", None)
        assert (trial.state.name, trial.value) == ("PRUNED", None)
        assert 20 <= row["evaluations"] <= 40 and row["rel_l2"] > 0 and row["stop_advice"]
        last = max(curves.filter(ds.field("trial") == row["trial"])["evaluations"].to_pylist())
        assert last == row["evaluations"]
    happened = [event for event, _ in events(study_dir)]
    assert happened.count("leased") == 10


@pytest.mark.usefixtures("constructed")
def test_freed_places_are_taken_without_another_process(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    worker = SlotWorker(owner, study_dir, next_slot(owner))
    run, most = worker._run, 0
    while owner.snapshot().counts["WAITING"]:
        worker.segment(0.0)
        assert worker._run is run
        most = max(most, run.active if run else 0)
    worker.segment(math.inf)
    assert most == 4
    counts = owner.close()
    assert counts["COMPLETE"] + counts["PRUNED"] == 10 and counts["PRUNED"] > 2
    packs = ds.dataset(study_dir / "trials", format="parquet").to_table()["pack"].to_pylist()
    assert len(set(packs)) == 1


@pytest.mark.usefixtures("constructed")
@pytest.mark.parametrize("segments", [7, 13, 16])
def test_decisions_are_made_again_after_a_restart(tmp_path: Path, segments: int) -> None:
    """A decision depends on the values logged when the trial arrived, not on later ones."""
    study_dir = start(tmp_path, epochs=60)
    for number in (segments, 4, 10**6):
        owner = StudyOwner(study_dir, MACHINES)
        train_together(owner, study_dir, random.Random(segments), most=2, segments=number, seconds=(0.0,))
        if number < 10**6:
            kill(owner)
    owner.close()
    ended = {row["trial"] for row in rows(study_dir) if row["state"] == "PRUNED"}
    assert len(ended) >= 3
    assert ended == hopeless(logged(study_dir), dict(enumerate(ORDER)))


@pytest.mark.usefixtures("constructed")
def test_a_decision_that_no_worker_received_is_carried_out_by_the_next(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    run = PackRun(owner.lease(next_slot(owner)), study_dir)
    answer = owner.report(run.train(0.0))
    while not answer.stop:
        run.follow(answer)
        run.checkpoint()
        answer = owner.report(run.train(0.0))
    kill(owner)
    owner = StudyOwner(study_dir, MACHINES)
    again = PackRun(owner.lease(next_slot(owner)), study_dir)
    assert set(answer.stop) <= set(owner.report(again.train(0.0)).stop)
    kill(owner)
    run_all(study_dir, segment_s=0.0)
    assert all(rows(study_dir)[label]["state"] == "PRUNED" for label in answer.stop)


def test_a_trial_without_a_number_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pinncore.Pack, "recorded", lambda self, row, step: {"rel_l2": math.nan, "loss": 1.0} if row == 0 else None
    )
    study_dir = start(tmp_path, trials=4)
    owner = StudyOwner(study_dir, MACHINES)
    run = PackRun(owner.lease(next_slot(owner)), study_dir)
    assert len(owner.report(run.train(0.0)).stop) == 1
    owner.close()
    (trial,) = (trial for trial in in_optuna(study_dir) if trial.intermediate_values)
    assert math.isnan(trial.intermediate_values[RUNG])


@pytest.mark.usefixtures("constructed")
def test_several_objectives_are_compared_together(tmp_path: Path) -> None:
    """No trial dominates another here. Both values of each trial are restored after a restart."""
    study_dir = start(tmp_path, "search.objective=[rel_l2, loss]", trials=6)
    owner = StudyOwner(study_dir, MACHINES)
    train_together(owner, study_dir, random.Random(0), most=1, segments=4)
    before = {trial.number: dict(trial.rungs) for trial in owner._trials if trial.rungs}
    assert before and all(values[RUNG] == (ORDER[n], -ORDER[n]) for n, values in before.items())
    kill(owner)
    owner = StudyOwner(study_dir, MACHINES)
    assert {trial.number: dict(trial.rungs) for trial in owner._trials if trial.rungs} == before
    owner.close()
    assert run_all(study_dir)["RUNNING"] == 0


# ---- replicates ---------------------------------------------------------------------------------------------------


def test_replicates_are_pruned_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their median decides, once all of them have reached the rung."""
    real = pinncore.Pack.recorded
    values = {label: ORDER[label // 3] + (-100, 0, 100)[label % 3] for label in range(18)}

    def recorded(self: pinncore.Pack, row: int, step: int) -> dict[str, float] | None:
        metrics = real(self, row, step)
        return metrics and {"rel_l2": values[self.members[row].label], "loss": 0.0}

    monkeypatch.setattr(pinncore.Pack, "recorded", recorded)
    study_dir = start(tmp_path, "search.replicates=3", trials=6, pack=6)
    assert run_all(study_dir)["RUNNING"] == 0
    ended = hopeless(logged(study_dir), dict(enumerate(ORDER)))
    assert ended
    states = {(row["trial"], row["replicate"]): row["state"] for row in rows(study_dir)}
    assert states == {(t, r): "PRUNED" if t in ended else "COMPLETE" for t in range(6) for r in range(3)}
    assert [trial.intermediate_values for trial in in_optuna(study_dir)] == [{RUNG: ORDER[n]} for n in range(6)]


def test_a_replicate_that_waits_is_pruned_with_its_trial(tmp_path: Path) -> None:
    study_dir = start(tmp_path, "search.replicates=2", "search.pruner.startup_trials=0", trials=2, pack=4)
    owner = StudyOwner(study_dir, MACHINES)
    task = owner.lease(next_slot(owner))
    labels = [member.label for member in task.members]
    assert sorted(labels) == [0, 1, 2, 3]

    def report(**content: Any) -> PackReport:
        return PackReport(task.slot, task.lease, task.attempt, task.pack, PackProgress(), left=len(labels), **content)

    reached = [RungReached(label, RUNG, {"rel_l2": 1.0 + label, "loss": 0.0}) for label in (0, 1, 2)]
    assert owner.report(report(rungs=reached, given_back=(2,), size=3)).stop == ()
    answer = owner.report(report(rungs=[RungReached(3, RUNG, {"rel_l2": 9.0, "loss": 0.0})]))
    assert answer.stop == (3,) and answer.add == ()
    (row,) = rows(study_dir)
    assert (row["trial"], row["replicate"], row["state"], row["stop_reason"]) == (1, 0, "PRUNED", "pruned")
    kill(owner)
    assert run_all(study_dir)["PRUNED"] == 1


def test_a_trial_with_a_pruned_replicate_stays_hopeless(tmp_path: Path) -> None:
    """Even if it was among the first to reach a later rung before its worker received the decision."""
    pruner = "search.pruner={kind: asha, reduction: 2, rungs: 2, startup_trials: 0}"
    study_dir = start(tmp_path, pruner, "search.replicates=2", trials=2, pack=4)
    owner = StudyOwner(study_dir, MACHINES)
    task = owner.lease(next_slot(owner))
    member = next(member for member in task.members if member.label == 2)
    reached = [
        RungReached(label, rung, {"rel_l2": 1.0 + label, "loss": 0.0}) for label, rung in [(0, 250), (1, 250), (2, 250)]
    ]
    report = PackReport(task.slot, task.lease, task.attempt, task.pack, PackProgress(), left=4, rungs=reached)
    assert owner.report(report).stop == ()
    late = [RungReached(3, 250, {"rel_l2": 9.0, "loss": 0.0})]
    late += [RungReached(label, 500, {"rel_l2": 1.0, "loss": 0.0}) for label in (2, 3)]
    assert set(owner.report(replace(report, rungs=late)).stop) == {2, 3}
    now = datetime.datetime.now(datetime.UTC)
    assert owner.report(
        replace(report, rungs=[], records=[untrained(task, member, "PRUNED", now, now, "pruned")])
    ).stop == (3,)
    kill(owner)
    assert run_all(study_dir, segment_s=0.0)["PRUNED"] == 1
    assert [row["state"] for row in rows(study_dir)] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]


# ---- patience -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Trials, trained one by one, that end when rel_l2 has not fallen by a tenth within a fifth of the plan."""
    pruner = "search.pruner={kind: patience, patience: 0.2, min_improvement: 0.1}"
    settings = {"trials": 8, "pack": 1, "epochs": 60, "iterations": 20}
    return Calm(tmp_path_factory.mktemp("patient"), pruner, **settings)


def test_patience_ends_what_no_longer_improves(patient: Calm) -> None:
    assert 2 <= patient.counts["PRUNED"] <= 7 and patient.counts["COMPLETE"] >= 1
    for row in rows(patient.whole):
        curve = table(patient.whole, "curves").filter(ds.field("trial") == row["trial"]).to_pylist()
        errors = {point["step"] + 60 * (point["phase"] == "second"): point["rel_l2"] for point in curve}
        stalled = [step for step in errors if step >= 16 and has_stalled(errors, step)]
        if row["state"] == "PRUNED":
            assert row["stop_reason"] == "pruned" and row["evaluations"] > 0
            assert stalled[0] >= max(errors) - 1, "at the first row that shows it"
        else:
            assert stalled == []


def has_stalled(values: dict[int, float], at: int) -> bool:
    """Return whether there was no improvement by a tenth in the 16 steps (a fifth of the plan) up to a step."""
    before = [value for step, value in values.items() if step <= at - 16]
    since = [value for step, value in values.items() if at - 16 < step <= at]
    return min(since) >= min(before) - 0.1 * min(before)


@pytest.mark.parametrize("seed", range(3))
def test_patience_does_not_depend_on_packs_or_interruptions(patient: Calm, tmp_path: Path, seed: int) -> None:
    """It may therefore be combined with deterministic: true."""
    study_dir = patient.copy(tmp_path)
    spec = load_spec(patient.file, [*patient.overrides, f"resources.pack={(1, 3, 8)[seed]}"])
    for segments in (4 + 3 * seed, 10**6):
        owner = StudyOwner(study_dir, MACHINES, spec)
        train_together(owner, study_dir, random.Random(seed), most=2, segments=segments)
        if segments < 10**6:
            kill(owner)
    assert owner.close() == patient.counts
    patient.compare(study_dir, but=("spec_hash",))


# ---- what the sampler is told -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("constructed")
def test_tpe_is_told_of_pruned_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[int, tuple[str, Mapping[int, float]]] = {}
    tell: Callable[..., None] = Learner.tell

    def listen(self: Learner, index: int, state: str, values: Any = None, rungs: Any = None) -> None:
        heard[index] = (state, dict(rungs or {}))
        tell(self, index, state, values, rungs or {})

    monkeypatch.setattr(Learner, "tell", listen)
    study_dir = start(tmp_path, "search.sampler=tpe")
    counts = run_all(study_dir)
    assert counts["PRUNED"] >= 3
    assert heard == {row["trial"]: (row["state"], {RUNG: ORDER[row["trial"]]}) for row in rows(study_dir)}
    more = load_spec(tmp_path / "data" / "small.yaml", [ASHA, "search.sampler=tpe", "search.trials=12"])
    owner = StudyOwner(study_dir, MACHINES, more)
    outcomes = owner._attempt.search._trials  # type: ignore[attr-defined]
    assert {index: (trial.state, dict(trial.rungs)) for index, trial in outcomes.items()} == heard
    assert owner.offer() is not None, "the search continues"
    owner.close()
