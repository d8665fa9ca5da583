"""Studies on a disk: overview, failures, deletion and cleaning."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import InlineExecutor, Job
from sweeps.errors import StudyError
from sweeps.storage import lock
from sweeps.storage.tables import StudyTables
from sweeps.study.cleaning import collect, collect_jobs
from sweeps.study.housekeeping import delete, overview
from sweeps.study.requests import to_retry
from sweeps.study.status import failed_trials, read_status
from sweeps.study.study_file import open_reader

from ..invoking import made_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return made_study(tmp_path)


@pytest.fixture
def held(study: Path) -> Iterator[Path]:
    """A study that this process runs."""
    study_lock = lock.StudyLock(study, driver_pid=os.getpid())
    yield study
    study_lock.release()


def checkpoint(study_dir: Path, pack: int, *labels: int, name: str = "attempt-0001-segment-000000") -> Path:
    """Write a checkpoint of a pack with 1000 bytes and the list of members, as far as cleaning reads it."""
    folder = study_dir / "checkpoints" / f"pack-{pack:06d}" / name
    folder.mkdir(parents=True)
    (folder / "pack.json").write_text(json.dumps({"members": labels}))
    (folder / "member.safetensors").write_bytes(bytes(1000))
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestOverview:
    def test_counts_bytes_change_and_holder(self, held: Path) -> None:
        (held / "checkpoints").mkdir()
        (held / "checkpoints" / "large").write_bytes(bytes(5_000_000))
        record = overview(held)
        assert 5_000_000 < record["bytes"] < 5_500_000
        assert record["counts"] == {"COMPLETE": 1, "FAIL": 1, "PRUNED": 1, "RUNNING": 0, "WAITING": 0}
        assert (record["limit"], record["failures"]) == (3, 1)
        assert record["held_by"] == f"process {os.getpid()} on {os.uname().nodename}"
        assert record["changed_at"] >= time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 120))

    def test_a_damaged_study_is_one_with_an_error(self, study: Path) -> None:
        (study / "study.db").write_bytes(b"")
        record = overview(study)
        assert "study.db is missing or empty" in record["error"] and record["bytes"] > 0


class TestFailures:
    @pytest.mark.parametrize("by", [3, 4])
    def test_a_repeated_failure_counts_no_more(self, tmp_path: Path, by: int) -> None:
        states = ("FAIL", "COMPLETE", "FAIL", "COMPLETE", "FAIL")
        study = made_study(tmp_path, states=states, repeats={by: 0})
        with open_reader(study) as reader:
            assert failed_trials(reader) == {0: by, 2: None, 4: None}
        assert read_status(study)["failures"] == 2
        assert to_retry(study) == [2, 4]
        with pytest.raises(StudyError, match=f"trial 0 is already repeated by trial {by}"):
            to_retry(study, [2, 0])

    def test_what_has_not_failed_is_not_repeated(self, study: Path) -> None:
        assert to_retry(study, [1, 1]) == [1]
        with pytest.raises(StudyError, match=r"trial 0 has not failed, and only failed trials can be retried: 1"):
            to_retry(study, [1, 0])
        with pytest.raises(StudyError, match="trial 99 has not failed"):
            to_retry(study, [99])

    def test_nothing_to_repeat(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match="no failed trial that is not already repeated"):
            to_retry(made_study(tmp_path, states=["COMPLETE", "PRUNED"]))


class TestDelete:
    def test_a_study_goes_and_its_neighbour_stays(self, study: Path) -> None:
        other = made_study(study.parent, "second")
        before = everything(other)
        assert delete(study) is None
        assert not study.exists() and everything(other) == before

    def test_a_running_study_stays(self, held: Path) -> None:
        before = everything(held)
        with pytest.raises(StudyError, match=f"is being run by process {os.getpid()}"):
            delete(held)
        assert everything(held) == before

    def test_what_is_no_study_stays(self, study: Path) -> None:
        (study / "study.yaml").unlink()
        with pytest.raises(StudyError, match="is not a study"):
            delete(study)
        assert (study / "study.db").exists()

    def test_a_link_stays(self, study: Path) -> None:
        link = study.parent / "link"
        link.symlink_to(study)
        with pytest.raises(StudyError, match="is a link to"):
            delete(link)
        assert link.is_symlink() and (study / "study.db").exists()

    @pytest.mark.parametrize("damage", ["study.db", "study.yaml"])
    def test_a_damaged_study_can_go(self, study: Path, damage: str) -> None:
        (study / damage).write_bytes(b"\xff")
        delete(study)
        assert not study.exists()

    def test_what_was_cut_short_is_still_a_study(self, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("shutil.rmtree", full)
        with pytest.raises(PermissionError):
            delete(study)
        monkeypatch.undo()
        assert (study / "study.yaml").is_file() and lock.held_by(study) is None
        delete(study)
        assert not study.exists()

    def test_its_database_elsewhere_goes_too(self, tmp_path: Path) -> None:
        study = made_study(tmp_path / "runs", lines=f"state: {tmp_path / 'state'}\n")
        assert (tmp_path / "state" / "first.db").is_file()
        delete(study)
        assert list((tmp_path / "state").iterdir()) == []

    def test_the_database_of_another_folder_stays(self, tmp_path: Path) -> None:
        study = made_study(tmp_path / "runs", lines=f"state: {tmp_path / 'state'}\n")
        copy = tmp_path / "copies" / "first"
        copy.mkdir(parents=True)
        (copy / "study.yaml").write_bytes((study / "study.yaml").read_bytes())
        assert f"it is that of {study}" in (delete(copy) or "")
        assert not copy.exists() and read_status(study)["counts"]["COMPLETE"] == 1
        study.rename(study.with_name("moved"))  # the folder it began in is gone, so it is that of nobody else
        assert delete(study.with_name("moved")) is None


class TestGc:
    def test_checkpoints_of_finished_trials_go(self, tmp_path: Path) -> None:
        study = made_study(tmp_path, states=("COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING"))
        finished = [checkpoint(study, pack, pack) for pack in (0, 1, 2)]
        mixed, unfinished = checkpoint(study, 7, 0, 3), checkpoint(study, 4, 4)
        superseded = checkpoint(study, 3, 3, name="attempt-0001-segment-000001")
        newer = checkpoint(study, 3, 3, name="attempt-0001-segment-000002")
        os.utime(mixed / "pack.json", (1, 1))  # its state of trial 3 is older than that in pack 3
        wastes = collect(study)
        assert {waste.path for waste in wastes} == {*(folder.parent for folder in [*finished, mixed]), superseded}
        assert sum(waste.bytes for waste in wastes) == pytest.approx(5000, abs=200)
        assert not any(path.exists() for path in (*finished, mixed, superseded))
        assert unfinished.is_dir() and newer.is_dir()
        assert collect(study) == []

    def test_a_checkpoint_that_holds_an_unfinished_member_stays(self, tmp_path: Path) -> None:
        study = made_study(tmp_path, states=("COMPLETE", "WAITING"))
        kept = checkpoint(study, 9, 0, 1)
        assert collect(study) == [] and kept.is_dir()

    def test_a_torn_checkpoint_of_an_unfinished_trial_is_not_ours_to_judge(self, tmp_path: Path) -> None:
        study = made_study(tmp_path, states=("COMPLETE", "RUNNING"))
        torn = checkpoint(study, 1, 1)
        (torn / "pack.json").write_text("{")
        assert collect(study) == [] and torn.is_dir()

    def test_leftovers_of_a_crash_go(self, study: Path) -> None:
        leftovers = [
            study / ".study.yaml.new",
            study / ".preflight-3f",
            study / ".report.html.tmp",
            study / "curves" / "trials-000009.parquet",
            study / "trials" / ".trials-000009.parquet.tmp",
            study / "events" / ".attempt-0001-000003.parquet.tmp",
        ]
        for file in leftovers:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(bytes(10))
        before = everything(study)
        wastes = collect(study, dry_run=True)
        assert everything(study) == before
        assert collect(study) == wastes
        assert {waste.path for waste in wastes} == set(leftovers) and {waste.bytes for waste in wastes} == {10}
        assert everything(study) - {"lock"} == before - {str(file.relative_to(study)) for file in leftovers}

    def test_unfinished_publications_are_those_the_owner_removes(self, study: Path) -> None:
        for name in ("curves/a", "fields/b", "weights/c", "trials/.d", "events/.e"):
            file = study / f"{name}.parquet{'.tmp' if '.' in name else ''}"
            file.parent.mkdir(exist_ok=True)
            file.touch()
        paths = [waste.path for waste in collect(study, dry_run=True)]
        assert sorted(map(str, paths)) == sorted(str(study / name) for name in StudyTables(study).remove_orphans())

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_running_study_is_left_alone(self, held: Path, dry_run: bool) -> None:
        checkpoint(held, 0, 0)
        with pytest.raises(StudyError, match="is being run by"):
            collect(held, dry_run=dry_run)
        assert (held / "checkpoints" / "pack-000000").is_dir()

    def test_curves_are_no_waste_where_the_rows_were_lost(self, study: Path) -> None:
        (study / "trials" / "trials-000000.parquet").unlink()
        with pytest.raises(StudyError, match="rows are gone"):
            collect(study)
        assert (study / "curves" / "trials-000000.parquet").is_file()

    def test_the_lock_is_free_afterwards(self, study: Path) -> None:
        collect(study)
        assert lock.held_by(study) is None


class TestJobs:
    def test_those_that_ended_long_ago_go(self, tmp_path: Path) -> None:
        jobs, days = tmp_path / ".jobs", 86_400
        for number in (1, 2):
            InlineExecutor(jobs, capture=True).submit(Job(argv=("true", str(jobs / f"s{number}.yaml"))))
            (jobs / f"s{number}.yaml").write_text("study: s\n")
        unstarted = jobs / "3"
        unstarted.mkdir()
        (unstarted / "job.json").write_text((jobs / "2" / "job.json").read_text())  # accepted, never started
        age(jobs / "1", jobs / "s1.yaml", jobs / "s2.yaml", unstarted, days=31)
        age(jobs / "2", days=29)
        wastes = collect_jobs(tmp_path, dry_run=True)
        assert [waste.path for waste in wastes] == [jobs / "1", jobs / "s1.yaml"]
        assert collect_jobs(tmp_path, now_s=time.time() - 2 * days) == []
        assert collect_jobs(tmp_path) == wastes
        assert sorted(path.name for path in jobs.iterdir()) == ["2", "3", "s2.yaml"]

    def test_a_root_without_jobs(self, tmp_path: Path) -> None:
        assert collect_jobs(tmp_path) == [] and list(tmp_path.iterdir()) == []


def age(*paths: Path, days: float) -> None:
    """Set the times of files, and of folders with all their files, to `days` ago."""
    then = time.time() - days * 86_400
    for path in paths:
        for file in (*path.rglob("*"), path):
            os.utime(file, (then, then))
