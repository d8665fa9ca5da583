"""Repeated configurations: replicates of a trial, duplicates of another trial, failed trials trained again."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pytest

import pinncore
from sweeps.errors import StudyError
from sweeps.owner.owner import StudyOwner
from sweeps.runner.pack_run import PackRun
from sweeps.runner.worker import SlotWorker
from sweeps.study.loading import load_spec
from sweeps.study.trials import StudyTrials, Trial, Window

from ..small import (
    MACHINES,
    Calm,
    Crash,
    assert_same_tables,
    kill,
    next_slot,
    prepare,
    run_all,
    table,
    train_all,
    train_together,
    trapped,
)

TWO_WIDTHS = ("search.sampler=random", "space={width: {choice: [3, 5]}}")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Four trials, each trained once."""
    return Calm(tmp_path_factory.mktemp("single"), trials=4, pack=4, iterations=8)


@pytest.fixture(scope="module")
def triple(single: Calm, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """The same trials, each trained from three seeds."""
    return Calm(tmp_path_factory.mktemp("triple"), "search.replicates=3", file=single.file)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Six trials of two configurations."""
    return Calm(tmp_path_factory.mktemp("doubled"), *TWO_WIDTHS, trials=6, epochs=12, iterations=4)


def rows(study_dir: Path) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = table(study_dir, "trials").to_pylist()
    return trials


def told_values(study_dir: Path) -> list[float | None]:
    """Return the value that Optuna was told of each trial."""
    trials = optuna.load_study(study_name="small", storage=f"sqlite:///{study_dir}/study.db").trials
    return [trial.value for trial in trials]


def fail(patch: pytest.MonkeyPatch, *labels: int) -> None:
    """Make the training of these members raise an exception."""
    step = pinncore.Pack.step

    def buggy(self: pinncore.Pack, ticks: int) -> None:
        if any(member.label in labels for member in self.members):
            raise ValueError("a bug")
        step(self, ticks)

    patch.setattr(pinncore.Pack, "step", buggy)


# ---- replicates ---------------------------------------------------------------------------------------------------


def test_every_replicate_has_its_row_and_the_median_is_told(triple: Calm) -> None:
    trials = rows(triple.whole)
    assert [(row["trial"], row["replicate"]) for row in trials] == list(itertools.product(range(4), range(3)))
    assert len({row["seed"] for row in trials}) == 12 and len({row["rel_l2"] for row in trials}) == 12
    for trial, value in enumerate(told_values(triple.whole)):
        assert value == statistics.median(row["rel_l2"] for row in trials if row["trial"] == trial)
    for name in ("curves", "fields", "weights"):
        pairs = zip(*(table(triple.whole, name)[key].to_pylist() for key in ("trial", "replicate")), strict=True)
        assert set(pairs) == set(itertools.product(range(4), range(3))), name


@pytest.mark.parametrize(("share", "of_three"), [(0, min), (1, max)])
def test_the_objective_is_the_quantile_of_the_settings(triple: Calm, tmp_path: Path, share: int, of_three: Any) -> None:
    spec = load_spec(triple.file, [*triple.overrides, f"search.quantile={share}"])
    study_dir, _ = prepare(tmp_path, spec)
    owner = train_all(study_dir)
    values = [of_three(row["rel_l2"] for row in rows(study_dir) if row["trial"] == trial) for trial in range(4)]
    assert told_values(study_dir) == values
    best = owner.snapshot().best
    assert best is not None and best.value == min(values)
    owner.close()


def test_replicate_0_is_the_trial_without_replicates(single: Calm, triple: Calm) -> None:
    def first(rows: pa.Table) -> pa.Table:
        return rows.filter(pa.compute.field("replicate") == 0)

    assert_same_tables(single.whole, triple.whole, but=("spec_hash",), of=first)


@pytest.mark.parametrize(("share", "failed"), [(0.0, False), (0.5, False), (0.6, True), (1.0, True)])
def test_a_failed_replicate_is_infinitely_bad(
    triple: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, failed: bool
) -> None:
    study_dir, _ = prepare(tmp_path, load_spec(triple.file, [*triple.overrides, f"search.quantile={share}"]))
    fail(monkeypatch, 1 * 3 + 2)
    owner = train_all(study_dir)
    counts = owner.close()
    expected = [row for row in rows(triple.whole) if row["trial"] == 1]
    replicates = [row for row in rows(study_dir) if row["trial"] == 1]
    assert [row["state"] for row in replicates] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [row["rel_l2"] for row in replicates[:2]] == [row["rel_l2"] for row in expected[:2]]
    two = sorted(row["rel_l2"] for row in replicates[:2])
    assert counts["FAIL"] == failed and owner.snapshot().failures == failed
    assert told_values(study_dir)[1] == (None if failed else two[0] if share == 0 else two[1])


def test_a_trial_with_more_replicates_than_places_is_leased_alone(triple: Calm, tmp_path: Path) -> None:
    spec = load_spec(triple.file, [*triple.overrides, "resources.pack=2"])
    owner = StudyOwner(triple.copy(tmp_path), MACHINES, spec)
    task = owner.lease(next_slot(owner))
    assert task.size == 2 and len({member.trial for member in task.members}) == 1
    assert [member.replicate for member in task.members] == [0, 1, 2]
    kill(owner)


def test_values_of_a_failed_replicate_do_not_count() -> None:
    """It may have diverged at a finite loss."""
    trials = StudyTrials(replicates=3, quantile=0.5, objectives=["rel_l2"])
    trial = Trial(0, 0, {}, "", 0, Window(0, 1, 1, 0))
    trial.done = {0: ("COMPLETE", (1.0,)), 1: ("FAIL", (0.5,)), 2: ("COMPLETE", (3.0,))}
    assert trials.outcome(trial) == ("COMPLETE", (3.0,))


@pytest.mark.parametrize("seed", range(3))
def test_replicates_are_exact_with_any_workers(triple: Calm, tmp_path: Path, seed: int) -> None:
    """Packs may hold fewer members than a trial has; the study is killed on the way."""
    draw, study_dir = random.Random(seed), triple.copy(tmp_path)
    spec = load_spec(triple.file, [*triple.overrides, f"resources.pack={[1, 2, 7][seed]}"])
    for segments in (2 + 3 * seed, 10**6):
        owner = StudyOwner(study_dir, MACHINES, spec)
        train_together(owner, study_dir, draw, most=2, segments=segments)
        if segments < 10**6:
            kill(owner)
    assert owner.close() == triple.counts
    triple.compare(study_dir, but=("spec_hash",))


def test_replicates_go_on_from_their_checkpoints(triple: Calm, tmp_path: Path) -> None:
    study_dir = triple.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    first = owner.lease(next_slot(owner))
    run = PackRun(first, study_dir)
    owner.report(run.train(0.0))
    run.checkpoint()
    kill(owner)
    owner = StudyOwner(study_dir, MACHINES)
    again = owner.lease(next_slot(owner))
    saved = [member for member in again.members if member.origin == first.pack]
    assert {member.label for member in saved} == {member.label for member in first.members}
    assert len({member.replicate for member in saved}) == 3
    assert PackRun(again, study_dir).train(0.0).progress.evaluations == 20 * len(saved)
    kill(owner)
    triple.finish(study_dir)


# ---- duplicates ---------------------------------------------------------------------------------------------------


def assert_trained_once(study_dir: Path, trials: int, replicates: int = 1) -> None:
    """Check that the first trial of each configuration is trained and the others have its results."""
    all_rows = rows(study_dir)
    assert [(row["trial"], row["replicate"]) for row in all_rows] == list(
        itertools.product(range(trials), range(replicates))
    )
    originals = {(row["width"], row["replicate"]): row for row in reversed(all_rows) if row["duplicate_of"] is None}
    assert len(originals) == 2 * replicates
    trained = {row["trial"] for row in originals.values()}
    spent = {("evaluations", 0), ("first_evaluations", 0), ("second_evaluations", 0)}
    for row in all_rows:
        original = originals[row["width"], row["replicate"]]
        if row["trial"] in trained:
            assert row["duplicate_of"] is None and row["evaluations"] > 0
            continue
        assert row["duplicate_of"] == original["trial"] < row["trial"] and spent <= row.items()
        different = {name for name in row if row[name] != original[name]}
        assert different <= {"trial", "duplicate_of", *(name for name, _ in spent)}
    for name in ("curves", "fields", "weights"):
        assert set(table(study_dir, name)["trial"].to_pylist()) == trained, name


def test_a_configuration_is_trained_once(doubled: Calm) -> None:
    assert doubled.counts["COMPLETE"] == 6
    assert_trained_once(doubled.whole, 6)
    values = told_values(doubled.whole)
    assert len(set(values)) == 2 and None not in values
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{doubled.whole}/study.db")
    assert sum("duplicate_of" in trial.user_attrs for trial in study.trials) == 4
    seconds = pa.dataset.dataset(doubled.whole / "trials").to_table().to_pylist()
    assert all((row["seconds"] == 0) == (row["duplicate_of"] is not None) for row in seconds)


def test_duplicates_proposed_after_their_original_are_complete_at_once(doubled: Calm, tmp_path: Path) -> None:
    study_dir = doubled.copy(tmp_path)
    run_all(study_dir)
    owner = StudyOwner(study_dir, MACHINES, load_spec(doubled.file, [*doubled.overrides, "search.trials=9"]))
    assert owner.offer() is None
    assert owner.close()["COMPLETE"] == 9
    assert_trained_once(study_dir, 9)


def test_duplicates_with_replicates(doubled: Calm, tmp_path: Path) -> None:
    study_dir, _ = prepare(tmp_path, load_spec(doubled.file, [*doubled.overrides, "search.replicates=2"]))
    assert run_all(study_dir)["COMPLETE"] == 6
    assert_trained_once(study_dir, 6, 2)


def test_duplicates_of_a_failed_trial_fail_with_it(
    doubled: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = doubled.copy(tmp_path)
    with monkeypatch.context() as patch:
        fail(patch, 0)
        counts = run_all(study_dir)
    same = Counter(row["width"] for row in rows(study_dir))[rows(study_dir)[0]["width"]]
    assert counts["FAIL"] == same > 1
    assert {row["failure"] for row in rows(study_dir) if row["state"] == "FAIL"} == {
        "unexpected ValueError: a bug (its traceback is in pinnsweep.log of the study)"
    }
    assert run_all(study_dir, retry=[0]) == counts | {"COMPLETE": counts["COMPLETE"] + 1}
    assert rows(study_dir)[6]["rel_l2"] == rows(doubled.whole)[0]["rel_l2"]


def test_duplicates_killed_at_any_step(doubled: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in itertools.count(1, step=4):
        study_dir = doubled.copy(tmp_path / str(step))
        try:
            with trapped(step, Crash, patch=monkeypatch, kinds=("replace", "commit")):
                run_all(study_dir)
        except Crash:
            doubled.finish(study_dir)
            continue
        break
    assert step > 15, "steps were found"


# ---- trained again ------------------------------------------------------------------------------------------------


@pytest.fixture
def failed(single: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study of single trials, of which trial 2 failed."""
    study_dir = single.copy(tmp_path)
    with monkeypatch.context() as patch:
        fail(patch, 2)
        assert run_all(study_dir) == single.counts | {"COMPLETE": 3, "FAIL": 1}
    return study_dir


def test_a_failed_trial_is_trained_again_under_a_number_of_its_own(single: Calm, failed: Path) -> None:
    owner = train_all(failed, retry=[2])
    snapshot = owner.snapshot()
    assert (snapshot.failures, snapshot.limit) == (0, 5)
    assert owner.close() == single.counts | {"COMPLETE": 4, "FAIL": 1}
    retried, undisturbed = rows(failed)[4], rows(single.whole)[2]
    assert retried["retry_of"] == 2 and rows(failed)[2]["state"] == "FAIL"
    assert {name for name in undisturbed if retried[name] != undisturbed[name]} == {"trial", "retry_of"}
    assert run_all(failed) == single.counts | {"COMPLETE": 4, "FAIL": 1}, "it is trained only once"


def test_a_trial_that_fails_again_still_counts(failed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fail(patch, 4)
        owner = train_all(failed, retry=[2])
    assert owner.snapshot().failures == 1
    assert owner.close()["FAIL"] == 2


@pytest.mark.parametrize(
    ("numbers", "message"), [([0], "is COMPLETE"), ([2, 0], "is COMPLETE"), ([-1], "does not exist")]
)
def test_only_failed_trials_are_trained_again(failed: Path, numbers: list[int], message: str) -> None:
    with pytest.raises(StudyError, match=f"trial {numbers[-1]} {message}; only failed trials can be trained again"):
        StudyOwner(failed, MACHINES, retry=numbers)
    owner = StudyOwner(failed, MACHINES)
    assert owner.offer() is None and owner.close()["WAITING"] == 0, "nothing was entered"


def test_a_trial_trained_again_goes_on_after_a_crash(single: Calm, failed: Path) -> None:
    owner = StudyOwner(failed, MACHINES, retry=[2])
    SlotWorker(owner, failed, next_slot(owner)).segment(0.0)
    kill(owner)
    assert run_all(failed)["COMPLETE"] == 4
    assert rows(failed)[4]["loss"] == rows(single.whole)[2]["loss"]
