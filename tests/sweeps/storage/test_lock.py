"""The lock of a study: who is refused, who is waited for, and where locks cannot be trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import StudyError
from sweeps.storage import lock
from sweeps.storage.lock import StudyLock, held_by, read_holder, refuse_held
from sweeps.storage.mounts import lock_doubts, mount_of
from tests.cluster.waiting import WAIT_S
from tests.processes import line_of, started

HOLDER = """
import sys, time
from pathlib import Path
from sweeps.storage.lock import StudyLock
held = StudyLock(Path(sys.argv[1]), driver_pid=int(sys.argv[2]))
print("held", flush=True)
time.sleep(600)
"""


def taken(study_dir: Path, **options: object) -> StudyLock:
    return StudyLock(study_dir, driver_pid=os.getpid(), **options)  # type: ignore[arg-type]


@pytest.fixture
def dead_pid() -> int:
    with started([sys.executable, "-c", ""]) as child:
        child.wait(timeout=WAIT_S)
    return child.pid


@pytest.fixture
def other_process(tmp_path: Path, dead_pid: int) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock for a driver that is dead."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(dead_pid)]
    with started(command, stdout=subprocess.PIPE) as child:
        assert line_of(child) == "held\n"
        yield child


def test_a_second_driver_is_told_who_holds_the_study(tmp_path: Path) -> None:
    held = taken(tmp_path)
    for use in (lambda: taken(tmp_path), lambda: refuse_held(tmp_path)):
        with pytest.raises(StudyError, match=f"is being run by process {os.getpid()} on"):
            use()
    assert str(os.getpid()) in (held_by(tmp_path) or "")
    held.release()
    assert held_by(tmp_path) is None and read_holder(tmp_path) == {}
    refuse_held(tmp_path)
    taken(tmp_path).release()


def test_processes_of_a_killed_driver_are_waited_for(tmp_path: Path, other_process: subprocess.Popen[str]) -> None:
    assert held_by(tmp_path)
    refuse_held(tmp_path)  # its driver is dead, so a start is allowed
    start = time.monotonic()
    threading.Timer(1.0, other_process.kill).start()
    taken(tmp_path).release()
    assert time.monotonic() - start > 0.5


def test_they_are_not_waited_for_without_end(
    tmp_path: Path, other_process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.5)
    with pytest.raises(StudyError, match="is being run by process"):
        taken(tmp_path)


def test_whoever_looks_at_a_lock_costs_a_driver_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    taken(tmp_path).release()
    with open(tmp_path / lock.FILE) as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        with pytest.raises(StudyError, match="another process"):
            taken(tmp_path)
        monkeypatch.setattr(lock, "GLANCE_S", 60.0)
        threading.Timer(0.5, looker.close).start()
        taken(tmp_path).release()


def test_every_taking_has_a_higher_token(tmp_path: Path) -> None:
    tokens, words = [], []
    for _ in range(3):
        held = taken(tmp_path)
        assert read_holder(tmp_path)["token"] == held.token
        tokens.append(held.token)
        words.append(held.word)
        held.release()
    assert tokens == [1, 2, 3] and len(set(words)) == 3


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"token": "x"}', '{"host": 5}', "\x00" * 40])
def test_a_torn_note_is_no_obstacle(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.FILE).write_text(content)
    assert held_by(tmp_path) is None and read_holder(tmp_path) == {}
    held = taken(tmp_path)
    held.check()
    held.release()


def test_an_owner_whose_lock_was_deleted_and_taken_finds_out(tmp_path: Path) -> None:
    first = taken(tmp_path)
    first.check()
    (tmp_path / lock.FILE).unlink()
    with pytest.raises(StudyError, match="was removed or replaced"):
        first.check()
    second = taken(tmp_path)
    second.check()
    with pytest.raises(StudyError, match=f"process {os.getpid()} on .* holds the study now"):
        first.check()
    first.release()
    second.check()
    assert read_holder(tmp_path)["word"] == second.word, "the first takes nothing of the second with it"
    second.release()
    with pytest.raises(StudyError):
        second.check()


def test_an_owner_whose_note_was_overwritten_finds_out(tmp_path: Path) -> None:
    held = taken(tmp_path)
    note = json.loads((tmp_path / lock.FILE).read_text())
    (tmp_path / lock.FILE).write_text(json.dumps({**note, "token": note["token"] + 1, "word": "another"}))
    with pytest.raises(StudyError, match="holds the study now"):
        held.check()


def test_a_moved_copy_of_the_lock_file_is_not_the_lock(tmp_path: Path) -> None:
    held = taken(tmp_path)
    content = (tmp_path / lock.FILE).read_bytes()
    (tmp_path / "copy").write_bytes(content)
    os.replace(tmp_path / "copy", tmp_path / lock.FILE)
    with pytest.raises(StudyError, match="removed or replaced"):
        held.check()


def test_a_file_system_that_grants_every_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_CHILD", "import sys; sys.exit(7)")  # exit code of a second process that got the lock
    with pytest.raises(StudyError, match=r"does not enforce locks.*--root DIR.*state: postgresql"):
        taken(tmp_path)
    assert held_by(tmp_path) is None, "nothing is held after a refusal"
    taken(tmp_path, must_hold=False).release()


def test_the_second_process_really_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lock is not held, the second process gets it and says so."""
    monkeypatch.setattr(lock.fcntl, "flock", lambda file, operation: None)
    with pytest.raises(StudyError, match="a second process got the one that is held"):
        taken(tmp_path)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [("raise OSError('stale file handle')", "stale file handle"), ("import time; time.sleep(60)", "does not answer")],
)
def test_a_second_process_that_cannot_try_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, complaint: str
) -> None:
    monkeypatch.setattr(lock, "_CHILD", program)
    monkeypatch.setattr(lock, "CHILD_TIMEOUT_S", 1.0)
    with pytest.raises(StudyError, match=complaint):
        taken(tmp_path)


