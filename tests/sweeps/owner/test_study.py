"""A study on disk and its owner: refusals, permitted changes, the view of others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import optuna
import pyarrow.dataset as ds
import pytest

import pinncore
from sweeps.errors import StudyError, StudyWarning
from sweeps.owner import packing
from sweeps.owner.owner import WAIT, StudyOwner
from sweeps.runner.worker import SlotWorker
from sweeps.search import stable_hash
from sweeps.spec.study_spec import StudySpec
from sweeps.storage.optuna_sql import Ledger
from sweeps.storage.tables import StudyTables
from sweeps.study.initial_weights import trial_weights
from sweeps.study.loading import load_spec, read_spec
from sweeps.study.status import read_status

from ..small import (
    MACHINES,
    Calm,
    Crash,
    assert_same_tables,
    cut_window,
    events,
    kill,
    next_slot,
    planned_packs,
    prepare,
    table,
    train_all,
    write_study,
)


def start(tmp_path: Path, name: str = "root", **settings: object) -> Path:
    spec = load_spec(write_study(tmp_path / "data", **settings))  # type: ignore[arg-type]
    return prepare(tmp_path / name, spec)[0]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Eight trials in packs of two."""
    return Calm(tmp_path_factory.mktemp("calm"))


@pytest.fixture
def study_dir(calm: Calm, tmp_path: Path) -> Path:
    """The study before it has begun."""
    return calm.copy(tmp_path)


def counts(**states: int) -> dict[str, int]:
    return dict.fromkeys(("COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING"), 0) | states


def test_a_whole_study_is_in_the_tables_and_in_optuna(calm: Calm) -> None:
    trials = table(calm.whole, "trials")
    assert trials["trial"].to_pylist() == list(range(8))
    assert set(trials["state"].to_pylist()) == {"COMPLETE"}
    assert trials["seed"].to_pylist() == [stable_hash(3, trial, 1) >> 1 for trial in range(8)], "the seeds never change"
    for dimension in ("width", "adam_lr", "lbfgs_history", "init", "scale_factor"):
        assert len(set(trials[dimension].to_pylist())) > 1, f"{dimension} is swept"
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{calm.whole}/study.db")
    by_number = {trial.number: trial for trial in study.trials}
    for row in trials.to_pylist():
        assert by_number[row["trial"]].value == row["rel_l2"]
        assert by_number[row["trial"]].params["width"] == row["width"]
    assert not list((calm.whole / "checkpoints").glob("*")), "checkpoints of finished packs are removed"
    happened = [event for event, _ in events(calm.whole)]
    assert happened.count("asked") == happened.count("leased") == happened.count("finished") == 8
    assert happened[-1] == "ended"


