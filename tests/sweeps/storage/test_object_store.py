"""Studies whose root is an object store: publication, resumption, reading, and one-line refusals."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pinncore
import sweeps
from sweeps.errors import StudyError
from sweeps.owner.owner import StudyOwner
from sweeps.runner.preflight import check_here, check_nodes, expected_here
from sweeps.runner.worker import SlotWorker
from sweeps.spec.study_spec import StudySpec
from sweeps.storage.lock import StudyLock
from sweeps.storage.object_store import Remote, StoreError, uri_of
from sweeps.study.checkpoints import Checkpoints, FolderCheckpoints, StoredCheckpoints
from sweeps.study.folder import open_folder
from sweeps.study.home import OWNER, local, worker_home
from sweeps.study.loading import load_spec
from tests.cluster.waiting import WAIT_S
from tests.processes import started

from ..clusters import Node, command, named, wait_for
from ..invoking import errors_of, invoke
from ..object_store import KEY, SECRET, ObjectStore, denying
from ..object_store import root as root
from ..object_store import s3 as s3
from ..object_store import store as store
from ..runner.test_preflight import FakeRay, honest
from ..small import (
    MACHINES,
    Calm,
    Crash,
    assert_same_tables,
    events,
    finished,
    kill,
    next_slot,
    prepare,
    run_all,
    table,
    train_all,
    write_study,
)
from .test_postgres import INITDB, PG_CTL
from .test_postgres import server as server
from .test_postgres import url as url

needs_postgresql = pytest.mark.skipif(not (INITDB and PG_CTL), reason="PostgreSQL is not installed")
TABLES = ("trials", "curves", "fields", "weights", "events")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Three trials in packs of two, in a folder and never interrupted."""
    return Calm(tmp_path_factory.mktemp("calm"), trials=3, epochs=12, iterations=4)


@pytest.fixture
def spec(calm: Calm, tmp_path: Path) -> StudySpec:
    """The same study with its database in a folder."""
    return load_spec(calm.file, [f"state={tmp_path / 'state'}"])


def fetched(root: str, folder: Path) -> Path:
    """Copy the objects of a study into a folder, as another program would; return the folder."""
    from pyarrow import fs

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fs.copy_files(f"{root}/small", str(folder))
    return folder


def names(root: str) -> set[str]:
    return set(Remote(f"{root}/small").objects())


def crash(put: Callable[..., None], monkeypatch: pytest.MonkeyPatch, home: Path, **options: Any) -> None:
    """Run a study that dies while `put` writes an object."""
    with monkeypatch.context() as patched:
        patched.setattr(Remote, "put", put)
        with pytest.raises(Crash):
            run_all(home, **options)


def check_whole(calm: Calm, root: str, tmp_path: Path) -> None:
    """Assert that the store holds the tables of the study in a folder, bit for bit, and no leftovers."""
    assert_same_tables(calm.whole, fetched(root, tmp_path / "fetched"), but=("spec_hash",))
    assert not [name for name in names(root) if name.startswith("checkpoints/")]


# ---- whole runs ---------------------------------------------------------------------------------------------------


