"""Failures: a member fails alone and with its reason; an attempt that cannot record results ends, and can resume."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pinncore
from pinncore.networks import unflatten
from pinncore.problems.source import ProblemSource
from sweeps.errors import StudyError
from sweeps.owner import packing
from sweeps.owner.messages import PackProgress, PackReport
from sweeps.owner.owner import StudyOwner
from sweeps.owner.recorder import Recorder
from sweeps.runner.pack_run import PackRun
from sweeps.runner.worker import SlotWorker
from sweeps.spec.study_spec import build_settings
from sweeps.study.checkpoints import checkpoint_folder
from sweeps.study.loading import load_spec

from ..small import (
    MACHINES,
    Calm,
    Crash,
    assert_same_tables,
    events,
    kill,
    next_slot,
    offered,
    prepare,
    run_all,
    table,
    train_all,
    trapped,
    write_study,
)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Eight trials that are one pack."""
    return Calm(tmp_path_factory.mktemp("calm"), pack=8)


@pytest.fixture
def study_dir(calm: Calm, tmp_path: Path) -> Path:
    return calm.copy(tmp_path)


def rows(study_dir: Path) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = table(study_dir, "trials").to_pylist()
    return trials


def without(*trials: int) -> Callable[[pa.Table], pa.Table]:
    """Return a filter of tables that removes the rows of the given trials."""
    return lambda rows: rows.filter(pa.array([trial not in trials for trial in rows["trial"].to_pylist()]))


# ---- members that fail --------------------------------------------------------------------------------------------


def test_two_of_64_members_fail_and_the_others_are_what_they_are_alone(tmp_path: Path) -> None:
    """One starts from a file that got a NaN after it was checked; the loss of the other explodes."""
    poisoned, exploding = 20, 41
    file = tmp_path / "weights.npz"
    shapes = {"W1": (2, 5), "b1": (5,), "W2": (5, 5), "b2": (5,), "W3": (5, 1), "b3": (1,)}
    weights = {name: np.random.default_rng(0).normal(0, 0.3, shape) for name, shape in shapes.items()}
    np.savez(file, **weights)  # type: ignore[arg-type]  # the stub of NumPy takes the values for flags
    params: list[dict[str, Any]] = [{"adam_lr": 1e-3 * (1 + trial)} for trial in range(64)]
    params[poisoned], params[exploding] = {"init": f"file:{file}"}, {"adam_lr": 1e8}
    overrides = ["search.sampler=list", f"search.list={json.dumps(params)}", "space={}", "train.width=5"]
    spec = load_spec(write_study(tmp_path / "data", trials=64, pack=64), overrides)
    study_dir, _ = prepare(tmp_path / "root", spec)
    np.savez(file, **weights | {"W2": np.full((5, 5), np.nan)})  # type: ignore[arg-type]
    owner = train_all(study_dir)
    assert owner.snapshot().failures == 2
    assert owner.close() == {"COMPLETE": 62, "FAIL": 2, "PRUNED": 0, "RUNNING": 0, "WAITING": 0}
    trials, weights_table = rows(study_dir), table(study_dir, "weights")
    assert "W2 in" in trials[poisoned]["failure"] and "not finite" in trials[poisoned]["failure"]
    assert trials[exploding]["stop_reason"] == "diverged" and "divergence_factor" in trials[exploding]["failure"]
    for row in trials:
        if row["state"] == "COMPLETE":
            train, problem = build_settings(spec.config({"adam_lr": row["adam_lr"]}), spec.source)
            pack = pinncore.Pack([pinncore.Member(train, problem, row["seed"])], device="cpu")
            pack.step(10_000)
            assert_alone(row, weights_table, pack.results[0])


def assert_alone(row: dict[str, Any], weights: pa.Table, alone: pinncore.MemberResult) -> None:
    """Check that a row and its last weights equal, bit for bit, those of a member trained alone."""
    assert (row["rel_l2"], row["loss"], row["grad_norm"]) == (alone.metrics["rel_l2"], alone.loss, alone.grad_norm)
    assert (row["stop_reason"], row["evaluations"]) == (alone.stop_reason.value, alone.counts["evaluations"])
    last_epoch = pa.compute.field("epoch") == max(alone.weights)
    last = weights.filter((pa.compute.field("trial") == row["trial"]) & last_epoch)
    values = {(w["layer"], w["row"], w["column"]): w["value"] for w in last.to_pylist()}
    for layer, (w, b) in enumerate(unflatten(alone.parameters, alone.layers), start=1):
        matrix = np.concatenate([b[None, :], w])
        assert all(values[layer, r - 1, c] == matrix[r, c] for r, c in np.ndindex(*matrix.shape))


