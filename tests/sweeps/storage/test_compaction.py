"""Compaction: files change and rows do not, at whatever step it is killed and whoever reads meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from sweeps.cli.app import app
from sweeps.errors import StudyError, StudyWarning
from sweeps.query import query
from sweeps.storage import compaction
from sweeps.storage.compaction import Compacted, compact, is_due, recover
from sweeps.storage.object_store import MERGED_FOLDER, Remote
from sweeps.storage.own_files import IDENTITY, unmarked
from sweeps.storage.schema import TABLES
from sweeps.storage.stored_tables import StoredTables
from sweeps.storage.tables import COMPACTION, StudyTables
from sweeps.study.home import remove_stored

from .. import synthetic
from ..object_store import root as root
from ..object_store import s3 as s3
from ..object_store import store as store

KEYS = {"events": ["time", "trial"], "weights": ["trial", "replicate", "epoch", "layer", "row", "column"]}


@pytest.fixture
def tables(tmp_path: Path) -> StudyTables:
    """Four flushes of three trials, of which the last failed."""
    return synthetic.make_study(tmp_path / "demo", trials=9, failed=3, per_flush=3, replicates=2)


@pytest.fixture(params=["at once", "by two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How folders change places: as on Linux, and as on a file system that cannot."""
    if request.param == "by two renames":

        def cannot(one: Path, other: Path) -> None:
            raise NotImplementedError

        monkeypatch.setattr(compaction, "_exchange", cannot)
    return str(request.param)


def rows_of(tables: StudyTables) -> dict[str, pa.Table]:
    """Return all rows of each table, sorted."""
    return {
        name: tables.read(name).sort_by([(key, "ascending") for key in KEYS.get(name, ["trial", "replicate"])])
        for name in TABLES
    }


def test_a_compaction_changes_files_and_no_rows(tables: StudyTables, way: str) -> None:
    before = rows_of(tables)
    assert compact(tables) == Compacted(4 + 3 * 3 + 1, 5)  # an only file stays as it is
    after = rows_of(StudyTables(tables.study_dir))
    assert all(after[name].equals(before[name]) for name in TABLES)
    for name in TABLES:
        assert len(pandas.read_parquet(tables.study_dir / name)) == len(before[name])
        (file,) = tables.files(name)
        assert unmarked(pyarrow.parquet.read_schema(file)).equals(tables.schema(name), check_metadata=True)
    assert tables.read("trials")["trial"].to_pylist() == [n for n in range(12) for _ in range(2)], "by trial"
    assert compact(tables) == Compacted(5, 5)
    assert not (tables.study_dir / COMPACTION).exists()


