"""A pack in its worker: its reports, the answers it follows, its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pinncore
from pinncore.cuda.devices import Gpu
from sweeps.owner.messages import Answer, MemberTask, PackReport, PackTask
from sweeps.owner.owner import StudyOwner
from sweeps.runner import pack_run, records
from sweeps.runner.pack_run import PackRun, is_out_of_memory
from sweeps.runner.worker import SlotWorker

from ..small import MACHINES, Calm, Crash, kill, next_slot

END = float("inf")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Six trials that are one pack."""
    return Calm(tmp_path_factory.mktemp("calm"), trials=6, pack=6, epochs=20, iterations=8)


@pytest.fixture
def study_dir(calm: Calm, tmp_path: Path) -> Path:
    return calm.copy(tmp_path)


@pytest.fixture
def task(study_dir: Path) -> Iterator[PackTask]:
    """The first lease of a study."""
    owner = StudyOwner(study_dir, MACHINES)
    yield owner.lease(next_slot(owner))
    kill(owner)


def rows_of(*reports: PackReport) -> dict[int, dict[str, Any]]:
    """Return every reported row by trial; check that no trial was reported twice."""
    rows = [dict(record.row) for report in reports for record in report.records]
    assert len({row["trial"] for row in rows}) == len(rows)
    return {row["trial"]: row for row in rows}


def to_the_end(run: PackRun) -> Iterator[PackReport]:
    """Yield the reports of a pack until its end, without answers of an owner."""
    while run.left or run.has_results:
        yield run.train(END)