def test_a_file_system_without_locks_will_do_where_the_database_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(file: object, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with pytest.raises(StudyError, match=r"cannot lock \(Operation not supported\)"):
        taken(tmp_path)
    held = taken(tmp_path, must_hold=False)
    held.check()
    held.release()


def test_doubtful_mounts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("27 1 0:50 / / rw - nfs4 server:/export rw,vers=4.2,local_lock=all\n")
    monkeypatch.setattr(lock, "MOUNTINFO", str(mountinfo))
    with pytest.raises(StudyError, match="local_lock=all"):
        taken(tmp_path)
    assert not (tmp_path / lock.FILE).exists(), "nothing is left behind"
    taken(tmp_path, must_hold=False).release()


# ---- mounts -------------------------------------------------------------------------------------------------------

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:40 / /home rw,relatime shared:2 master:3 - nfs4 server:/home rw,vers=4.2,hard,local_lock=none,addr=10.0.0.1
41 27 0:41 / /old rw,relatime - nfs server:/old rw,vers=3,nolock,local_lock=none
42 27 0:42 / /half rw,relatime - nfs server:/half rw,vers=3,local_lock=flock
43 27 0:43 / /posix rw,relatime - nfs server:/posix rw,vers=3,local_lock=posix
44 27 0:44 / /far rw,nosuid - fuse.sshfs me@host:/far rw,user_id=0
45 27 0:45 / /s3 rw,nosuid - fuse mountpoint-s3 rw,user_id=0
46 27 0:46 / /bucket rw,nosuid - fuse.gcsfuse bucket rw
47 27 0:47 / /juice rw,nosuid - fuse.juicefs JuiceFS:jfs rw
48 27 0:48 / /host rw - 9p hostshare rw,trans=virtio
49 27 0:49 / /with\040blank rw - vboxsf share rw
50 27 0:50 / /lustre rw - lustre mds@tcp:/fs rw,flock
51 27 0:51 / /scratch rw - lustre mds@tcp:/fs rw,localflock
52 27 0:52 / /auto rw - autofs systemd-1 rw
53 52 0:53 / /auto rw - nfs4 server:/auto rw,local_lock=all
54 44 0:54 / /far/near rw - ext4 /dev/vdb rw
55 27 0:55 / /share rw - cifs //server/share rw,nobrl
"""


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/old/study", "nfs with the option nolock"),
        ("/half", "local_lock=flock"),
        ("/far/study", "sshfs"),
        ("/s3/a/b", "mountpoint-s3"),
        ("/bucket/x", "gcsfuse"),
        ("/host/x", "9p"),
        ("/with blank/x", "vboxsf"),
        ("/scratch/x", "localflock"),
        ("/auto/x", "local_lock=all"),
        ("/share/x", "nobrl"),
    ],
)
def test_mounts_that_do_not_hold_locks_are_named(path: str, named: str) -> None:
    doubts = lock_doubts(MOUNTS, path)
    assert doubts and named in doubts and path in doubts and "--root DIR" in doubts and "postgresql://" in doubts


@pytest.mark.parametrize(
    "path",
    ["/", "/data/x", "/home/me/x", "/posix/x", "/juice/x", "/lustre/x", "/far/near/x", "/older", "/s3x", "/proc"],
)
def test_other_mounts_are_not_doubted(path: str) -> None:
    assert lock_doubts(MOUNTS, path) is None


def test_the_mounts_of_this_machine_are_understood(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    mount = mount_of(mounts, str(tmp_path.resolve()))
    assert mount and os.stat(mount.point).st_dev == os.stat(tmp_path).st_dev


@given(st.text(alphabet=" -/\\0127ab\n", max_size=80))
def test_anything_else_is_no_doubt(text: str) -> None:
    assert lock_doubts(text, "/a/b") is None