def test_what_was_merged_stays_when_more_is_published(tables: StudyTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FULL_ROWS", dict.fromkeys(TABLES, 12))
    compact(tables)
    full = {path.name: path.stat().st_ino for path in tables.files("trials")}
    assert len(full) == 2
    synthetic.publish(tables, "later-1", [20], replicates=2)
    synthetic.publish(tables, "later-2", [21], replicates=2)
    assert is_due(tables) is False
    compact(tables)
    now = {path.name: path.stat().st_ino for path in tables.files("trials")}
    assert len(now) == 3 and full.items() <= now.items(), "not written again"
    assert tables.read("trials", columns=["trial"])["trial"].to_pylist()[-4:] == [20, 20, 21, 21]


def test_a_study_goes_on_after_a_compaction(tables: StudyTables) -> None:
    compact(tables)
    synthetic.publish(tables, "later", [20], replicates=2)
    tables.publish_events("attempt-0007-000000", [{"time": synthetic.START, "attempt": 7, "event": "resumed"}])
    assert tables.newest_attempt() == 7
    compact(tables)
    assert tables.newest_attempt() == 7
    row = {key: row[key] for row in tables.trial_rows(["trial", "replicate"]) for key in row}
    assert row["trial"] == 20 and row["flush"].startswith("compacted-")
    assert [published["trial"] for published in tables.rows_of([row["flush"]])][-2:] == [20, 20]


def test_what_is_not_published_is_not_merged_and_not_lost(tables: StudyTables) -> None:
    synthetic.publish(tables, "cut-short", [20], replicates=2)
    (tables.study_dir / "trials" / "cut-short.parquet").rename(tables.study_dir / "kept")
    compact(tables)
    assert 20 not in tables.read("curves")["trial"].to_pylist()
    assert [path.name for path in tables.orphans()] == ["cut-short.parquet"] * 3
    (tables.study_dir / "kept").rename(tables.study_dir / "trials" / "cut-short.parquet")
    assert 20 in tables.read("curves")["trial"].to_pylist(), "a file that was restored brings its rows back"


class Killed(BaseException):
    """Stands for the process being killed: nothing catches it on the way."""


def dying_at(step: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator whose functions raise `Killed` from call number `step` on, counted over all of them."""
    calls = iter(range(10_000))

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*arguments: Any, **options: Any) -> Any:
            if next(calls) >= step:
                raise Killed
            return real(*arguments, **options)

        return replacement

    return dying


def test_killed_at_any_step_no_row_is_lost_or_doubled(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = synthetic.make_study(tmp_path / "demo", trials=3, failed=1, per_flush=1)
    before = rows_of(original)
    ends = []
    for step in range(200):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        shutil.copytree(original.study_dir, folder / "demo")
        tables = StudyTables(folder / "demo")
        dying = dying_at(step)
        with monkeypatch.context() as patch:
            for module, name in ((os, "fsync"), (os, "rename"), (compaction, "_exchange"), (shutil, "rmtree")):
                patch.setattr(module, name, dying(getattr(module, name)))  # a `finally` does not run to its end either
            with contextlib.suppress(Killed):
                compact(tables)
                ends.append(step)
        is_between = any(not (folder / "demo" / name).exists() for name in TABLES)
        monkeypatch.setattr("sweeps.storage.tables.SWAP_PATIENCE_S", 0.0)
        for name in TABLES:
            if is_between:
                with pytest.raises(StudyError, match="cut short"):
                    tables.snapshot(TABLES)
            else:
                assert len(tables.read(name)) == len(before[name])
        recover(tables.study_dir)
        after = rows_of(tables)
        assert all(after[name].equals(before[name]) for name in TABLES), step
        assert not (folder / "demo" / COMPACTION).exists()
        shutil.rmtree(folder)
        if ends:
            break
    assert ends[0] > 20, "so many steps were tried"


def test_a_reader_looks_again_where_files_were_merged_while_it_read(
    tables: StudyTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done = StudyTables.dataset, []

    def compacted_meanwhile(self: StudyTables, table: str, *arguments: Any, **options: Any) -> Any:
        dataset = real(self, table, *arguments, **options)
        if not done:
            done.append(compact(StudyTables(tables.study_dir)))
        return dataset

    monkeypatch.setattr(StudyTables, "dataset", compacted_meanwhile)
    assert len(tables.read("trials")) == 24
    done.clear()
    synthetic.publish(tables, "later", [20], replicates=2)
    answer = query.query(
        [tables.study_dir],
        "SELECT count(*) AS n, (SELECT count(DISTINCT trial) FROM curves) AS c FROM trials",
    )
    assert answer.to_pylist() == [{"n": 26, "c": 10}]


def test_a_snapshot_is_of_one_moment_although_tables_are_swapped_one_by_one(
    tables: StudyTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of trials and that of curves a flush is published and all is compacted."""
    real, done = StudyTables._listing, []

    def meanwhile(self: StudyTables, table: str) -> Any:
        if table == "curves" and not done:
            done.append(True)
            synthetic.publish(tables, "later", [20], replicates=2)
            compact(tables)
        return real(self, table)

    monkeypatch.setattr(StudyTables, "_listing", meanwhile)
    trials, curves = (tables.snapshot(["trials", "curves"]).files[name] for name in ("trials", "curves"))
    assert all(path.exists() for path in (*trials, *curves))
    listed = [set(pyarrow.parquet.read_table(paths[0])["trial"].to_pylist()) for paths in (trials, curves)]
    assert 20 in listed[0] and listed[1] <= listed[0]


def test_no_room_for_a_compaction_costs_nothing(tables: StudyTables, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows_of(tables)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "write_parquet", full)
        result = CliRunner().invoke(app, ["compact", str(tables.study_dir)])
        assert result.exit_code == 2 and "No space left" in result.stderr and "Nothing is lost" in result.stderr
    assert all(rows.equals(before[name]) for name, rows in rows_of(tables).items())
    assert not (tables.study_dir / COMPACTION).exists()


def test_a_damaged_file_is_named_and_stays(tables: StudyTables) -> None:
    path = tables.files("curves")[1]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StudyError, match=path.name):
        compact(tables)
    assert path.exists() and not (tables.study_dir / COMPACTION).exists()


def test_the_command_says_what_it_did(tables: StudyTables) -> None:
    result = CliRunner().invoke(app, ["compact", str(tables.study_dir)])
    assert (result.exit_code, result.stdout) == (0, "demo: 14 table files merged into 5\n")
    result = CliRunner().invoke(app, ["compact", str(tables.study_dir), "--json"])
    assert '"after": 5' in result.stdout


# ---- in an object store --------------------------------------------------------------------------------------------


@pytest.fixture
def stored(root: str, tmp_path: Path) -> tuple[StudyTables, Remote]:
    """The home of a study of four flushes that is published in a store."""
    remote = Remote(f"{root}/demo")
    home = synthetic.make_study(tmp_path / "demo", trials=0, failed=0).study_dir
    tables = StudyTables(home, publish_in=remote)
    for number in range(4):
        synthetic.publish(tables, f"trials-{number}", [2 * number, 2 * number + 1])
    remote.push({name: home / name for name in ("study.yaml", "problem.json", IDENTITY, "events/attempt-001.parquet")})
    return tables, remote


def test_a_store_gets_a_manifest_and_keeps_its_files(stored: tuple[StudyTables, Remote]) -> None:
    tables, remote = stored
    before, objects = rows_of(tables), set(remote.objects())
    assert compact(tables, remote) == Compacted(17, 5)
    assert objects < set(remote.objects()), "other tools read what they read before"
    stored_tables = StoredTables(remote)
    assert [len(stored_tables.files(name)) for name in TABLES] == [1] * 5
    assert all(rows.equals(before[name]) for name, rows in rows_of(stored_tables).items())
    synthetic.publish(tables, "trials-9", [9])
    assert stored_tables.read("trials")["trial"].to_pylist() == [*range(8), 9]
    assert compact(tables, remote) == Compacted(9, 5)
    assert stored_tables.read("curves").equals(tables.read("curves").sort_by([("trial", "ascending")]))
    assert len(remote.objects(MERGED_FOLDER)) == 4, "merged files that are merged again are removed"
    assert compact(tables, remote) == Compacted(5, 5)
    remove_stored(remote)
    assert not remote.objects()


def test_a_file_that_was_copied_into_a_store_is_left_out_and_named(stored: tuple[StudyTables, Remote]) -> None:
    tables, remote = stored
    for name in ("trials/copy.parquet", "curves/copy.parquet"):
        remote.put(name, tables.files(name.partition("/")[0])[0])
    for compacted in (False, True):
        for name in ("trials", "curves"):
            with pytest.warns(StudyWarning, match=rf"{name}: left out copy\.parquet"):
                rows = StoredTables(remote).read(name)
            assert sorted(rows["trial"].to_pylist()) == sorted(tables.read(name)["trial"].to_pylist())
        if not compacted:
            compact(tables, remote)


def test_a_reader_of_a_store_looks_again(stored: tuple[StudyTables, Remote], monkeypatch: pytest.MonkeyPatch) -> None:
    tables, remote = stored
    compact(tables, remote)
    real, done = StoredTables.dataset, []

    def compacted_meanwhile(self: StudyTables, *arguments: Any, **options: Any) -> Any:
        dataset = real(self, *arguments, **options)
        if not done:
            done.append(True)
            synthetic.publish(tables, "trials-9", [9])
            compact(tables, remote)
        return dataset

    monkeypatch.setattr(StoredTables, "dataset", compacted_meanwhile)
    assert StoredTables(remote).read("trials")["trial"].to_pylist() == [*range(8), 9]


@pytest.mark.parametrize("step", range(0, 7, 2))
def test_killed_around_any_upload_a_store_has_every_row_once(
    stored: tuple[StudyTables, Remote], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, remote = stored
    compact(tables, remote)
    synthetic.publish(tables, "trials-9", [9])
    dying = dying_at(step)
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", dying(Remote.put))
        patch.setattr(Remote, "_remove", dying(Remote._remove))
        with pytest.raises(Killed):
            compact(tables, remote)
    stored_tables = StoredTables(remote)
    for _ in range(2):
        assert stored_tables.read("trials")["trial"].to_pylist() == [*range(8), 9]
        assert (
            stored_tables.read("curves")
            .sort_by([("trial", "ascending")])
            .equals(tables.read("curves").sort_by([("trial", "ascending")]))
        )
        compact(tables, remote)
    assert len(remote.objects(MERGED_FOLDER)) == 4
