"""Folders for what a process needs as long as it works: whatever becomes of the process, nothing stays of them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import scratch
from cluster.scratch import PREFIX, remove_scratch, scratch_folder
from tests.cluster.waiting import WAIT_S
from tests.processes import end, line_of

HOLDING = """\
import sys, time
from cluster.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    (folder / "spilled").write_text("much")
    print(folder, flush=True)
    time.sleep(600)
"""
Hold = Callable[[str], tuple[subprocess.Popen[str], Path]]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, for this process and those it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Another process with a scratch folder, and the folder."""
    started = []

    def start(what: str) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen([sys.executable, "-c", HOLDING, what], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, Path(line_of(process).strip())

    yield start
    for process in started:
        end(process)


def test_it_is_private_and_gone_afterwards(temporary: Path) -> None:
    with scratch_folder("query") as folder:
        assert folder.parent == temporary and folder.name.startswith(".pinnsweep-query-")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert list(temporary.iterdir()) == []


def test_it_is_gone_after_an_error(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder("query"):
        _ = 1 / 0
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(temporary: Path, hold: Hold) -> None:
    killed, left = hold("query")
    alive, used = hold("tune")
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=WAIT_S)
    assert (left / "spilled").exists()
    with scratch_folder("other") as folder:
        assert sorted(temporary.iterdir()) == sorted([used, folder])
        assert (used / "spilled").read_text() == "much"
    assert alive.poll() is None and used.is_dir()


def test_those_of_this_process_are_left_alone() -> None:
    with scratch_folder("outer") as outer, scratch_folder("inner"):
        assert outer.is_dir()


@pytest.mark.parametrize("name", ["pinnsweep-results", ".pinnsweep-results"])
def test_a_folder_of_the_users_own_is_left_alone(temporary: Path, name: str) -> None:
    (temporary / name).mkdir(mode=0o755)
    with scratch_folder("query"):
        pass
    assert (temporary / name).is_dir()


def test_a_file_and_a_link_of_such_a_name_are_left_alone(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    elsewhere.chmod(0o700)
    (elsewhere / "file").touch()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}file").touch(mode=0o700)
    with scratch_folder("query"):
        pass
    assert (elsewhere / "file").exists() and len(list(temporary.iterdir())) == 2


def test_a_folder_of_another_user_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = temporary / f"{PREFIX}query-12345678"
    other.mkdir(mode=0o700)
    monkeypatch.setattr(scratch.os, "geteuid", lambda: os.getuid() + 1)
    scratch._remove_abandoned(temporary)
    assert other.is_dir()


def test_one_that_was_taken_for_abandoned_before_it_was_locked_is_made_anew(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tempfile.mkdtemp
    seen = []

    def interrupted(**options: str) -> str:
        folder = made(**options)
        if not seen:
            scratch._remove_abandoned(temporary)
        seen.append(folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
    with scratch_folder("query") as folder:
        assert folder.is_dir() and [str(folder)] == seen[1:]


def test_where_folders_cannot_be_locked_none_is_taken_for_abandoned(
    temporary: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, left = hold("query")
    process.kill()
    process.wait(timeout=WAIT_S)

    def refuse(lock: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(scratch.fcntl, "flock", refuse)
    with scratch_folder("query") as folder:
        assert folder.is_dir() and left.is_dir()
    assert list(temporary.iterdir()) == [left]


def test_a_process_that_ends_at_once_can_remove_its_own() -> None:
    with scratch_folder("query") as folder, scratch_folder("other") as other:
        remove_scratch()
        assert not folder.exists() and not other.exists()