def test_an_exception_in_training_fails_the_member_that_meets_it(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, culprit = pinncore.Pack.step, 5

    def buggy(self: pinncore.Pack, ticks: int) -> None:
        if any(member.label == culprit and self.fraction(row) > 0.3 for row, member in enumerate(self.members)):
            raise ValueError("a bug")
        step(self, ticks)

    with monkeypatch.context() as patch:
        patch.setattr(pinncore.Pack, "step", buggy)
        owner = train_all(study_dir, segment_s=0.0)
    assert owner.snapshot().failures == 1
    assert owner.close()["COMPLETE"] == 7
    failure = rows(study_dir)[culprit]["failure"]
    assert failure == "unexpected ValueError: a bug (its traceback is in pinnsweep.log of the study)"
    log = (study_dir / "pinnsweep.log").read_text()
    assert "worker of pack" in log and "in buggy" in log and "ValueError: a bug" in log
    assert_same_tables(calm.whole, study_dir, of=without(culprit))
    assert any("in buggy" in detail for _, detail in events(study_dir)), "the traceback is kept"
    assert not list((study_dir / "checkpoints").glob("*"))


def test_a_configuration_that_cannot_be_set_up_fails_when_it_is_asked(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry fails again until the configuration can be set up. A crash in between changes nothing."""
    bad = rows(calm.whole)[3]["adam_lr"]

    def strict(config: dict[str, dict[str, Any]], source: ProblemSource) -> Any:
        if config["train"]["adam_lr"] == bad:
            raise pinncore.SettingError("adam_lr", bad, "must be another")
        return build_settings(config, source)

    end = Recorder.end_untrained

    def dying(*args: Any, **options: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(packing, "build_settings", strict)
        patch.setattr(Recorder, "end_untrained", dying)
        with pytest.raises(Crash):
            train_all(study_dir)
        patch.setattr(Recorder, "end_untrained", end)
        assert run_all(study_dir) == calm.counts | {"COMPLETE": 7, "FAIL": 1}
        assert "must be another" in rows(study_dir)[3]["failure"]
        assert run_all(study_dir, retry=[3]) == calm.counts | {"COMPLETE": 7, "FAIL": 2}
        assert "must be another" in rows(study_dir)[8]["failure"]
        assert run_all(study_dir) == calm.counts | {"COMPLETE": 7, "FAIL": 2}, "it does not prevent a start"
    assert_same_tables(calm.whole, study_dir, of=without(3, 8))
    owner = train_all(study_dir, retry=[8])
    assert owner.snapshot().failures == 0, "a retried trial counts as its last retry ended"
    assert owner.close()["COMPLETE"] == 8
    assert rows(study_dir)[9]["rel_l2"] == rows(calm.whole)[3]["rel_l2"]


# ---- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["__init__", "step"])
def test_memory_that_runs_out_costs_no_trial_and_changes_no_number(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, sizes = getattr(pinncore.Pack, where), []

    def limited(self: pinncore.Pack, *args: Any, **options: Any) -> Any:
        size = len(args[0]) if where == "__init__" else self.active
        if size > 3:
            raise MemoryError
        sizes.append(size)
        return real(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pinncore.Pack, where, limited)
        kill(train_all(study_dir, segment_s=0.0, least=1))
        assert run_all(study_dir, segment_s=0.0) == calm.counts
    calm.compare(study_dir)
    assert "out of memory" in [event for event, _ in events(study_dir)] and max(sizes) <= 3


def test_packs_stay_small_where_memory_ran_out(calm: Calm, study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    task = owner.lease(next_slot(owner))
    back = tuple(member.label for member in task.members[2:])
    report = PackReport(task.slot, task.lease, task.attempt, task.pack, PackProgress(), left=2, given_back=back, size=2)
    answer = owner.report(report)
    assert answer.taken and answer.add == (), "members that did not fit are not sent back at once"
    again = owner.lease(next_slot(owner))
    assert (again.size, tuple(member.label for member in again.members)) == (2, back)
    kill(owner)
    calm.finish(study_dir)


def test_memory_that_runs_out_for_one_alone_fails_it(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = pinncore.Pack.step

    def limited(self: pinncore.Pack, ticks: int) -> None:
        if any(member.label == 2 for member in self.members):
            raise MemoryError
        step(self, ticks)

    with monkeypatch.context() as patch:
        patch.setattr(pinncore.Pack, "step", limited)
        assert run_all(study_dir)["FAIL"] == 1
    assert rows(study_dir)[2]["failure"] == "out of memory, alone in its pack"
    assert_same_tables(calm.whole, study_dir, of=without(2))


def test_memory_that_runs_out_shows_where_company_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm = Calm(tmp_path / "calm", "train.engine=torch", trials=4, pack=4)
    study_dir, step = calm.copy(tmp_path), pinncore.Pack.step

    def limited(self: pinncore.Pack, ticks: int) -> None:
        if self.active > 2:
            raise MemoryError
        step(self, ticks)

    with monkeypatch.context() as patch:
        patch.setattr(pinncore.Pack, "step", limited)
        owner = StudyOwner(study_dir, MACHINES)
        worker = SlotWorker(owner, study_dir, next_slot(owner))
        worker.segment(0.0)
        worker.segment(0.0)
        kill(owner)
        assert len(list((study_dir / "checkpoints").rglob("*.safetensors"))) == 2
        assert run_all(study_dir) == calm.counts
    assert [row["rebatched"] for row in rows(calm.whole)] == [False] * 4
    assert [row["rebatched"] for row in rows(study_dir)] == [True] * 4
    assert "worker lost" not in [event for event, _ in events(study_dir)]


def test_a_fixed_pack_that_was_halved_is_not_built_again_in_the_same_attempt(tmp_path: Path) -> None:
    calm = Calm(tmp_path / "calm", "train.engine=torch", trials=4, pack=4)
    owner = StudyOwner(calm.copy(tmp_path), MACHINES)
    task = owner.lease(next_slot(owner))
    labels = [member.label for member in task.members]
    report = PackReport(task.slot, task.lease, task.attempt, task.pack, PackProgress(), left=2, size=2)
    assert owner.report(replace(report, given_back=tuple(labels[2:]))).taken
    owner.share(0)
    assert owner.report(report).leave
    owner.share(None)
    tasks = [owner.lease(next_slot(owner)) for _ in range(2)]
    assert sorted(member.label for task in tasks for member in task.members) == sorted(labels)
    assert not any(task.keep_composition for task in tasks)
    kill(owner)


# ---- workers that die ---------------------------------------------------------------------------------------------


def train_with_a_killer(study_dir: Path, killer: int, patch: Any, *, attempts: int = 1, **options: Any) -> StudyOwner:
    """Train with a member that kills every process it trains in; the first `attempts - 1` deaths kill the owner too."""
    train, deaths = PackRun.train, 0

    def deadly(self: PackRun, until: float) -> PackReport:
        if killer in [member.label for member in self.task.members] and self.active:
            raise Crash
        return train(self, until)

    patch.setattr(PackRun, "train", deadly)
    owner = StudyOwner(study_dir, MACHINES, **options)
    while (slot := offered(owner)) is not None:
        done = False
        while not done:
            worker = SlotWorker(owner, study_dir, slot)
            try:
                while not worker.done:
                    worker.segment(0.0)
                done = True
            except Crash:
                deaths += 1
                if deaths < attempts:
                    kill(owner)
                    owner, done = StudyOwner(study_dir, MACHINES, **options), True
    return owner


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_member_that_kills_its_worker_twice_is_put_in_quarantine(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    with monkeypatch.context() as patch:
        owner = train_with_a_killer(study_dir, 6, patch, attempts=attempts)
    assert owner.snapshot().failures == 1
    assert owner.close()["COMPLETE"] == 7
    assert rows(study_dir)[6]["failure"] == "quarantined: its worker died 2 times"
    assert_same_tables(calm.whole, study_dir, of=without(6))
    assert not list((study_dir / "checkpoints").glob("*"))


def test_members_of_a_dead_worker_go_on_from_their_checkpoint(study_dir: Path) -> None:
    """Each resumes alone, in any slot."""
    owner = StudyOwner(study_dir, MACHINES)
    slot = next_slot(owner)
    task = owner.lease(slot)
    run = PackRun(task, study_dir)
    assert owner.report(run.train(0.0)).taken
    run.checkpoint()
    owner.lost(slot, "its log is elsewhere")
    again = owner.lease(next_slot(owner))
    assert len(again.members) == 1 and again.members[0].origin == task.pack
    report = PackRun(again, study_dir).train(0.0)
    assert report.progress.evaluations == 20
    assert checkpoint_folder(study_dir, task.pack).is_dir(), "others still go on from it"
    kill(owner)


def test_a_node_that_is_gone_says_nothing_about_its_members(calm: Calm, study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES, is_alive=lambda node: node == "here")
    for _ in range(3):
        slot = next_slot(owner)
        task = owner.lease(slot, "gone")
        owner.lost(slot, "no heartbeat")
        assert len(task.members) == 8
    assert all(not trial.deaths for trial in owner._trials)
    slot = next_slot(owner)
    owner.lease(slot, "here")
    owner.lost(slot, "killed")
    assert all(trial.deaths == {0: 1} for trial in owner._trials)
    kill(owner)
    calm.finish(study_dir)


# ---- results that cannot be recorded ------------------------------------------------------------------------------


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "/study/file")


def read_only() -> OSError:
    return OSError(errno.EROFS, "Read-only file system", "/study/file")


def attempt_on_a_bad_disk(study_dir: Path, number: int, patch: Any) -> str | None:
    """Return the message of an attempt whose disk fails from an operation on, None where it has fewer."""
    fault = full if number % 2 else read_only
    owner: StudyOwner | None = None
    with trapped(number, fault, patch=patch) as seen:
        try:
            owner = train_all(study_dir, segment_s=0.0)
        except StudyError as problem:
            return str(problem)
        before = recorded(study_dir)
        reason = owner.snapshot().broken
        if reason is not None:
            owner.lost(1, "its worker gave up")
            assert not owner.lease(7).members and owner.offer() is None
        owner.stop()
        owner.close()
        if reason is not None:
            assert recorded(study_dir) == before, "nothing more is recorded"
        return owner.snapshot().broken if len(seen) >= number else None


def recorded(study_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in [*study_dir.rglob("*.parquet"), study_dir / "study.db"]}


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_disk_that_fails_ends_the_attempt_and_once_mended_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    calm = Calm(tmp_path / "calm", trials=3, epochs=12, iterations=4)
    for number in itertools.count(1, step=every):
        study_dir = calm.copy(tmp_path / str(number))
        message = attempt_on_a_bad_disk(study_dir, number, monkeypatch)
        if message is None:
            break
        assert "No space left on device" in message or "Read-only file system" in message, message
        calm.finish(study_dir)
    assert number > 60, "operations were found"
    calm.compare(study_dir)


def test_a_database_that_fails_ends_the_attempt(calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails between two trials of one report: both are published, none is told."""
    settled: list[int] = []
    settle = Recorder._settle

    def full_disk(self: Recorder, *args: Any) -> bool:
        settled.append(len(settled))
        if len(settled) == 2:
            raise full()
        return settle(self, *args)

    owner = StudyOwner(study_dir, MACHINES)
    run = PackRun(owner.lease(next_slot(owner)), study_dir)
    report = run.train(float("inf"))
    while len(report.records) < 2:
        run.follow(owner.report(report))
        report = run.train(float("inf"))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_settle", full_disk)
        assert not owner.report(report).taken
    assert owner.snapshot().broken == "No space left on device: /study/file"
    assert not owner.report(report).taken, "nothing is published twice"
    assert owner.offer() is None
    owner.close()
    calm.finish(study_dir)


def test_a_study_that_cannot_be_written_to_at_its_start_is_named(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise read_only()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StudyError, match=f"{study_dir} cannot be used .Read-only file system: /study/file"):
            StudyOwner(study_dir, MACHINES)
    StudyOwner(study_dir, MACHINES).close()