def test_a_report_published_but_not_told_is_told_at_the_next_start(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = Ledger.mark

    def dying(self: Ledger, number: int, state: str, *rest: object) -> None:
        if state == "COMPLETE":
            raise Crash
        mark(self, number, state, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "mark", dying)
        with pytest.raises(Crash):
            train_all(study_dir)
    before = {path: path.read_bytes() for path in (study_dir / "trials").glob("*.parquet")}
    assert before and read_status(study_dir)["counts"]["COMPLETE"] == 0
    calm.finish(study_dir)
    assert all(path.read_bytes() == content for path, content in before.items()), "finished rows are not changed"


@pytest.mark.parametrize("number", [1, 6])
def test_a_window_cut_short_is_completed_with_the_same_packs(calm: Calm, study_dir: Path, number: int) -> None:
    cut_window(study_dir, number)
    calm.finish(study_dir)
    assert planned_packs(study_dir) == planned_packs(calm.whole)
    assert [event for event, _ in events(study_dir)].count("leased") == 8, "each trial is trained once"


def test_no_two_windows_share_a_pack(calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packing, "WINDOW_PACKS", 1)
        cut_window(study_dir, 3)
        calm.finish(study_dir)
    packs = planned_packs(study_dir)
    windows = [set(packs[start : start + 2]) for start in range(0, 8, 2)]
    assert len(set.union(*windows)) == sum(map(len, windows)), packs


def test_a_window_is_entered_whole_or_not_at_all(calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = Ledger.enter

    def dying(self: Ledger, number: int, *rest: object) -> None:
        if number == 5:
            raise Crash
        enter(self, number, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "enter", dying)
        with pytest.raises(Crash):
            train_all(study_dir)
    assert planned_packs(study_dir) == []
    calm.finish(study_dir)


def test_a_half_publication_is_removed(calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = StudyTables._write

    def dying(self: StudyTables, table_name: str, *rest: object) -> None:
        if table_name == "trials":
            raise Crash
        write(self, table_name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(StudyTables, "_write", dying)
        with pytest.raises(Crash):
            train_all(study_dir)
    assert list((study_dir / "curves").glob("*.parquet"))
    calm.finish(study_dir)


def test_members_of_a_torn_checkpoint_start_again(calm: Calm, study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    SlotWorker(owner, study_dir, next_slot(owner)).segment(0.0)
    kill(owner)
    tensors = next((study_dir / "checkpoints").rglob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-7])
    calm.finish(study_dir)
    assert any(tensors.name in detail for _, detail in events(study_dir)), "the event names the torn file"


def test_a_second_owner_is_told_who_holds_the_study(study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    assert str(os.getpid()) in (read_status(study_dir)["held_by"] or "")
    with pytest.raises(StudyError, match=f"is being run by process {os.getpid()} on"):
        StudyOwner(study_dir, MACHINES)
    owner.close()
    assert read_status(study_dir)["held_by"] is None
    StudyOwner(study_dir, MACHINES).close()


def test_a_refused_start_releases_the_study(study_dir: Path) -> None:
    for _ in range(2):
        with pytest.raises(StudyError, match="trial 99 does not exist"):
            StudyOwner(study_dir, MACHINES, retry=[99])
    owner = StudyOwner(study_dir, MACHINES)
    assert owner._attempt.number == 3
    owner.close()


def test_running_means_leased(study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    slot = next_slot(owner)
    assert owner.snapshot().counts["RUNNING"] == 0
    owner.lease(slot)
    assert owner.snapshot().counts == counts(RUNNING=2, WAITING=6)
    kill(owner)
    again = StudyOwner(study_dir, MACHINES)
    assert again.snapshot().counts == counts(WAITING=8)
    again.close()


def test_more_trials_leave_finished_ones_unchanged(tmp_path: Path, calm: Calm) -> None:
    study_dir = start(tmp_path, trials=4)
    train_all(study_dir).close()
    before = {path: path.read_bytes() for path in study_dir.rglob("*.parquet")}
    spec = load_spec(tmp_path / "data" / "small.yaml", ["search.trials=8"])
    train_all(study_dir, spec=spec).close()
    assert table(study_dir, "trials")["trial"].to_pylist() == list(range(8))
    assert_same_tables(calm.whole, study_dir, places_differ=True)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert read_status(study_dir)["limit"] == 8


def test_fewer_trials_leave_the_surplus_untrained(study_dir: Path, calm: Calm) -> None:
    train_all(study_dir, segment_s=0.0, least=1).close()
    fewer = load_spec(calm.file, ["search.trials=5"])
    owner = train_all(study_dir, spec=fewer)
    snapshot = owner.snapshot()
    assert (snapshot.limit, read_status(study_dir)["limit"]) == (5, 5)
    assert owner.close() == counts(COMPLETE=5, WAITING=3)
    assert table(study_dir, "trials")["trial"].to_pylist() == list(range(5))
    calm.finish(study_dir, spec=load_spec(calm.file), but=("spec_hash",))
    assert read_status(study_dir)["limit"] == 8


@pytest.mark.parametrize(
    "change", ["train.epochs=21", "search.seed=4", "problem.loss=mean_square", "space.width={choice: [3, 5]}"]
)
def test_another_study_under_the_same_name_is_refused_with_a_diff(tmp_path: Path, change: str) -> None:
    study_dir = start(tmp_path)
    before = (study_dir / "study.yaml").read_bytes()
    with pytest.raises(StudyError, match="holds another study") as refusal:
        prepare(tmp_path / "root", load_spec(tmp_path / "data" / "small.yaml", [change]))
    assert any(line.startswith("+") for line in str(refusal.value).splitlines())
    assert "--new-study small-2" in str(refusal.value) and "--branch small-2" in str(refusal.value)
    assert (study_dir / "study.yaml").read_bytes() == before


def test_changed_data_are_refused(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, least=1).close()
    table_file = tmp_path / "data" / "g.csv"
    lines = table_file.read_text().splitlines()
    table_file.write_text("\n".join([lines[0], "0.53," + lines[1].split(",", 1)[1], *lines[2:]]))
    with pytest.raises(StudyError, match=r"data .* have changed"):
        StudyOwner(study_dir, MACHINES)


def test_moving_a_file_of_rows_away_costs_nothing_else(calm: Calm, study_dir: Path, tmp_path: Path) -> None:
    train_all(study_dir, least=1).close()
    rows = next((study_dir / "trials").glob("*.parquet"))
    rows.rename(tmp_path / rows.name)
    with pytest.raises(StudyError, match="rows are gone"):
        StudyOwner(study_dir, MACHINES)
    (tmp_path / rows.name).rename(rows)
    calm.finish(study_dir)


def test_a_file_that_was_copied_in_is_noted_and_changes_nothing(calm: Calm, study_dir: Path) -> None:
    train_all(study_dir, least=1).close()
    rows = next((study_dir / "trials").glob("*.parquet"))
    copy = Path(shutil.copy(rows, rows.with_name("copy.parquet")))
    with pytest.warns(StudyWarning, match="left out copy.parquet"):
        train_all(study_dir).close()
    copy.unlink()
    calm.finish(study_dir)
    events = StudyTables(study_dir).read("events", columns=["event", "detail"]).to_pylist()
    assert {"event": "left out", "detail": "trials/copy.parquet, which this study did not write"} in events


def test_the_whole_study_moves_to_another_folder(calm: Calm, study_dir: Path, tmp_path: Path) -> None:
    train_all(study_dir, segment_s=0.0, least=2).close()
    moved = tmp_path / "elsewhere" / "small"
    shutil.copytree(study_dir, moved)
    shutil.rmtree(study_dir)
    calm.finish(moved)


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    spec = load_spec(write_study(tmp_path / "data"))
    (tmp_path / "root" / "small").mkdir(parents=True)
    (tmp_path / "root" / "small" / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match="is not a study"):
        prepare(tmp_path / "root", spec)
    assert [path.name for path in (tmp_path / "root" / "small").iterdir()] == ["thesis.tex"]


def test_the_comparison_can_fail(calm: Calm, tmp_path: Path) -> None:
    study_dir = start(tmp_path, epochs=21)
    train_all(study_dir).close()
    with pytest.raises(AssertionError):
        assert_same_tables(calm.whole, study_dir, places_differ=True)


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a{b}c", "é b"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    study_dir = start(tmp_path, name, trials=1, epochs=1, iterations=1)
    train_all(study_dir).close()
    assert (study_dir / "study.db").is_file() and read_status(study_dir)["counts"]["COMPLETE"] == 1


def test_an_address_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--root"):
        prepare(Path("s3://bucket/studies"), load_spec(write_study(tmp_path / "data")))


def test_a_study_file_changed_by_hand_is_refused(study_dir: Path) -> None:
    file = study_dir / "study.yaml"
    file.write_text(file.read_text().replace("epochs: 20", "epochs: 21"))
    with pytest.raises(StudyError, match="changed by hand"):
        StudyOwner(study_dir, MACHINES)


def test_a_refused_study_file_is_not_changed(study_dir: Path) -> None:
    owner = train_all(study_dir, least=1)
    owner._attempt.ledger.set_attribute("identity", "another")
    owner.close()
    before = (study_dir / "study.yaml").read_bytes()
    spec = read_spec(study_dir, ["search.trials=99"])
    with pytest.raises(StudyError, match="is not what the study began with"):
        StudyOwner(study_dir, MACHINES, spec)
    assert (study_dir / "study.yaml").read_bytes() == before


def test_a_second_driver_does_not_change_the_study(calm: Calm, study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    before = (study_dir / "study.yaml").read_bytes()
    with pytest.raises(StudyError, match="is being run"):
        StudyOwner(study_dir, MACHINES, load_spec(calm.file, ["search.trials=1"]))
    assert (study_dir / "study.yaml").read_bytes() == before
    owner.close()


def test_a_trial_entered_by_another_tool_is_refused_by_number(study_dir: Path) -> None:
    StudyOwner(study_dir, MACHINES).close()
    train_all(study_dir, least=1).close()
    optuna.load_study(study_name="small", storage=f"sqlite:///{study_dir}/study.db").enqueue_trial({"width": 3})
    with pytest.raises(StudyError, match="trial 8 was entered"):
        StudyOwner(study_dir, MACHINES)


def test_status_of_a_killed_study_says_waiting_and_writes_nothing(study_dir: Path) -> None:
    owner = StudyOwner(study_dir, MACHINES)
    owner.lease(next_slot(owner))
    assert read_status(study_dir)["counts"]["RUNNING"] == 2
    kill(owner)
    assert read_status(study_dir)["counts"] == counts(WAITING=8)
    (study_dir / "study.db").write_bytes(b"")
    with pytest.raises(StudyError, match="missing or empty"):
        read_status(study_dir)
    assert (study_dir / "study.db").stat().st_size == 0


@pytest.mark.parametrize("fate", ["deleted", "replaced by another file"])
def test_a_study_whose_database_is_taken_away_says_so_and_goes_on(calm: Calm, study_dir: Path, fate: str) -> None:
    owner, file = train_all(study_dir, least=3), study_dir / "study.db"
    if fate == "deleted":
        file.unlink()
    else:
        shutil.copy(file, study_dir / "copy")
        (study_dir / "copy").replace(file)
    owner.close()
    assert owner._broken is not None and f"study.db was {fate} while it was in use" in owner._broken
    assert owner._broken.count("Run the study again: it continues") == 1
    calm.finish(study_dir)


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_damaged_database_is_named(study_dir: Path, content: bytes) -> None:
    (study_dir / "study.db").write_bytes(content)
    for use in (lambda: read_status(study_dir), lambda: StudyOwner(study_dir, MACHINES)):
        with pytest.raises(StudyError, match=r"study\.db"):
            use()


def test_events_are_in_order(study_dir: Path) -> None:
    train_all(study_dir, least=3).close()
    train_all(study_dir).close()
    log = ds.dataset(study_dir / "events", format="parquet").to_table().sort_by("time")
    assert log["attempt"].to_pylist() == sorted(log["attempt"].to_pylist())
    assert {"started", "resumed", "asked", "leased", "finished", "ended"} <= set(log["event"].to_pylist())


# ---- budgets ------------------------------------------------------------------------------------------------------


def limited(calm: Calm, budget: str) -> StudySpec:
    return load_spec(calm.file, [f"budget.{budget}"])


def test_hours_are_counted_over_all_attempts(calm: Calm, study_dir: Path) -> None:
    spec, now = limited(calm, "hours=1"), [500.0]
    for used in (0.5, 0.4):  # the first is killed, the second ends
        owner = StudyOwner(study_dir, MACHINES, spec, clock=lambda: now[0])
        worker = SlotWorker(owner, study_dir, next_slot(owner))
        worker.segment(0.0)
        now[0] += used * 3600
        assert owner.snapshot().over_budget is None
        kill(owner) if used == 0.5 else owner.close()
        now[0] = 77.0
    owner = StudyOwner(study_dir, MACHINES, spec, clock=lambda: now[0])
    worker = SlotWorker(owner, study_dir, next_slot(owner))
    waiting = next_slot(owner)
    now[0] += 0.11 * 3600
    assert owner.snapshot().over_budget == "budget.hours: 1 h are used up (1.01 h)"
    assert owner.offer() == WAIT and not owner.lease(waiting).members, "nothing new starts"
    worker.segment(float("inf"))
    assert worker.done and owner.offer() is None
    assert owner.close() == counts(COMPLETE=2, WAITING=6), "trials that had begun are finished"
    calm.finish(study_dir, spec=load_spec(calm.file), but=("spec_hash",))


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ("evaluations=1", "budget.evaluations: 1 are used up"),
        ("device_hours=1e-9", "budget.device_hours: 1e-09 h are used up"),
        ("target=1000", "budget.target: 1e+05 % is reached"),
    ],
)
def test_a_spent_budget_starts_nothing_new(calm: Calm, study_dir: Path, budget: str, reason: str) -> None:
    owner = train_all(study_dir, spec=limited(calm, budget), segment_s=0.0)
    assert (owner.snapshot().over_budget or "").startswith(reason)
    first = owner.close()
    assert first["COMPLETE"] + first["WAITING"] == 8 and 1 <= first["COMPLETE"] <= 2
    assert train_all(study_dir).close() == first, "nor at the next start"
    calm.finish(study_dir, spec=load_spec(calm.file), but=("spec_hash",))


def test_failures_beyond_their_number_start_nothing_new(
    calm: Calm, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = pinncore.Pack.step

    def buggy(self: pinncore.Pack, ticks: int) -> None:
        if any(member.label in (0, 1, 2, 3) for member in self.members):
            raise ValueError("a bug")
        step(self, ticks)

    spec = limited(calm, "max_failures=1")
    with monkeypatch.context() as patch:
        patch.setattr(pinncore.Pack, "step", buggy)
        owner = train_all(study_dir, spec=spec)
        assert owner.snapshot().over_budget == "budget.max_failures: 2 trials have failed, more than 1"
        assert owner.close()["FAIL"] == 2
    failed = [row["trial"] for row in table(study_dir, "trials").to_pylist() if row["state"] == "FAIL"]
    owner = train_all(study_dir, spec=spec, retry=failed)
    assert owner.snapshot().failures == 0
    assert owner.close() == counts(COMPLETE=8, FAIL=2), "retried failures no longer count"


# ---- initial weights from elsewhere -------------------------------------------------------------------------------


def first_weights(study_dir: Path) -> list[float]:
    weights = table(study_dir, "weights")
    initial = weights.filter((ds.field("epoch") == 0) & (ds.field("trial") == 0))
    values: list[float] = initial["value"].to_pylist()
    return values


@pytest.mark.parametrize("kind", ["file", "trial"])
def test_initial_weights_are_the_studys_own(calm: Calm, tmp_path: Path, kind: str) -> None:
    """A change of their source after the first start does not matter or is reported."""
    source, trial = Path(shutil.copytree(calm.whole, tmp_path / "source")), 2
    width = int(trial_weights(source, trial)["b1"].size)
    np.savez(tmp_path / "w.npz", **trial_weights(source, trial))  # type: ignore[arg-type]  # the stub of NumPy takes the values for flags
    init = f"file:{tmp_path}/w.npz" if kind == "file" else f"trial:{source}/{trial}"
    space = ["space={adam_lr: {loguniform: [0.001, 0.02]}}", f"train.width={width}", f"train.init={init}"]
    begun = Calm(tmp_path / "begun", *space, trials=3, pack=1)
    weights = trial_weights(source, trial)
    assert sorted(first_weights(begun.whole)) == sorted(np.concatenate([w.ravel() for w in weights.values()]))
    study_dir = begun.copy(tmp_path / "goes on")
    train_all(study_dir, segment_s=0.0, least=1).close()
    (copy,) = (study_dir / "initial_weights").iterdir()
    content = copy.read_bytes()
    copy.write_bytes(content[:-10])
    StudyOwner(study_dir, MACHINES).close()
    assert copy.read_bytes() == content, "a torn copy is replaced"
    if kind == "file":
        np.savez(tmp_path / "w.npz", **{k: 2 * v for k, v in trial_weights(source, trial).items()})  # type: ignore[arg-type]
        with pytest.raises(StudyError, match=r"w\.npz: the file has changed since the study began"):
            StudyOwner(study_dir, MACHINES)
    (tmp_path / "w.npz").unlink()
    shutil.rmtree(source)
    begun.finish(study_dir)
    copy.write_bytes(content[:-10])
    with pytest.raises(StudyError, match=r"w\.npz: cannot be read" if kind == "file" else "there is no study in"):
        StudyOwner(study_dir, MACHINES)