def test_a_store_holds_the_tables_of_a_study_in_a_folder(
    calm: Calm, spec: StudySpec, root: str, tmp_path: Path
) -> None:
    home, is_new = open_folder(Path(root), spec)
    assert is_new and home == tmp_path / "state" / "small"
    assert run_all(home, spec=spec) == calm.counts
    check_whole(calm, root, tmp_path)
    published = {f"{table}/{file.name}" for table in TABLES for file in (home / table).iterdir()}
    assert names(root) == published | {"study.yaml", "problem.json", "owner", "identity"}
    assert (tmp_path / "fetched" / "study.yaml").read_bytes() == (home / "study.yaml").read_bytes()
    assert run_all(home) == calm.counts, "a home remembers its store"


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 5, 8, 11])
def test_killed_around_any_upload_a_study_goes_on(
    calm: Calm, spec: StudySpec, root: str, tmp_path: Path, number: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = open_folder(Path(root), spec)
    put, numbers = Remote.put, itertools.count(1)

    def deadly(self: Remote, name: str, content: Path | bytes) -> None:
        own = next(numbers)
        if moment == "after":
            put(self, name, content)
        if own == number:
            raise Crash
        if moment == "before":
            put(self, name, content)

    crash(deadly, monkeypatch, home, spec=spec, segment_s=0.0)
    assert run_all(home) == calm.counts
    check_whole(calm, root, tmp_path)


def test_what_is_published_and_not_told_is_told_at_the_next_start(
    calm: Calm, spec: StudySpec, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = open_folder(Path(root), spec)
    put = Remote.put

    def deadly(self: Remote, name: str, content: Path | bytes) -> None:
        put(self, name, content)
        if name.startswith("trials/"):
            raise Crash

    crash(deadly, monkeypatch, home, spec=spec)
    (published,) = (name for name in names(root) if name.startswith("trials/"))
    assert not (home / published).exists(), "what counts is in the store"
    assert run_all(home) == calm.counts
    assert ("reconciled", "entered its published rows into the database") in events(fetched(root, tmp_path / "fetched"))
    check_whole(calm, root, tmp_path)


def test_a_store_that_goes_away_ends_the_run_and_loses_nothing(
    calm: Calm, spec: StudySpec, root: str, tmp_path: Path, store: ObjectStore
) -> None:
    home, _ = open_folder(Path(root), spec)
    owner = StudyOwner(home, MACHINES, spec)
    worker = SlotWorker(owner, home, next_slot(owner))
    worker.segment(0.0)
    with store.away():
        worker.segment(30.0)
        assert worker.done
        assert "it does not answer" in (owner.snapshot().broken or "") and root in (owner.snapshot().broken or "")
        assert owner.offer() is None
        owner.close()
    assert run_all(home) == calm.counts
    check_whole(calm, root, tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_no_fault_of_its_members(
    calm: Calm, spec: StudySpec, root: str, tmp_path: Path, store: ObjectStore
) -> None:
    home, _ = open_folder(Path(root), spec)
    owner = StudyOwner(home, MACHINES, spec)
    SlotWorker(owner, home, next_slot(owner)).segment(0.0)
    kill(owner)
    owner = StudyOwner(home, MACHINES)
    worker = SlotWorker(owner, home, next_slot(owner))
    with store.away():
        worker.segment(0.0)
    assert worker.done and "it does not answer" in (owner.snapshot().broken or "")
    owner.close()
    assert run_all(home) == calm.counts
    check_whole(calm, root, tmp_path)


# ---- several machines ---------------------------------------------------------------------------------------------


@needs_postgresql
def test_another_machine_goes_on_from_the_store(
    calm: Calm, root: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share nothing but the database and the store."""
    spec = load_spec(calm.file, [f"state={url}"])
    first, is_new = open_folder(Path(root), spec)
    assert is_new and Path(os.environ["XDG_CACHE_HOME"]) in first.parents
    owner = StudyOwner(first, MACHINES, spec)
    workers = [SlotWorker(owner, first, next_slot(owner)) for _ in range(2)]
    workers[0].segment(0.0)
    workers[1].segment(60.0)
    kill(owner)
    assert any(name.startswith("checkpoints/") for name in names(root))
    assert not (first / "checkpoints").exists()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    second, is_new = open_folder(Path(root), spec)
    assert not is_new and second != first
    owner = StudyOwner(second, MACHINES, spec)
    assert finished(owner) >= 1
    going_on = owner.lease(next_slot(owner)).members
    assert going_on and all(member.origin is not None for member in going_on)
    kill(owner)
    assert run_all(second) == calm.counts
    check_whole(calm, root, tmp_path)
    assert_same_tables(calm.whole, second, but=("spec_hash",))

    assert local(Path(f"{root}/small")) == second
    assert run_all(first) == calm.counts, "the first machine is brought up to date"
    assert_same_tables(second, first)


@needs_postgresql
def test_a_publication_that_was_cut_short_elsewhere_does_not_count(
    calm: Calm, root: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine dies between curves and trials; another trains them again, and the first takes the other's files."""
    spec = load_spec(calm.file, [f"state={url}"])
    first, _ = open_folder(Path(root), spec)
    put = Remote.put

    def deadly(self: Remote, name: str, content: Path | bytes) -> None:
        if name.startswith("trials/"):
            raise Crash
        put(self, name, content)

    crash(deadly, monkeypatch, first, spec=spec)
    (orphan,) = (first / "curves").iterdir()
    orphan.write_bytes(b"another one than the store's")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
        assert run_all(open_folder(Path(root), spec)[0]) == calm.counts
    assert run_all(first) == calm.counts
    check_whole(calm, root, tmp_path)
    assert_same_tables(calm.whole, first, but=("spec_hash",))


def test_a_worker_elsewhere_trains_from_the_store_alone(calm: Calm, root: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.npz"
    generator = np.random.default_rng(0)
    np.savez(
        weights, W1=generator.normal(size=(2, 4)), b1=np.zeros(4), W2=generator.normal(size=(4, 1)), b2=np.zeros(1)
    )
    lines = [f"state={tmp_path / 'state'}", f"space.init={{choice: ['file:{weights}']}}", "space.width={choice: [4]}"]
    spec = load_spec(calm.file, [*lines, "train.depth=1"])
    home, _ = open_folder(Path(root), spec)
    owner = StudyOwner(home, MACHINES, spec)
    other_home = worker_home(f"{root}/small")
    assert home not in (other_home, *other_home.parents)
    shutil.rmtree(home / "initial_weights")
    worker = SlotWorker(owner, other_home, next_slot(owner))
    worker.segment(0.0)
    assert [name for name in names(root) if name.startswith("checkpoints/")]
    assert not (other_home / "checkpoints").exists()
    SlotWorker(owner, other_home, 1).segment(60.0)  # its process was killed: another one goes on there
    assert owner.snapshot().broken is None and finished(owner) >= 2
    owner.stop()
    owner.close()


def test_lost_objects_and_lost_files_are_restored_from_each_other(
    calm: Calm, spec: StudySpec, root: str, tmp_path: Path
) -> None:
    home, _ = open_folder(Path(root), spec)
    run_all(home, spec=spec)
    remote = Remote(f"{root}/small")
    (first, *_), (last,) = sorted((home / "trials").iterdir()), sorted((home / "trials").iterdir())[-1:]
    remote.remove([f"trials/{first.name}", f"curves/{first.name}"])
    (home / "fields" / last.name).unlink()
    (home / "weights" / last.name).write_bytes(b"torn")
    remote.put("curves/left-behind.parquet", b"of a publication that was cut short")
    assert run_all(home) == calm.counts
    check_whole(calm, root, tmp_path)
    assert_same_tables(calm.whole, home, but=("spec_hash",))


@needs_postgresql
def test_a_machine_that_has_lost_the_study_publishes_nothing(
    calm: Calm, root: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from the database it would not notice, and its table files would replace those of others."""
    spec = load_spec(calm.file, [f"state={url}"])
    first, _ = open_folder(Path(root), spec)
    owner = StudyOwner(first, MACHINES, spec)
    worker = SlotWorker(owner, first, next_slot(owner))
    worker.segment(0.0)
    owner._attempt.ledger.close()  # the server has let its lock go
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    second = StudyOwner(open_folder(Path(root), spec)[0], MACHINES, spec)
    before = names(root)
    worker.segment(60.0)
    assert names(root) == before and "was taken over by another machine" in (owner.snapshot().broken or "")
    owner.close()
    kill(second)
    assert run_all(first) == calm.counts
    check_whole(calm, root, tmp_path)


# ---- checkpoints --------------------------------------------------------------------------------------------------


class CheckpointsContract:
    """The contract of both kinds of checkpoints."""

    @pytest.fixture
    def checkpoints(self, tmp_path: Path) -> Checkpoints:
        raise NotImplementedError

    def state(self, label: int, value: float = 0.0) -> pinncore.MemberState:
        return pinncore.MemberState(label, {"step": label}, {"w": torch.full((3,), value, dtype=torch.float64)})

    def test_the_newest_counts_and_older_ones_go(self, checkpoints: Checkpoints) -> None:
        assert checkpoints.newest(7) is None and checkpoints.packs() == [] and checkpoints.saved_members() == {}
        checkpoints.write(
            7, "attempt-0001-lease-000002-segment-000000", [self.state(1, 0.5), self.state(2)], {"padded": [4]}
        )
        checkpoints.write(
            7, "attempt-0001-lease-000001-segment-000009", [self.state(3)], {}
        )  # of a worker that is late
        states, values = checkpoints.newest(7) or ([], {})
        assert [state.label for state in states] == [1, 2] and values == {"padded": [4]}
        assert torch.equal(states[0].tensors["w"], torch.full((3,), 0.5, dtype=torch.float64))
        assert states[0].values == {"step": 1}
        checkpoints.write(7, "attempt-0001-lease-000003-segment-000000", [self.state(1)], {})
        assert [state.label for state in (checkpoints.newest(7) or ([], {}))[0]] == [1]

    def test_members_are_found_where_they_were_saved_last(self, checkpoints: Checkpoints) -> None:
        checkpoints.write(2, "attempt-0001-lease-000001-segment-000000", [self.state(1), self.state(2)], {})
        checkpoints.write(5, "attempt-0001-lease-000002-segment-000000", [self.state(2)], {})
        assert checkpoints.saved_members() == {1: 2, 2: 5} and sorted(checkpoints.packs()) == [2, 5]
        checkpoints.remove([5, 9])
        assert checkpoints.saved_members() == {1: 2, 2: 2} and checkpoints.packs() == [2]

    def test_a_torn_one_is_named(self, checkpoints: Checkpoints, tear: Callable[[], None]) -> None:
        checkpoints.write(2, "attempt-0001-lease-000001-segment-000000", [self.state(1)], {})
        tear()
        assert checkpoints.saved_members() == {}
        with pytest.raises(pinncore.CheckpointError, match="segment-000000"):
            checkpoints.newest(2)


class TestFolderCheckpoints(CheckpointsContract):
    @pytest.fixture
    def checkpoints(self, tmp_path: Path) -> Checkpoints:
        return FolderCheckpoints(tmp_path)

    @pytest.fixture
    def tear(self, tmp_path: Path) -> Callable[[], None]:
        def torn() -> None:
            (file,) = tmp_path.rglob("pack.json")
            file.write_bytes(b'{"mem')

        return torn


class TestStoredCheckpoints(CheckpointsContract):
    @pytest.fixture
    def checkpoints(self, root: str) -> Checkpoints:
        return StoredCheckpoints(Remote(root))

    @pytest.fixture
    def tear(self, root: str) -> Callable[[], None]:
        def torn() -> None:
            (name,) = Remote(root).objects("checkpoints")
            Remote(root).put(name, b"not an archive" * 100)

        return torn


# ---- preflight ----------------------------------------------------------------------------------------------------


@pytest.fixture
def held(spec: StudySpec, root: str) -> Iterator[Path]:
    """The home of a study that is being run."""
    home, _ = prepare(Path(root), spec)
    lock = StudyLock(home, driver_pid=os.getpid())
    Remote(f"{root}/small").put(OWNER, lock.word.encode())
    yield home
    lock.release()


def test_a_machine_proves_that_it_uses_the_store(held: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = expected_here(held)
    assert expected.store == f"{root}/small" and not expected.holds_lock
    nowhere = held.with_name("on no other machine")
    check_here(nowhere, expected)
    before = names(root)

    def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            return function(*arguments)

    check_nodes(FakeRay([honest]), held)
    with pytest.raises(StudyError) as refusal:
        check_nodes(FakeRay([honest, elsewhere]), held)
    first, *lines = str(refusal.value).splitlines()
    assert f"in {root}/small:" in first
    assert len(lines) == 1 and "node 10.0.0.2" in lines[0] and "cannot use the store" in lines[0]
    assert names(root) == before, "nothing is left behind"
    Remote(f"{root}/small").put(OWNER, b"another word")
    with pytest.raises(StudyError, match=r"finds another study in s3://.*the same AWS_ENDPOINT_URL"):
        check_here(nowhere, expected)


# ---- what is refused ----------------------------------------------------------------------------------------------


def refused(*words: object) -> str:
    """Return the only line on the standard error of a command that must fail."""
    (line,) = errors_of(invoke(*words)).splitlines()
    return line


def test_a_database_must_lie_elsewhere(calm: Calm, root: str) -> None:
    line = refused("run", calm.file, "--root", root)
    assert root in line and "--state DIR" in line and "postgresql://" in line
    assert Remote(root).objects() == {}


def test_a_store_that_cannot_be_used_is_one_sentence(
    calm: Calm, store: ObjectStore, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    assert "no such bucket" in refused("run", calm.file, "--root", "s3://no-such-bucket/p", "--state", state)
    with store.refusing():
        line = refused("run", calm.file, "--root", root, "--state", state)
        assert "its credentials are refused" in line and SECRET not in line
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        line = refused("run", calm.file, "--root", root, "--state", state)
        assert "it does not answer" in line and "AWS_ENDPOINT_URL" in line
        assert "it does not answer" in refused("top", f"{root}/small")
    assert not (state / "small" / "study.yaml").exists()


def test_a_denied_access_says_whether_there_were_credentials(
    calm: Calm, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", calm.file, "--root", "s3://bucket/p", "--state", tmp_path / "state")
    with denying() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert "(access is denied). Allow these credentials to" in refused(*words)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "(access is denied, and no credentials are found). Set AWS_ACCESS_KEY_ID" in refused(*words)


@pytest.mark.parametrize(
    "root",
    [f"s3://{KEY}:{SECRET}@bucket/p", f"s3://bucket/p?access_key={KEY}&secret_key={SECRET}", f"gs://{SECRET}@bucket/p"],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(calm: Calm, root: str, tmp_path: Path) -> None:
    line = refused("run", calm.file, "--root", root, "--state", tmp_path)
    assert "must hold no credentials" in line and "AWS_ACCESS_KEY_ID" in line
    assert SECRET not in line and KEY not in line
    assert SECRET not in refused("top", f"{root}/small")


def test_other_roots_are_refused(calm: Calm, tmp_path: Path) -> None:
    for other in ("ftp://host/folder", "s3a://bucket/p", f"hdfs://{SECRET}@host"):
        line = refused("run", calm.file, "--root", other, "--state", tmp_path)
        assert "s3://BUCKET/PREFIX" in line and SECRET not in line
    assert "s3://BUCKET" in refused("run", calm.file, "--root", "s3://", "--state", tmp_path)


def test_a_study_has_one_store_and_a_store_one_database(
    calm: Calm, spec: StudySpec, root: str, store: ObjectStore, tmp_path: Path
) -> None:
    prepare(Path(root), spec)
    home, _ = open_folder(Path(root), spec)
    run_all(home)
    line = refused("run", calm.file, "--root", root, "--state", tmp_path / "other")
    assert "holds a study whose database is not in" in line
    line = refused("run", calm.file, "--root", f"s3://{store.bucket()}", "--state", tmp_path / "state")
    assert f"the home of {root}/small" in line
    (tmp_path / "mine" / "small").mkdir(parents=True)
    (tmp_path / "mine" / "small" / "notes.txt").touch()
    line = refused("run", calm.file, "--root", f"s3://{store.bucket()}", "--state", tmp_path / "mine")
    assert "is there already" in line and len(list((tmp_path / "mine" / "small").iterdir())) == 1


# ---- secrets ------------------------------------------------------------------------------------------------------


def test_secrets_are_written_nowhere(spec: StudySpec, root: str, tmp_path: Path) -> None:
    home, _ = open_folder(Path(root), spec)
    run_all(home, spec=spec)
    written = [
        path for path in [*tmp_path.rglob("*"), *Path(os.environ["XDG_CACHE_HOME"]).rglob("*")] if path.is_file()
    ]
    contents = [path.read_bytes() for path in written] + [Remote(root).get(name) for name in Remote(root).objects()]
    assert (tmp_path / "state" / "small.db") in written and len(contents) > 20
    assert not [
        content for content in contents if content is None or SECRET.encode() in content or KEY.encode() in content
    ]


# ---- readers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ended(spec: StudySpec, root: str) -> Path:
    """The home of a study that has ended."""
    home, _ = open_folder(Path(root), spec)
    run_all(home, spec=spec)
    return home


def test_the_commands_read_a_study_in_its_store(ended: Path, root: str, tmp_path: Path) -> None:
    place, rows = f"{root}/small", "SELECT trial, rel_l2 FROM trials ORDER BY trial"
    for words in (("top",), ("query", rows), ("query", "SELECT count(*) FROM fields"), ("status",)):
        name, *more = words
        from_home, *from_store = (
            invoke(name, *study, *more, "--json")
            for study in ((ended,), (place,), ("small", "--root", root), (Path(place),))
        )
        assert from_home.exit_code == 0 and {answer.stdout for answer in from_store} == {from_home.stdout}, words
    listed = invoke("list", "--root", root)
    assert listed.exit_code == 0 and listed.stdout.splitlines()[1].split()[:2] == ["small", "3/3"]
    assert "small: 3 trials (3 complete)" in invoke("status", "--root", root).stdout
    assert invoke("report", place, "-o", tmp_path / "report.html").exit_code == 0
    assert "small" in (tmp_path / "report.html").read_text()
    assert "-o FILE" in refused("report", place)
    assert "cleaned by every start" in refused("gc", place)
    assert "is not being run on this machine" in refused("stop", place)
    assert f"studies in {root}: small" in refused("top", "other", "--root", root)


def test_two_studies_in_a_folder_and_a_store(ended: Path, calm: Calm, root: str) -> None:
    answer = invoke(
        "query", calm.whole, f"{root}/small", "SELECT study, count(*) n FROM trials GROUP BY study", "--json"
    )
    assert answer.exit_code == 0 and str(calm.whole) in answer.stdout and f"{root}/small" in answer.stdout


def test_a_study_in_a_store_from_python(ended: Path, calm: Calm, root: str) -> None:
    study, local = sweeps.open(f"{root}/small"), sweeps.open(ended)
    assert study.name == "small" and study.path == ended and root in repr(study)
    assert study.trials().to_arrow().equals(local.trials().to_arrow())
    assert study.fields(1).to_arrow().equals(local.fields(1).to_arrow())
    assert study.best() == local.best()
    assert study.sql("SELECT count(*) AS n FROM curves").equals(local.sql("SELECT count(*) AS n FROM curves"))
    with pytest.raises(StudyError, match=r"no study in s3://.*/other"):
        sweeps.open(f"{root}/other")


def test_without_the_database_the_tables_still_answer(ended: Path, root: str) -> None:
    shutil.rmtree(ended.parent)
    assert invoke("top", f"{root}/small").exit_code == 0
    line = refused("status", f"{root}/small")
    assert "on the machine that runs it" in line and "query, top and report" in line
    listed = invoke("list", "--root", root)
    assert listed.exit_code == 0 and "on the machine that runs it" in listed.stdout


def test_a_damaged_object_is_named(ended: Path, root: str) -> None:
    (name, *_) = sorted(Remote(f"{root}/small").objects("trials"))
    Remote(f"{root}/small").put(name, b"PAR1 no table at all PAR1")
    line = refused("top", f"{root}/small")
    assert name in line and "not a whole Parquet file" in line


def test_delete_removes_a_study_and_nothing_else_from_the_store(ended: Path, root: str) -> None:
    Remote(f"{root}/small").put("notes.txt", b"the user's own")
    assert invoke("delete", f"{root}/small", "--yes").exit_code == 0
    assert names(root) == {"notes.txt"} and not ended.exists() and not ended.with_suffix(".db").exists()


# ---- the object store itself --------------------------------------------------------------------------------------


def test_objects_come_back_as_they_were_put(root: str, tmp_path: Path) -> None:
    remote = Remote(root)
    large = os.urandom(11 << 20)  # of several parts
    for name, content in (("a/empty", b""), ("a/b/small", b"\x00\xff"), ("large", large), ("large", large[::-1])):
        remote.put(name, content)
        assert remote.get(name) == content
    assert {name: stored.bytes for name, stored in remote.objects().items()} == {
        "a/empty": 0,
        "a/b/small": 2,
        "large": 11 << 20,
    }
    assert remote.folders() == ["a"] and set(remote.objects("a/b")) == {"a/b/small"} and remote.objects("none") == {}
    remote.pull({"a/b/small": tmp_path / "new" / "file"})
    assert (tmp_path / "new" / "file").read_bytes() == b"\x00\xff"
    with pytest.raises(StoreError, match="was removed"):
        remote.pull({"none": tmp_path / "none"})
    remote.remove(["large", "none"])
    remote.remove_folder("a")
    remote.remove_folder("none")
    assert remote.objects() == {} and remote.get("large") is None


def test_an_upload_that_fails_leaves_no_part_of_it(root: str, store: ObjectStore) -> None:
    remote = Remote(root)
    remote.put("table", b"whole")
    for content in (b"torn", os.urandom(11 << 20)):
        with store.away(), pytest.raises(StoreError, match="it does not answer"):
            remote.put("table", content)
        assert remote.get("table") == b"whole"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_path_made_of_a_uri_is_one_again(scheme: str) -> None:
    for place in (f"{scheme}://bucket/a/b", Path(f"{scheme}://bucket/a/b"), f"{scheme}://bucket/a/b/"):
        assert uri_of(place) == f"{scheme}://bucket/a/b"
    for folder in ("runs", "/s3/runs", "s3", "./s3:/bucket", "c:/runs"):
        assert uri_of(folder) is None


# ---- the command --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_real_run(calm: Calm, root: str, tmp_path: Path) -> None:
    words = ("run", calm.file, "--root", root, "--state", tmp_path / "state", "--plain")
    ran = subprocess.run(command(*words), capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"study small in {root}/small" in ran.stdout and SECRET not in ran.stdout + ran.stderr
    check_whole(calm, root, tmp_path)


LONG = {"epochs": 6000, "iterations": 200, "thin": 1, "trials": 6, "pack": 1}  # seconds a trial


def running(*words: object) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_run_ends_with_a_message_when_the_store_goes_away(root: str, tmp_path: Path, store: ObjectStore) -> None:
    file = write_study(tmp_path / "data", **LONG)  # type: ignore[arg-type]
    words = ("run", file, "--root", root, "--state", tmp_path / "state", "--plain")
    with running(*words) as driver:
        wait_for(lambda: [name for name in names(root) if name.startswith("checkpoints/")], driver)
        with store.away():
            output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 1, output
    line = output.splitlines()[-1]
    assert "results could not be recorded" in line and "it does not answer" in line and "run the study again" in line
    assert "Traceback" not in output
    with running(*words) as again:
        output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert table(fetched(root, tmp_path / "fetched"), "trials")["trial"].to_pylist() == list(range(6))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_node_that_does_not_see_the_home_trains_from_the_store(root: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {state} && exec "$@"', "sh"]
    tried = [*hidden, "true"]
    if not shutil.which("unshare") or subprocess.run(tried, capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("no mount namespaces here: the node cannot be made blind")
    nodes = [Node(tmp_path, "head")]
    try:
        nodes.append(Node(tmp_path, "blind", head=nodes[0].address, wrapper=hidden))
        file = write_study(tmp_path / "data", **LONG)  # type: ignore[arg-type]
        words = ("run", file, "--root", root, "--state", state, "--address", nodes[0].address, "--plain")
        with running(*words) as driver:
            wait_for(lambda: named([nodes[1].process.pid], "Trainable"), driver)
            wait_for(lambda: len({name.split("/")[1] for name in names(root) if "checkpoints/" in name}) > 1, driver)
            driver.kill()
            driver.wait(WAIT_S)
        with running(*words) as again:
            output, _ = again.communicate(timeout=250)
        assert again.returncode == 0, output
    finally:
        for node in nodes:
            node.kill()
    uninterrupted, _ = prepare(tmp_path / "root", load_spec(file))
    train_all(uninterrupted, segment_s=5.0).close()
    assert_same_tables(uninterrupted, fetched(root, tmp_path / "fetched"), but=("spec_hash",))
