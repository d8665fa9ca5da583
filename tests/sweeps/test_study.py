"""The owner of a study: every crash leaves a study that goes on to the table of one never interrupted."""

from __future__ import annotations

import datetime
import hashlib
import shutil
from pathlib import Path

import optuna
import pyarrow.dataset as ds
import pytest

from sweeps import packs as packs_module
from sweeps import specfile
from sweeps.errors import StudyError
from sweeps.folder import LATER_FIELDS, MAY_CHANGE, read_spec
from sweeps.ledger import Ledger
from sweeps.packs import PackReport, PackRun
from sweeps.spec import load_spec
from sweeps.study import StudyOwner, read_status

from .small import CLUSTER, assert_same_tables, prepare, table, train_all, train_pack, write_study


class Crash(BaseException):
    """Stands for kill -9 at one place: nothing may catch it."""


def start(tmp_path: Path, name: str = "root", **settings: object) -> Path:
    spec = load_spec(write_study(tmp_path / "data", **settings))  # type: ignore[arg-type]
    return prepare(tmp_path / name, spec)[0]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study that every interrupted one must equal; the data's path is not part of the tables' identity."""
    study_dir = start(tmp_path_factory.mktemp("whole"))
    train_all(study_dir).close()
    return study_dir


def finish_and_compare(study_dir: Path, uninterrupted: Path) -> None:
    owner = train_all(study_dir)
    counts = owner.close()
    assert counts == {"COMPLETE": 8, "FAIL": 0, "RUNNING": 0, "WAITING": 0}
    trials = table(study_dir, "trials")["trial"].to_pylist()
    assert trials == list(range(8)), "every trial once"
    assert_same_tables(uninterrupted, study_dir, places_differ=True)


def test_a_whole_study_is_in_the_tables_and_in_optuna(uninterrupted: Path) -> None:
    trials = table(uninterrupted, "trials")
    assert trials["trial"].to_pylist() == list(range(8))
    assert set(trials["state"].to_pylist()) == {"COMPLETE"}
    for dimension in ("width", "adam_lr", "lbfgs_history", "init", "scale_factor"):
        assert len(set(trials[dimension].to_pylist())) > 1, f"{dimension} is swept"
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{uninterrupted}/study.db")
    by_number = {trial.number: trial for trial in study.trials}
    for row in trials.to_pylist():
        assert by_number[row["trial"]].value == row["rel_l2"]
        assert by_number[row["trial"]].params["width"] == row["width"]
    assert not list((uninterrupted / "checkpoints").glob("*")), "nothing is left of finished packs"
    events = ds.dataset(uninterrupted / "events", format="parquet").to_table().to_pydict()["event"]
    assert events.count("asked") == 8 and events.count("finished") == 8 and events[-1] == "ended"


def test_a_report_published_but_not_told_is_told_at_the_next_start(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = start(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(StudyOwner, "_tell", lambda self, row: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            train_all(study_dir)
    before = {path: path.read_bytes() for path in (study_dir / "trials").glob("*.parquet")}
    assert before and read_status(study_dir)["counts"]["COMPLETE"] == 0
    finish_and_compare(study_dir, uninterrupted)
    assert all(path.read_bytes() == content for path, content in before.items()), "finished rows are not touched"


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_window_cut_short_is_completed_with_the_same_packs(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    study_dir = start(tmp_path)
    create = Ledger.create

    def dying(self: Ledger, number: int, *rest: object) -> None:
        if number == position:
            raise Crash
        create(self, number, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "create", dying)
        with pytest.raises(Crash):
            train_all(study_dir)
    finish_and_compare(study_dir, uninterrupted)


@pytest.mark.parametrize("segments", [1, 2, 4])
@pytest.mark.parametrize("place", ["before report", "after report", "after checkpoint"])
def test_a_worker_killed_between_any_two_steps_costs_no_trial_and_changes_no_number(
    tmp_path: Path, uninterrupted: Path, place: str, segments: int
) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    pack = owner.next_pack()
    assert pack is not None
    run = PackRun(owner.lease(pack), study_dir)
    for segment in range(segments):
        report = run.segment(0.02)
        if place == "before report" and segment == segments - 1:
            break
        owner.report(report)
        if place == "after report" and segment == segments - 1:
            break
        run.checkpoint()
    owner._lock.release()
    finish_and_compare(study_dir, uninterrupted)


def test_a_half_publication_is_removed(tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.store import StudyTables

    study_dir = start(tmp_path)
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
    finish_and_compare(study_dir, uninterrupted)


def test_a_torn_checkpoint_is_set_aside_and_its_members_start_anew(tmp_path: Path, uninterrupted: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    pack = owner.next_pack()
    assert pack is not None
    run = PackRun(owner.lease(pack), study_dir)
    owner.report(run.segment(0.0))
    run.checkpoint()
    owner._lock.release()
    tensors = next((study_dir / "checkpoints").rglob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-7])
    finish_and_compare(study_dir, uninterrupted)
    details = ds.dataset(study_dir / "events", format="parquet").to_table().to_pydict()["detail"]
    assert any(tensors.name in detail for detail in details), "the event names the torn file"


def test_reports_of_an_older_attempt_are_refused(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    pack = owner.next_pack()
    assert pack is not None
    stale = PackRun(owner.lease(pack), study_dir)
    owner._lock.release()
    later = StudyOwner(study_dir, CLUSTER)
    later.lease(later.next_pack() or 0)
    report = stale.segment(60)
    assert report.done and report.trials
    later.report(report)
    assert later.snapshot()["counts"]["COMPLETE"] == 0
    later.close()


def test_a_second_owner_is_told_who_holds_the_study(tmp_path: Path) -> None:
    import os

    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    assert str(os.getpid()) in (read_status(study_dir)["held_by"] or "")
    with pytest.raises(StudyError, match=f"is being run by process {os.getpid()} on"):
        StudyOwner(study_dir, CLUSTER)
    owner.close()
    assert read_status(study_dir)["held_by"] is None
    StudyOwner(study_dir, CLUSTER).close()


def test_running_means_leased(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    pack = owner.next_pack()
    assert pack is not None and owner.snapshot()["counts"]["RUNNING"] == 0
    owner.lease(pack)
    assert owner.snapshot()["counts"] == {"COMPLETE": 0, "FAIL": 0, "RUNNING": 2, "WAITING": 6}
    owner._lock.release()
    again = StudyOwner(study_dir, CLUSTER)
    assert again.snapshot()["counts"] == {"COMPLETE": 0, "FAIL": 0, "RUNNING": 0, "WAITING": 8}
    again.close()


def test_trials_may_grow_and_what_was_done_stays(tmp_path: Path, uninterrupted: Path) -> None:
    study_dir = start(tmp_path, trials=4)
    train_all(study_dir).close()
    spec = load_spec(tmp_path / "data" / "small.yaml", ["search.trials=8"])
    assert prepare(tmp_path / "root", spec) == (study_dir, False)
    train_all(study_dir).close()
    assert table(study_dir, "trials")["trial"].to_pylist() == list(range(8))
    assert table(study_dir, "trials")["adam_lr"].to_pylist() == table(uninterrupted, "trials")["adam_lr"].to_pylist()


@pytest.mark.parametrize(
    "change", ["train.adam_epochs=21", "search.seed=4", "problem.loss=mean_square", "space.width={choice: [3, 5]}"]
)
def test_another_study_under_the_same_name_is_refused_with_a_diff(tmp_path: Path, change: str) -> None:
    study_dir = start(tmp_path)
    before = (study_dir / "study.yaml").read_bytes()
    with pytest.raises(StudyError, match="holds another study") as refusal:
        prepare(tmp_path / "root", load_spec(tmp_path / "data" / "small.yaml", [change]))
    assert any(line.startswith("+") for line in str(refusal.value).splitlines())
    assert "--set study=small-2" in str(refusal.value)
    assert (study_dir / "study.yaml").read_bytes() == before


def test_changed_data_are_refused(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, packs=1).close()
    table_file = tmp_path / "data" / "g.csv"
    lines = table_file.read_text().splitlines()
    table_file.write_text("\n".join([lines[0], "0.53," + lines[1].split(",", 1)[1], *lines[2:]]))
    with pytest.raises(StudyError, match=r"data .* have changed"):
        StudyOwner(study_dir, CLUSTER)


def test_finished_trials_whose_rows_are_gone_are_never_passed_over(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, packs=1).close()
    next((study_dir / "trials").glob("*.parquet")).unlink()
    with pytest.raises(StudyError, match="rows are gone"):
        StudyOwner(study_dir, CLUSTER)


def test_a_lost_worker_fails_its_members_with_the_reason_and_the_rest_go_on(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    pack = owner.next_pack()
    assert pack is not None
    owner.lease(pack)
    owner.lost(pack, "the machine burnt down")
    while (pack := owner.next_pack()) is not None:
        train_pack(owner, study_dir, pack)
    assert owner.close() == {"COMPLETE": 6, "FAIL": 2, "RUNNING": 0, "WAITING": 0}
    failures = [row["failure"] for row in table(study_dir, "trials").to_pylist() if row["state"] == "FAIL"]
    assert failures == ["the machine burnt down"] * 2


def test_a_spent_budget_starts_nothing_new_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    spec = load_spec(tmp_path / "data" / "small.yaml", ["budget.hours=1"])
    assert prepare(tmp_path / "root", spec) == (study_dir, False)
    hours = iter([0.0, 0.5, 0.9, 1.1, 1.2, 1.3])
    owner = StudyOwner(study_dir, CLUSTER, clock=lambda: 3600 * next(hours))
    for _ in range(2):
        train_pack(owner, study_dir, owner.next_pack() or 0)
    assert owner.next_pack() is None and owner.over_budget()
    assert owner.close() == {"COMPLETE": 4, "FAIL": 0, "RUNNING": 0, "WAITING": 4}
    assert train_all(study_dir).close()["COMPLETE"] == 8


def test_nothing_is_written_after_the_end_of_an_attempt(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    run = PackRun(owner.lease(owner.next_pack() or 0), study_dir)
    owner.close()
    before = sorted(study_dir.rglob("*.parquet"))
    owner.report(run.segment(60))
    assert sorted(study_dir.rglob("*.parquet")) == before


def test_data_that_vanish_fail_the_pack_and_not_the_process(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    task = owner.lease(owner.next_pack() or 0)
    (tmp_path / "data" / "g.csv").unlink()
    report = PackRun(task, study_dir).segment(1)
    owner.report(report)
    owner.close()
    rows = table(study_dir, "trials").to_pylist()
    assert [row["state"] for row in rows] == ["FAIL", "FAIL"] and "does not exist" in rows[0]["failure"]


def test_tpe_learns_and_resumes(tmp_path: Path) -> None:
    study_dir = start(tmp_path, sampler="tpe", trials=14, epochs=4, iterations=2)
    train_all(study_dir, packs=5).close()
    owner = train_all(study_dir)
    assert owner.close() == {"COMPLETE": 14, "FAIL": 0, "RUNNING": 0, "WAITING": 0}
    assert table(study_dir, "trials")["trial"].to_pylist() == list(range(14))


def test_the_whole_study_moves_to_another_folder(tmp_path: Path, uninterrupted: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, packs=2).close()
    moved = tmp_path / "elsewhere" / "small"
    shutil.copytree(study_dir, moved)
    shutil.rmtree(study_dir)
    finish_and_compare(moved, uninterrupted)


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    spec = load_spec(write_study(tmp_path / "data"))
    (tmp_path / "root" / "small").mkdir(parents=True)
    (tmp_path / "root" / "small" / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match="is not a study"):
        prepare(tmp_path / "root", spec)
    assert [path.name for path in (tmp_path / "root" / "small").iterdir()] == ["thesis.tex"]


def test_a_failed_objective_is_a_failed_trial(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    task = owner.lease(owner.next_pack() or 0)
    now = datetime.datetime.now(datetime.UTC)
    row = {**packs_module.failed_rows(task, "not finite", now, now)[0], "rel_l2": float("nan")}
    owner.report(
        PackReport(task.pack, task.attempt, False, {"fraction": 0.0, "members": 2, "finished": 1}, trials=[row])
    )
    assert owner.snapshot()["counts"]["FAIL"] == 1
    owner.close()


def test_the_comparison_can_fail(uninterrupted: Path, tmp_path: Path) -> None:
    study_dir = start(tmp_path, epochs=21)
    train_all(study_dir).close()
    with pytest.raises(AssertionError):
        assert_same_tables(uninterrupted, study_dir, places_differ=True)


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a{b}c", "é b"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    study_dir = start(tmp_path, name, trials=1, epochs=1, iterations=1)
    train_all(study_dir).close()
    assert (study_dir / "study.db").is_file() and read_status(study_dir)["counts"]["COMPLETE"] == 1


def test_an_address_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--root"):
        prepare(Path("s3://bucket/studies"), load_spec(write_study(tmp_path / "data")))


def test_a_restarted_worker_of_one_attempt_writes_checkpoints_beside_the_old_ones(
    tmp_path: Path, uninterrupted: Path
) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    pack = owner.next_pack()
    assert pack is not None
    first = PackRun(owner.lease(pack), study_dir)
    assert owner.report(first.segment(0.01))
    first.checkpoint()
    train_pack(owner, study_dir, pack, segment_s=0.01)  # as Tune does when the first worker has died
    owner.close()
    finish_and_compare(study_dir, uninterrupted)


def test_a_failing_disk_stops_the_recording_and_the_next_start_goes_on(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    run = PackRun(owner.lease(owner.next_pack() or 0), study_dir)
    told = []

    def full(self: StudyOwner, row: dict[str, object]) -> None:
        told.append(row)
        if len(told) == 2:  # after the first of two rows, with both published
            raise OSError(28, "No space left on device")
        tell(self, row)

    tell = StudyOwner._tell
    with monkeypatch.context() as patch:
        patch.setattr(StudyOwner, "_tell", full)
        report = run.segment(60)
        assert not owner.report(report)
        assert "No space left" in (owner.broken() or "")
        assert not owner.report(report), "nothing is published twice"
        assert owner.next_pack() is None
        owner.lost(0, "its worker gave up")
    owner._lock.release()
    finish_and_compare(study_dir, uninterrupted)


def test_a_refused_report_leaves_the_checkpoint_to_the_next_start(tmp_path: Path, uninterrupted: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    run = PackRun(owner.lease(owner.next_pack() or 0), study_dir)
    assert owner.report(run.segment(0.01))
    run.checkpoint()
    owner.close()
    assert not owner.report(run.segment(60))
    finish_and_compare(study_dir, uninterrupted)


def test_a_study_file_changed_by_hand_is_refused(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, packs=1).close()
    file = study_dir / "study.yaml"
    file.write_text(file.read_text().replace("adam_epochs: 20", "adam_epochs: 21"))
    with pytest.raises(StudyError, match="changed by hand"):
        StudyOwner(study_dir, CLUSTER)


def test_a_study_begun_before_a_field_existed_goes_on(tmp_path: Path, uninterrupted: Path) -> None:
    """The identity it was stored with is that of a study file without the field; at its default it changes nothing."""
    study_dir = start(tmp_path)
    owner = train_all(study_dir, packs=1)
    plain = {name: value for name, value in owner.spec.to_plain().items() if name not in MAY_CHANGE}
    plain["search"].pop("trials")
    for name in LATER_FIELDS:
        plain["train"].pop(name)
    older = hashlib.sha256(specfile.write(plain).encode().rstrip(b"\n")).hexdigest()
    assert owner._ledger.attributes()["identity"] == older
    owner.close()
    file = study_dir / "study.yaml"
    kept = [line for line in file.read_text().splitlines() if line.strip().partition(":")[0] not in LATER_FIELDS]
    file.write_text("\n".join(kept) + "\n")
    finish_and_compare(study_dir, uninterrupted)


def test_what_is_refused_is_left_to_the_last_byte(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = train_all(study_dir, packs=1)
    owner._ledger.set_attribute("identity", "another")
    owner.close()
    before = (study_dir / "study.yaml").read_bytes()
    spec = read_spec(study_dir, ["search.trials=99"])
    with pytest.raises(StudyError, match="is not what the study began with"):
        StudyOwner(study_dir, CLUSTER, spec)
    assert (study_dir / "study.yaml").read_bytes() == before


def test_a_second_driver_changes_nothing_of_a_study_it_cannot_have(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    before = (study_dir / "study.yaml").read_bytes()
    fewer = load_spec(tmp_path / "data" / "small.yaml", ["search.trials=1"])
    with pytest.raises(StudyError, match="is being run"):
        StudyOwner(study_dir, CLUSTER, fewer)
    assert (study_dir / "study.yaml").read_bytes() == before
    owner.close()


def test_moving_a_file_of_rows_away_costs_nothing_else(tmp_path: Path, uninterrupted: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, packs=1).close()
    rows = next((study_dir / "trials").glob("*.parquet"))
    rows.rename(tmp_path / rows.name)
    with pytest.raises(StudyError, match="rows are gone"):
        StudyOwner(study_dir, CLUSTER)
    (tmp_path / rows.name).rename(rows)
    finish_and_compare(study_dir, uninterrupted)


def test_a_trial_entered_by_another_tool_is_refused_by_number(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    train_all(study_dir, packs=1).close()
    optuna.load_study(study_name="small", storage=f"sqlite:///{study_dir}/study.db").enqueue_trial({"width": 3})
    with pytest.raises(StudyError, match="trial 8 was entered"):
        StudyOwner(study_dir, CLUSTER)


def test_status_of_a_killed_study_says_waiting_and_writes_nothing(tmp_path: Path) -> None:
    study_dir = start(tmp_path)
    owner = StudyOwner(study_dir, CLUSTER)
    owner.lease(owner.next_pack() or 0)
    assert read_status(study_dir)["counts"]["RUNNING"] == 2
    owner._lock.release()
    assert read_status(study_dir)["counts"] == {"COMPLETE": 0, "FAIL": 0, "RUNNING": 0, "WAITING": 8}
    (study_dir / "study.db").write_bytes(b"")
    with pytest.raises(StudyError, match="missing or empty"):
        read_status(study_dir)
    assert (study_dir / "study.db").stat().st_size == 0


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_damaged_database_is_named(tmp_path: Path, content: bytes) -> None:
    study_dir = start(tmp_path)
    (study_dir / "study.db").write_bytes(content)
    for use in (lambda: read_status(study_dir), lambda: StudyOwner(study_dir, CLUSTER)):
        with pytest.raises(StudyError, match=r"study\.db"):
            use()