def numbers(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["state"], row["stop_reason"], row["rel_l2"], row["loss"], row["evaluations"], row["seed"]


def test_members_beyond_the_places_begin_when_others_end(task: PackTask, study_dir: Path) -> None:
    together = rows_of(*to_the_end(PackRun(task, study_dir)))
    run = PackRun(replace(task, size=2), study_dir)
    assert (run.active, run.left) == (0, 6)
    first = run.train(0.0)
    assert (run.active, run.left, first.left) == (2, 6, 6)
    run.checkpoint()
    assert not run.train(0.0).saved, "waiting members are in no checkpoint"
    reports = list(to_the_end(run))
    assert len(reports) > 1, "a place that is free is reported"
    one_by_one = rows_of(*reports)
    assert {trial: numbers(row) for trial, row in one_by_one.items()} == {
        trial: numbers(row) for trial, row in together.items()
    }
    assert not run.has_results and run.left == 0


def test_saved_is_what_stands_in_a_checkpoint(task: PackTask, study_dir: Path) -> None:
    run = PackRun(task, study_dir)
    assert not run.train(0.0).saved
    run.checkpoint()
    assert run.train(0.0).saved
    run.follow(Answer(taken=True, add=(replace(task.members[0], label=99, trial=99),)))
    assert not run.train(0.0).saved


def test_a_checkpoint_replaces_the_one_before(task: PackTask, study_dir: Path) -> None:
    run = PackRun(task, study_dir)
    run.train(0.0)
    run.checkpoint()
    run.train(0.0)
    run.checkpoint()
    (pack,) = (study_dir / "checkpoints").iterdir()
    assert [path.name for path in pack.iterdir()] == ["attempt-0001-lease-000001-segment-000001"]
    resumed = PackRun(replace(task, lease=2), study_dir)
    progress = resumed.train(0.0).progress
    assert progress.evaluations == 30 * progress.members > 0, "it resumes and does not begin anew"


def test_members_end_where_the_owner_says(task: PackTask, study_dir: Path) -> None:
    """A member in training ends with its results, a waiting one without, and neither is reported again."""
    run = PackRun(replace(task, size=3), study_dir)
    run.train(0.0)
    labels = [member.label for member in task.members]
    run.follow(Answer(taken=True, stop=(labels[0], labels[5], 77)))
    assert run.left == 4
    report = run.train(0.0)
    rows = {member.label: rows_of(report).get(member.trial) for member in task.members}
    training, waiting = rows[labels[0]], rows[labels[5]]
    assert training is not None and waiting is not None and len(report.records) == 2
    assert training["state"] == waiting["state"] == "PRUNED"
    assert training["stop_reason"] == waiting["stop_reason"] == "pruned"
    assert training["evaluations"] == 10 and training["rel_l2"] > 0 and training["failure"] is None
    assert "evaluations" not in waiting
    run.follow(Answer(taken=True, stop=(labels[0], labels[5])))
    assert len(rows_of(*to_the_end(run))) == 4


def test_data_that_vanish_fail_the_members_and_not_the_process(tmp_path: Path) -> None:
    calm = Calm(tmp_path, trials=2)
    owner = StudyOwner(calm.fresh, MACHINES)
    task = owner.lease(next_slot(owner))
    (tmp_path / "data" / "g.csv").unlink()
    report = PackRun(task, calm.fresh).train(END)
    assert owner.report(report).taken
    assert owner.close()["FAIL"] == 2
    assert [record.row["state"] for record in report.records] == ["FAIL", "FAIL"]
    assert all("does not exist" in record.row["failure"] for record in report.records)


def test_an_objective_that_cannot_be_computed_is_a_failure(task: PackTask, study_dir: Path) -> None:
    for row in rows_of(*to_the_end(PackRun(replace(task, objectives=("rel_l2", "no_such")), study_dir))).values():
        assert (row["state"], row["failure"]) == ("FAIL", "the objective no_such could not be computed")


@pytest.mark.parametrize("most", [5, 3, 1])
@pytest.mark.parametrize("where", ["__init__", "step", "joined"])
def test_memory_that_runs_out_halves_the_pack(
    task: PackTask, study_dir: Path, monkeypatch: pytest.MonkeyPatch, where: str, most: int
) -> None:
    one_after_the_other = [changed(member, epochs=15 + 3 * i) for i, member in enumerate(task.members)]
    task = replace(task, members=tuple(one_after_the_other))
    expected = rows_of(*to_the_end(PackRun(task, study_dir)))
    with monkeypatch.context() as patch:
        limit_memory(patch, most, where)
        patch.setattr(pack_run, "TICKS_BETWEEN_LOOKS", 1)
        size = 3 if where == "joined" else 6
        run = PackRun(replace(task, size=size), study_dir)
        reports = [run.train(0.0)]
        run.checkpoint()
        reports += list(to_the_end(run))
    given_back = [label for report in reports for label in report.given_back]
    rows = rows_of(*reports)
    assert reports[-1].size <= max(most, 3 if where == "joined" else 0)
    assert len(set(given_back)) == len(given_back) and {*given_back, *rows} == {member.label for member in task.members}
    assert bool(given_back) == (where != "joined" or most < 3), "members in training fitted into memory"
    assert {trial: numbers(row) for trial, row in rows.items()} == {trial: numbers(expected[trial]) for trial in rows}


def changed(member: MemberTask, **settings: Any) -> MemberTask:
    """Return a member with other settings of its training."""
    return replace(member, config={**member.config, "train": {**member.config["train"], **settings}})


def limit_memory(patch: pytest.MonkeyPatch, most: int, where: str) -> None:
    """Let memory suffice for `most` members in a pack."""
    real: Callable[..., Any] = getattr(pinncore.Pack, where)

    def limited(self: pinncore.Pack, *args: Any, **options: Any) -> Any:
        others = len(args[0]) if where in ("__init__", "joined") else 0
        if others + (0 if where == "__init__" else self.active) > most:
            raise MemoryError if where != "step" else RuntimeError("you tried to allocate memory: not enough memory")
        return real(self, *args, **options)

    patch.setattr(pinncore.Pack, where, limited)


def test_a_member_without_room_fails(task: PackTask, study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0, "step")
    report = PackRun(replace(task, members=task.members[:1], size=1), study_dir).train(END)
    (record,) = report.records
    assert (record.row["state"], record.row["failure"]) == ("FAIL", "out of memory, alone in its pack")
    assert report.given_back == () and report.left == 0


@pytest.mark.parametrize("where", ["step", "__init__"])
def test_memory_that_the_driver_lacks_halves_the_pack(
    task: PackTask, study_dir: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    usual = getattr(pinncore.Pack, where)

    def limited(self: pinncore.Pack, *arguments: Any, **options: Any) -> None:
        if len(arguments[0] if where == "__init__" else self.members) > 3:
            raise pinncore.PinnError("CUDA reports CUDA_ERROR_OUT_OF_MEMORY")
        usual(self, *arguments, **options)

    monkeypatch.setattr(pinncore.Pack, where, limited)
    report = PackRun(task, study_dir).train(0.0)
    assert (report.size, report.left, len(report.given_back), report.records) == (3, 3, 3, [])


def test_a_row_says_on_which_gpu_it_was_trained(
    task: PackTask, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("device_name", "driver", "capability")
    brief = changed(task.members[0], epochs=1, iterations=0)
    (record,) = PackRun(replace(task, members=(brief,), size=1), study_dir).train(END).records
    assert not record.row.keys() & set(columns)
    gpu = Gpu(0, "NVIDIA H200", (9, 0), 150_000_000_000, "570.124.06")
    monkeypatch.setattr(records, "gpu_of", {"cpu": gpu}.get)  # it trains on the CPU all the same
    records._gpu_columns.cache_clear()
    (record,) = PackRun(replace(task, members=(brief,), size=1), study_dir).train(END).records
    records._gpu_columns.cache_clear()
    assert [record.row[name] for name in columns] == ["NVIDIA H200", "570.124.06", "9.0"]


def test_what_finished_before_memory_ran_out_is_reported(
    task: PackTask, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = changed(task.members[0], epochs=3, iterations=0)
    steps: list[int] = []
    step = pinncore.Pack.step

    def second_fails(self: pinncore.Pack, ticks: int) -> None:
        steps.append(self.active)
        if len(steps) == 2:
            raise torch.cuda.OutOfMemoryError
        step(self, ticks)

    monkeypatch.setattr(pinncore.Pack, "step", second_fails)
    report = PackRun(replace(task, members=(brief, *task.members[1:])), study_dir).train(END)
    assert steps == [6, 5] and report.records[0].row["trial"] == brief.trial
    assert len(report.given_back) == 3 and report.size == 2


def test_a_pack_that_was_halved_says_that_it_was_built_anew(
    study_dir: Path, task: PackTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so even in another process, from its checkpoint; members that ended before are not marked."""
    brief, *others = (changed(member, engine="torch") for member in task.members)
    members = (changed(brief, epochs=3, iterations=0), *others)
    fixed = replace(task, members=members, keep_composition=True)
    run = PackRun(fixed, study_dir)
    first = run.train(0.0)
    run.checkpoint()
    with monkeypatch.context() as patch:
        limit_memory(patch, 4, "step")
        halved = run.train(END)
    assert len(halved.given_back) == 3
    run.train(0.0)
    run.checkpoint()
    again = PackRun(replace(fixed, lease=2), study_dir)
    rows = rows_of(first, *to_the_end(again))
    assert {trial: row["rebatched"] for trial, row in rows.items()} == {
        members[0].trial: False,
        members[1].trial: True,
        members[2].trial: True,
    }


def test_an_exception_gives_up_the_pack_and_not_its_finished_members(
    task: PackTask, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = PackRun(task, study_dir)
    run.follow(Answer(taken=True, stop=()))
    run.train(0.0)
    run.follow(Answer(taken=True, stop=(task.members[0].label,)))
    monkeypatch.setattr(pinncore.Pack, "step", lambda self, ticks: [][0])
    with pytest.raises(IndexError):
        run.train(END)
    report = run.crash_report("unexpected IndexError", "Traceback")
    assert (report.crashed, report.detail) == ("unexpected IndexError", "Traceback")
    assert list(rows_of(report)) == [task.members[0].trial]


def test_a_torn_checkpoint_is_noted_and_its_members_begin_anew(task: PackTask, study_dir: Path) -> None:
    expected = rows_of(*to_the_end(PackRun(task, study_dir)))
    run = PackRun(task, study_dir)
    run.train(0.0)
    run.checkpoint()
    torn = next((study_dir / "checkpoints").rglob("*.safetensors"))
    torn.write_bytes(b"")
    again = PackRun(replace(task, lease=2), study_dir)
    reports = list(to_the_end(again))
    assert [torn.name in note for note in reports[0].notes] == [True] and not any(
        report.notes for report in reports[1:]
    )
    assert {t: numbers(row) for t, row in rows_of(*reports).items()} == {t: numbers(r) for t, r in expected.items()}


@pytest.mark.parametrize(
    ("problem", "verdict"),
    [
        (MemoryError(), True),
        (np.exceptions.AxisError("axis"), False),
        (torch.cuda.OutOfMemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (pinncore.PinnError("CUDA reports CUDA_ERROR_OUT_OF_MEMORY"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shapes differ"), False),
        (pinncore.PinnError("CUDA reports CUDA_ERROR_ILLEGAL_ADDRESS"), False),
        (ValueError("cannot allocate memory"), False),
    ],
)
def test_what_running_out_of_memory_is(problem: Exception, verdict: bool) -> None:
    assert is_out_of_memory(problem) is verdict


def test_a_worker_whose_disk_fails_says_so_and_leaves(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    worker = SlotWorker(owner, study_dir, next_slot(owner))

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", "/disk/checkpoints")

    monkeypatch.setattr(pinncore, "write_checkpoint", full)
    worker.segment(0.0)
    assert worker.done and owner.snapshot().broken == "No space left on device: /disk/checkpoints"
    assert owner.offer() is None
    owner.close()


def test_a_worker_passes_on_what_nothing_may_catch(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    worker = SlotWorker(owner, study_dir, next_slot(owner))

    def die(self: PackRun, until: float) -> PackReport:
        raise Crash

    monkeypatch.setattr(PackRun, "train", die)
    with pytest.raises(Crash):
        worker.segment(0.0)
    kill(owner)
