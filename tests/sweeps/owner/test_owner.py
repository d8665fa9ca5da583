"""The owner: a study killed anywhere resumes to the same tables as an uninterrupted one, with any workers."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.owner.capacity import ClusterCapacity
from sweeps.owner.messages import Answer
from sweeps.owner.owner import WAIT, StudyOwner
from sweeps.runner import pack_run
from sweeps.runner.pack_run import PackRun
from sweeps.runner.worker import SlotWorker
from sweeps.storage.lock import stop_file
from sweeps.study.loading import load_spec

from ..small import (
    MACHINES,
    Calm,
    Crash,
    assert_same_tables,
    cut_window,
    events,
    kill,
    next_slot,
    run_all,
    table,
    train_all,
    train_together,
    trapped,
)

LASTING = ("replace", "rename", "commit")  # other operations leave the disk unchanged
DETERMINISTIC = ("search.sampler=tpe", "search.deterministic=true", "search.generation=2")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Eight quasi-random trials in packs of two."""
    return Calm(tmp_path_factory.mktemp("calm"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Three trials of two stretches each."""
    return Calm(tmp_path_factory.mktemp("tiny"), trials=3, epochs=12, iterations=4)


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Packs of three, of an engine whose last digits depend on the pack; members end at different times."""
    train = "train={engine: torch, iterations: 12, record_every: 5}"
    lengths = "space.epochs={choice: [4, 12, 25]}"
    return Calm(tmp_path_factory.mktemp("batched"), train, lengths, trials=7, pack=3)


def contents(study_dir: Path) -> dict[Path, bytes]:
    """Return the contents of all files of a study except the lock."""
    return {path: path.read_bytes() for path in study_dir.rglob("*") if path.is_file() and path.name != "lock"}


# ---- late writes --------------------------------------------------------------------------------------------------


def test_reports_of_an_older_attempt_change_nothing(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    stale = PackRun(owner.lease(next_slot(owner)), study_dir)
    kill(owner)
    later = StudyOwner(study_dir, MACHINES)
    task = later.lease(next_slot(later))
    report = stale.train(float("inf"))
    assert report.records and (report.slot, report.lease) == (task.slot, task.lease), "only the attempt differs"
    before = contents(study_dir)
    assert later.report(report) == Answer(taken=False)
    assert contents(study_dir) == before and later.snapshot().counts["COMPLETE"] == 0
    kill(later)
    calm.finish(study_dir)


def test_reports_of_an_older_lease_change_nothing(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    slot = next_slot(owner)
    stale = PackRun(owner.lease(slot), study_dir)
    assert owner.report(stale.train(0.0)).taken
    owner.lease(slot)  # as Ray Tune does once it considers the first worker dead
    before = contents(study_dir)
    assert owner.report(stale.train(float("inf"))) == Answer(taken=False)
    assert contents(study_dir) == before
    kill(owner)
    calm.finish(study_dir)


def test_nothing_is_written_after_the_end_of_an_attempt(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    run = PackRun(owner.lease(next_slot(owner)), study_dir)
    assert owner.report(run.train(0.0)).taken
    run.checkpoint()
    owner.close()
    before = contents(study_dir)
    assert not owner.report(run.train(float("inf"))).taken
    owner.lost(1, "too late")
    assert owner.lease(1).members == () and owner.offer() is None and not owner.has_work()
    assert contents(study_dir) == before and owner.snapshot().broken is None
    calm.finish(study_dir)


def test_an_owner_that_has_lost_the_study_publishes_nothing(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    run = PackRun(owner.lease(next_slot(owner)), study_dir)
    report = run.train(float("inf"))
    (study_dir / "lock").unlink()
    later = StudyOwner(study_dir, MACHINES)
    before = contents(study_dir)
    assert not owner.report(report).taken and "was removed or replaced" in (owner.snapshot().broken or "")
    owner.close()
    assert contents(study_dir) == before
    kill(later)
    calm.finish(study_dir)


def test_a_late_checkpoint_leaves_those_of_the_next_worker_alone(calm: Calm, tmp_path: Path) -> None:
    """Both workers of a rebuilt pack write into the same folder."""
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    task = owner.lease(next_slot(owner))
    stale, successor = (PackRun(leased, study_dir) for leased in (task, replace(task, lease=task.lease + 1)))
    for run in (stale, successor, stale):
        run.train(0.0)
        run.checkpoint()
    (folder,) = (study_dir / "checkpoints").iterdir()
    assert max(path.name for path in folder.iterdir()) == "attempt-0001-lease-000002-segment-000000"
    kill(owner)
    calm.finish(study_dir)


# ---- killed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_step_of_the_owner(
    tiny: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    for step in itertools.count(1, step=every):
        study_dir = tiny.copy(tmp_path / str(step))
        try:
            with trapped(step, Crash, patch=monkeypatch, kinds=LASTING) as seen:
                run_all(study_dir, segment_s=0.0)
        except Crash:
            tiny.finish(study_dir)
            continue
        break
    assert step > 25, "steps were found"
    assert set(seen) == set(LASTING)


@pytest.mark.parametrize(
    "overrides", [("search.sampler=grid", "space.adam_lr={choice: [0.001, 0.01]}"), DETERMINISTIC], ids=["grid", "tpe"]
)
def test_killed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]) -> None:
    """Every attempt gets a few steps further than the previous one and dies."""
    tiny = Calm(tmp_path / "calm", *overrides, trials=5, epochs=12, iterations=4)
    study_dir = tiny.copy(tmp_path)
    for step in itertools.count(3, step=3):
        try:
            with trapped(step, Crash, patch=monkeypatch, kinds=LASTING):
                run_all(study_dir, segment_s=0.0)
        except Crash:
            continue
        break
    assert step > 10, "it was killed a few times"
    tiny.compare(study_dir)


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("place", ["before report", "after report", "after checkpoint"])
def test_a_worker_killed_between_any_two_steps_changes_no_number(
    calm: Calm, tmp_path: Path, place: str, segments: int
) -> None:
    """Its slot goes to another worker, then the owner is killed."""
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    slot = next_slot(owner)
    run = PackRun(owner.lease(slot), study_dir)
    for segment in range(segments):
        report = run.train(0.0)
        if place == "before report" and segment == segments - 1:
            break
        run.follow(owner.report(report))
        if place == "after report" and segment == segments - 1:
            break
        run.checkpoint()
    SlotWorker(owner, study_dir, slot).segment(0.0)
    kill(owner)
    calm.finish(study_dir)
    assert "worker lost" in [event for event, _ in events(study_dir)]


# ---- any workers --------------------------------------------------------------------------------------------------


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    pack=st.integers(1, 9),
    slots=st.integers(1, 4),
    stock=st.sampled_from([0.0, 0.2, 100.0]),
    free=st.sampled_from([0.2, 0.5, 0.9]),
    ticks=st.sampled_from([1, 3, 10]),
    segments=st.integers(0, 12),
    seed=st.integers(0, 2**32),
)
def test_slots_packs_segments_refills_and_stock_make_no_difference(
    calm: Calm,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    pack: int,
    slots: int,
    stock: float,
    free: float,
    ticks: int,
    segments: int,
    seed: int,
) -> None:
    study_dir, draw = calm.copy(tmp_path_factory.mktemp("other")), random.Random(seed)
    spec = load_spec(calm.file, [f"resources.pack={pack}"])
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.owner.leasing.STOCK_S", stock)
        patch.setattr(pack_run, "FREE_SHARE", free)
        patch.setattr(pack_run, "TICKS_BETWEEN_LOOKS", ticks)
        owner = StudyOwner(study_dir, ClusterCapacity(places=slots, device="cpu"), spec)
        train_together(owner, study_dir, draw, most=slots, segments=segments)
        kill(owner)
        owner = StudyOwner(study_dir, ClusterCapacity(places=slots, device="cpu"), spec)
        train_together(owner, study_dir, draw, most=slots)
    assert owner.close() == calm.counts
    calm.compare(study_dir, but=("spec_hash",))


def test_one_worker_goes_on_from_the_checkpoints_of_two(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    for worker in [SlotWorker(owner, study_dir, next_slot(owner)) for _ in range(2)]:
        worker.segment(0.0)
    kill(owner)
    assert len(list((study_dir / "checkpoints").iterdir())) == 2
    owner = StudyOwner(study_dir, MACHINES)
    train_together(owner, study_dir, random.Random(0), most=1, seconds=(0.0,))
    assert owner.close() == calm.counts
    calm.compare(study_dir)


def test_a_smaller_share_of_the_cluster_lets_workers_leave(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    workers = [SlotWorker(owner, study_dir, next_slot(owner)) for _ in range(2)]
    owner.share(1)
    for worker in workers:
        worker.segment(0.0)
    assert [worker.done for worker in workers] == [True, False]
    assert owner.offer() == WAIT
    owner.share(None)
    train_together(owner, study_dir, random.Random(0), most=2)
    workers[1].segment(float("inf"))
    assert owner.close() == calm.counts
    calm.compare(study_dir)


def test_a_slot_offered_before_the_share_shrank_stays_empty(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    slots = [next_slot(owner) for _ in range(2)]
    owner.share(1)
    worker, late = [SlotWorker(owner, study_dir, slot) for slot in slots]
    assert late.done and not worker.done
    worker.segment(float("inf"))
    assert owner.close() == calm.counts
    calm.compare(study_dir)


def test_a_worker_waits_for_the_next_generation(tmp_path: Path) -> None:
    """Its process is kept, because another one takes seconds to start."""
    patient = Calm(tmp_path / "calm", *DETERMINISTIC, pack=1, trials=4)
    study_dir = patient.copy(tmp_path / "other")
    owner = StudyOwner(study_dir, MACHINES)
    first, second = [SlotWorker(owner, study_dir, next_slot(owner)) for _ in range(2)]
    second.segment(0.5)
    assert not second.done and not owner.lease(7).members, "the trial of the first worker is not told yet"
    assert owner.offer() == WAIT
    owner.lost(7, "killed while it waited")
    workers = [first, second]
    while workers := [worker for worker in workers if not worker.done]:
        for worker in workers:
            worker.segment(0.0)
    assert owner.close() == patient.counts
    patient.compare(study_dir)


def test_workers_that_do_not_start_end_the_attempt(calm: Calm, tmp_path: Path) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    for _ in range(2):
        owner.lost(next_slot(owner), "no such module")
    SlotWorker(owner, study_dir, next_slot(owner)).segment(0.0)
    for _ in range(2):
        owner.lost(next_slot(owner), "no such module")
    assert owner.snapshot().broken is None, "there were not three in a row"
    owner.lost(next_slot(owner), "no such module")
    assert owner.snapshot().broken == "workers do not start: no such module"
    owner.close()
    calm.finish(study_dir)


def test_the_stop_file_lets_workers_leave_with_a_checkpoint(
    calm: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = calm.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    worker = SlotWorker(owner, study_dir, next_slot(owner))
    stop_file(study_dir).touch()
    monkeypatch.setattr(pack_run, "STOP_LOOK_S", 0.0)
    worker.segment(float("inf"))
    assert worker.done and owner.offer() is None and owner.snapshot().is_stopped
    assert len(list((study_dir / "checkpoints").rglob("*.safetensors"))) == 2
    counts = owner.close()
    assert counts["COMPLETE"] == counts["RUNNING"] == 0
    stop_file(study_dir).touch()  # a late request to stop
    calm.finish(study_dir)
    assert not stop_file(study_dir).exists()


# ---- an engine whose last digits depend on the pack ---------------------------------------------------------------


def rebatched(study_dir: Path) -> dict[int, bool]:
    rows = table(study_dir, "trials").to_pylist()
    return {row["trial"]: row["rebatched"] for row in rows}


def test_last_digits_depend_on_the_pack(batched: Calm, tmp_path: Path) -> None:
    """Without this, the tests below could not fail."""
    study_dir = batched.copy(tmp_path)
    train_all(study_dir, spec=load_spec(batched.file, [*batched.overrides, "resources.pack=1"])).close()
    with pytest.raises(AssertionError, match="differs in"):
        assert_same_tables(batched.whole, study_dir, but=("spec_hash",))


@pytest.mark.parametrize("segments", [2, 5])
def test_fixed_packs_are_built_again_as_they_were(batched: Calm, tmp_path: Path, segments: int) -> None:
    """The study is killed, killed again two stretches later, and resumed."""
    study_dir = batched.copy(tmp_path)
    for number in (segments, 2):
        owner = StudyOwner(study_dir, MACHINES)
        train_together(owner, study_dir, random.Random(segments), most=2, segments=number)
        kill(owner)
    batched.finish(study_dir, segment_s=0.0)
    assert set(rebatched(study_dir).values()) == {False}


@pytest.mark.parametrize("least", [1, 4])
def test_fixed_packs_train_again_with_their_finished_members(
    batched: Calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """Both from a checkpoint without these members and without a checkpoint."""
    for has_checkpoint in (True, False):
        study_dir = batched.copy(tmp_path / str(has_checkpoint))
        with monkeypatch.context() as patch:
            if not has_checkpoint:
                patch.setattr(PackRun, "checkpoint", lambda self: None)
            kill(train_all(study_dir, segment_s=0.0, least=least))
        batched.finish(study_dir)
        assert set(rebatched(study_dir).values()) == {False}
        assert "worker lost" not in [event for event, _ in events(study_dir)]


@pytest.mark.parametrize("number", [2, 4])
def test_a_window_cut_short_keeps_its_fixed_packs(batched: Calm, tmp_path: Path, number: int) -> None:
    study_dir = batched.copy(tmp_path)
    cut_window(study_dir, number)
    kill(train_all(study_dir, segment_s=0.0, least=1))
    batched.finish(study_dir)


def test_a_worker_that_leaves_or_a_node_that_goes_keeps_a_fixed_pack(batched: Calm, tmp_path: Path) -> None:
    study_dir = batched.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES, is_alive=lambda node: node != "gone")
    leaving = [SlotWorker(owner, study_dir, next_slot(owner)) for _ in range(2)]
    owner.share(1)
    leaving[0].segment(0.0)
    owner.share(None)
    slot = next_slot(owner)
    SlotWorker(owner, study_dir, slot, "gone").segment(0.0)
    owner.lost(slot, "no heartbeat")
    train_together(owner, study_dir, random.Random(1), most=2)
    leaving[1].segment(float("inf"))
    assert owner.close() == batched.counts
    batched.compare(study_dir)


def test_a_death_takes_a_fixed_pack_apart_and_says_so(batched: Calm, tmp_path: Path) -> None:
    study_dir = batched.copy(tmp_path)
    owner = StudyOwner(study_dir, MACHINES)
    slot = next_slot(owner)
    members = {member.trial for member in owner.lease(slot).members}
    owner.lost(slot, "killed")
    kill(owner)
    assert train_all(study_dir).close() == batched.counts
    assert {trial for trial, is_rebatched in rebatched(study_dir).items() if is_rebatched} == members
    others = list(set(rebatched(study_dir)) - members)
    assert_same_tables(
        batched.whole, study_dir, of=lambda rows: rows.filter([trial in others for trial in rows["trial"].to_pylist()])
    )
