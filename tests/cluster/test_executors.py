"""Jobs of this machine, beyond the contract of every place: processes, signals, and the folder of a job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from cluster import (
    ClusterError,
    Executor,
    InlineExecutor,
    Job,
    JobError,
    JobHandle,
    JobNotFound,
    JobState,
    LocalExecutor,
    LogsNotKept,
    Resources,
)
from cluster.supervisor import start_mark
from tests.cluster.waiting import WAIT_S, eventually
from tests.processes import line_of, started

Make = Callable[[Path], Executor]
BACK_ENDS: dict[str, Make] = {
    "inline": lambda folder: InlineExecutor(folder, capture=True),
    "local": lambda folder: LocalExecutor(folder),
}


def python(code: str, **settings: object) -> Job:
    """A job that runs Python code."""
    return Job(argv=(sys.executable, "-u", "-c", code), **settings)  # type: ignore[arg-type]


SLEEP = python("import time; print('asleep', flush=True); time.sleep(600)")


@contextlib.contextmanager
def running(make: Make, jobs_dir: Path, job: Job) -> Iterator[JobHandle]:
    """Submit from a thread, since a back-end may block there, and look on as another client."""
    thread = threading.Thread(target=lambda: make(jobs_dir).submit(job))
    thread.start()
    looker = make(jobs_dir)
    eventually(looker.list)
    handle = looker.attach("1")
    eventually(lambda: handle.state() is not JobState.PENDING)
    try:
        yield handle
    finally:
        handle.cancel(grace_s=0)
        handle.wait(WAIT_S)
        thread.join(WAIT_S)
    assert not thread.is_alive()


def has_printed(handle: JobHandle, text: str) -> Callable[[], bool]:
    return lambda: text in "".join(handle.logs())


@pytest.mark.parametrize("back_end", BACK_ENDS)
class TestThisMachine:
    @pytest.fixture
    def make(self, back_end: str) -> Make:
        return BACK_ENDS[back_end]

    @pytest.fixture
    def executor(self, make: Make, tmp_path: Path) -> Executor:
        return make(tmp_path / "jobs")

    def test_command_ended_by_a_signal(self, executor: Executor) -> None:
        handle = executor.submit(python("import os; os.kill(os.getpid(), 9)"))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert handle.exit_code() == 128 + signal.SIGKILL

    @pytest.mark.parametrize(("argv", "exit_code"), [(("no-such-command",), 127), (("/",), 126)])
    def test_command_that_cannot_start(self, executor: Executor, argv: tuple[str, ...], exit_code: int) -> None:
        handle = executor.submit(Job(argv=argv))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert handle.exit_code() == exit_code
        assert f"cannot start {argv[0]}" in "".join(handle.logs())

    def test_folder_that_is_not_there(self, executor: Executor, tmp_path: Path) -> None:
        handle = executor.submit(python("", cwd=tmp_path / "gone"))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert str(tmp_path / "gone") in "".join(handle.logs())

    def test_environment_and_folder_are_passed(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("INHERITED", "1")
        show = "import os; print(os.environ['INHERITED'], os.environ['ADDED'], os.getcwd())"
        handle = executor.submit(python(show, environment={"ADDED": "2"}, cwd=tmp_path))
        assert handle.wait(WAIT_S) is JobState.DONE
        assert "".join(handle.logs()) == f"1 2 {tmp_path}\n"

    def test_output_that_is_no_text(self, executor: Executor) -> None:
        handle = executor.submit(python(r"import os; os.write(1, b'\xff\xc3\xa9\xc3')"))
        handle.wait(WAIT_S)
        assert "".join(handle.logs(follow=True)) == "\ufffdé\ufffd"

    def test_jobs_are_numbered_and_listed_oldest_first(self, executor: Executor) -> None:
        submitted = [executor.submit(python("")).id for _ in range(11)]
        assert submitted == [str(number) for number in range(1, 12)]
        assert [handle.id for handle in executor.list()] == submitted

    @pytest.mark.parametrize("job_id", ["7", "", "..", "../1", "x"])
    def test_unknown_job(self, executor: Executor, job_id: str) -> None:
        executor.submit(python("")).wait(WAIT_S)
        with pytest.raises(JobNotFound, match="known jobs: 1"):
            executor.attach(job_id)

    def test_cancel_ends_what_the_command_left_behind(self, make: Make, tmp_path: Path) -> None:
        child = "import time; time.sleep(600)"
        start = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {child!r}])"
        with running(make, tmp_path, python(f"{start}; print(p.pid, 'started'); time.sleep(600)")) as handle:
            eventually(has_printed(handle, "started"))
            pid = int("".join(handle.logs()).split()[0])
            assert start_mark(pid) is not None
            handle.cancel()
            handle.wait(WAIT_S)
            eventually(lambda: start_mark(pid) is None)

    def test_time_limit(self, executor: Executor) -> None:
        handle = executor.submit(python("import time; time.sleep(600)", resources=Resources(timeout_min=0.005)))
        assert handle.wait(WAIT_S) is JobState.TIMED_OUT
        assert handle.exit_code() == 128 + signal.SIGTERM

    def test_job_of_another_machine_is_not_judged(self, make: Make, tmp_path: Path) -> None:
        with running(make, tmp_path, SLEEP) as handle:
            eventually(has_printed(handle, "asleep"))
            record = json.loads((tmp_path / "1" / "process.json").read_text())
            foreign = tmp_path / "2"
            foreign.mkdir()
            (foreign / "job.json").write_text((tmp_path / "1" / "job.json").read_text())
            (foreign / "process.json").write_text(json.dumps({**record, "host": "elsewhere"}))
            assert make(tmp_path).attach("2").state() is JobState.UNKNOWN

    @pytest.mark.parametrize("resources", [Resources(cpus=10**6), Resources(memory_gb=1e9), Resources(gpus=10**6)])
    def test_more_than_the_machine_has_is_refused(self, executor: Executor, resources: Resources) -> None:
        with pytest.raises(JobError, match="must be at most"):
            executor.submit(python("", resources=resources))
        assert executor.list() == []

    def test_damaged_record(self, executor: Executor, tmp_path: Path) -> None:
        executor.submit(python("")).wait(WAIT_S)
        (tmp_path / "jobs" / "1" / "job.json").write_text("{")
        with pytest.raises(ClusterError, match="not a job record"):
            executor.attach("1")


CLIENT = """
import sys
from pathlib import Path
from typing import Any
from cluster import Job, {name}
executor = {name}(Path(sys.argv[1]))
handle = executor.submit(Job(argv=(sys.executable, "-u", "-c", {code!r})))
print("submitted", handle.id, handle.exit_code(), flush=True)
sys.stdin.read()
"""


def client(name: str, code: str, jobs_dir: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """Another Python process that submits one job, and then waits for its standard input to close."""
    argv = [sys.executable, "-c", CLIENT.format(name=name, code=code), str(jobs_dir)]
    return started(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def recorded(folder: Path) -> dict[str, Any]:
    """The processes of a job, which is submitted."""
    record: dict[str, Any] = json.loads((folder / "process.json").read_text())
    return record


class TestLocal:
    def test_job_outlives_a_killed_client(self, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('alive')"
        with client("LocalExecutor", code, tmp_path / "jobs") as process:
            assert line_of(process) == "submitted 1 None\n"
            process.kill()
        handle = LocalExecutor(tmp_path / "jobs").attach("1")
        assert handle.state() is JobState.RUNNING
        gate.touch()
        assert handle.wait(WAIT_S) is JobState.DONE
        assert "".join(handle.logs()) == "alive\n"

    def test_job_has_left_the_session_of_the_client(self, tmp_path: Path) -> None:
        handle = LocalExecutor(tmp_path).submit(python("import os; print(os.getsid(0))"))
        handle.wait(WAIT_S)
        assert int("".join(handle.logs())) != os.getsid(0)

    def test_recycled_pid_is_not_mistaken(self, tmp_path: Path) -> None:
        handle = LocalExecutor(tmp_path).submit(python(""))
        handle.wait(WAIT_S)
        folder = tmp_path / handle.id
        record = recorded(folder)
        record["supervisor"] = [os.getpid(), "another start"]  # this very process lives, and is not the supervisor
        (folder / "process.json").write_text(json.dumps(record))
        (folder / "ended.json").unlink()
        assert handle.state() is JobState.LOST
        assert handle.exit_code() is None

    def test_killed_supervisor(self, tmp_path: Path) -> None:
        handle = LocalExecutor(tmp_path).submit(SLEEP)
        eventually(lambda: recorded(tmp_path / "1")["command"])  # the command may print before it is recorded
        record = recorded(tmp_path / "1")
        os.kill(record["supervisor"][0], signal.SIGKILL)
        eventually(lambda: start_mark(record["supervisor"][0]) is None)
        assert handle.state() is JobState.RUNNING  # its command is
        handle.cancel()
        assert handle.state() is JobState.CANCELLED
        assert start_mark(record["command"][0]) is None

    def test_terminated_supervisor_stops_its_command(self, tmp_path: Path) -> None:
        handle = LocalExecutor(tmp_path).submit(SLEEP)
        eventually(has_printed(handle, "asleep"))
        os.kill(recorded(tmp_path / "1")["supervisor"][0], signal.SIGTERM)
        assert handle.wait(WAIT_S) is JobState.CANCELLED

    def test_cancelled_before_it_started(self, tmp_path: Path) -> None:
        handle = LocalExecutor(tmp_path).submit(python(""))
        handle.wait(WAIT_S)
        for name in ("process.json", "ended.json"):
            (tmp_path / "1" / name).unlink()
        assert handle.state() is JobState.PENDING
        handle.cancel()
        assert handle.state() is JobState.CANCELLED


class TestInline:
    def test_streams_are_those_of_the_client(self, tmp_path: Path) -> None:
        with client("InlineExecutor", "print('hello'); raise SystemExit(4)", tmp_path) as process:
            output, _ = process.communicate(timeout=WAIT_S)
        assert output == "hello\nsubmitted 1 4\n"
        handle = InlineExecutor(tmp_path).attach("1")
        with pytest.raises(LogsNotKept, match="terminal"):
            handle.logs(follow=True)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals_are_passed_on_once(self, tmp_path: Path, number: signal.Signals) -> None:
        code = (
            "import signal\n"
            "both = {signal.SIGINT, signal.SIGTERM}\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, both)  # what comes early waits\n"
            "print('ready'); print('got', int(signal.sigwait(both)))\n"
            "raise SystemExit(9 if signal.sigtimedwait(both, 0.3) is None else 8)"
        )
        with client("InlineExecutor", code, tmp_path) as process:
            assert line_of(process) == "ready\n"
            process.send_signal(number)
            assert line_of(process) == f"got {number.value}\n"
            assert line_of(process) == "submitted 1 9\n"
        assert InlineExecutor(tmp_path).attach("1").state() is JobState.CANCELLED


def test_start_mark_of_remains() -> None:
    with started([sys.executable, "-c", ""]) as process:
        eventually(lambda: start_mark(process.pid) is None)  # dead, though nobody has asked for its exit code
    assert start_mark(os.getpid()) == start_mark(os.getpid()) is not None
