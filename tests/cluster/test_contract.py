"""One contract for every place: a command goes in; state, log and exit code come out, for whoever asks."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster import Executor, InlineExecutor, Job, JobHandle, JobNotFound, JobState, LocalExecutor
from tests.cluster.kubernetes.api import kubernetes_place
from tests.cluster.ray.place import ray_place
from tests.cluster.slurm.daemons import real_slurm_place
from tests.cluster.slurm.stand_in import slurm_place
from tests.cluster.vms.place import vms_place
from tests.cluster.waiting import WAIT_S, eventually

Clients = Callable[[], Executor]


@contextlib.contextmanager
def inline_place(folder: Path) -> Iterator[Clients]:
    yield lambda: InlineExecutor(folder / "jobs", capture=True)


@contextlib.contextmanager
def local_place(folder: Path) -> Iterator[Clients]:
    yield lambda: LocalExecutor(folder / "jobs")


PLACES: dict[str, Callable[[Path], AbstractContextManager[Clients]]] = {
    "inline": inline_place,
    "local": local_place,
    "ray": ray_place,
    "slurm": slurm_place,
    "real slurm": real_slurm_place,
    "kubernetes": kubernetes_place,
    "vms": vms_place,
}


MARKS = {
    "vms": [pytest.mark.slow],  # jobs there are those of `ray`, through a tunnel
    "real slurm": [pytest.mark.slow],
}
pytestmark = pytest.mark.parametrize(
    "clients",
    [pytest.param(name, marks=(pytest.mark.xdist_group(name), *MARKS.get(name, ()))) for name in PLACES],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """What makes one more client of a place; every test of this file shares it, and so finds jobs of the others."""
    with PLACES[request.param](tmp_path_factory.mktemp(request.param)) as make:
        yield make


@pytest.fixture
def place(clients: Clients) -> Executor:
    return clients()


def python(code: str, **settings: object) -> Job:
    """A job that runs Python code."""
    return Job(argv=(sys.executable, "-u", "-c", code), **settings)  # type: ignore[arg-type]


def log_of(handle: JobHandle) -> str:
    return "".join(handle.logs())


@contextlib.contextmanager
def running(clients: Clients, job: Job) -> Iterator[JobHandle]:
    """Submit from a thread, since a place may block there, and look on as another client once the job has begun.

    It must print "begun", and its code must not hold that word, which Ray writes into the log beforehand.
    """
    before = {handle.id for handle in clients().list()}
    thread = threading.Thread(target=lambda: clients().submit(job))
    thread.start()
    looker = clients()

    def new() -> list[JobHandle]:
        return [handle for handle in looker.list() if handle.id not in before]

    eventually(new)
    handle = looker.attach(new()[0].id)
    try:
        eventually(lambda: handle.state() is JobState.RUNNING and "begun" in log_of(handle))
        yield handle
    finally:
        handle.cancel(grace_s=0)
        handle.wait(WAIT_S)
        thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_command_that_succeeds(place: Executor) -> None:
    job = python("import sys; print('to stdout'); print('to stderr', file=sys.stderr)", name="two streams")
    before = datetime.now(UTC)
    handle = place.submit(job)
    assert handle.wait(WAIT_S) is JobState.DONE
    assert handle.exit_code() == 0
    assert {"to stdout", "to stderr"} <= set(log_of(handle).splitlines())
    assert (handle.job.name, handle.job.argv) == (job.name, job.argv)
    assert before - timedelta(seconds=2) <= handle.submitted_at <= datetime.now(UTC) + timedelta(seconds=2)


def test_a_command_that_fails(place: Executor) -> None:
    handle = place.submit(python("import sys; print('so it ends'); sys.exit(3)"))
    assert handle.wait(WAIT_S) is JobState.FAILED
    assert handle.exit_code() == 3
    assert "so it ends" in log_of(handle)


def test_a_command_that_does_not_exist(place: Executor) -> None:
    handle = place.submit(Job(argv=("no-such-command",)))
    assert handle.wait(WAIT_S) is JobState.FAILED
    assert handle.exit_code() == 127
    assert "no-such-command" in log_of(handle)


def test_words_reach_the_command_as_they_are(place: Executor) -> None:
    words = ("a b", "$HOME", "*", "; exit 7", "'", '"', "\\", "", "é", "two\nlines")
    show = "import json, sys; print('>' + json.dumps(sys.argv[1:]))"
    handle = place.submit(Job(argv=(sys.executable, "-c", show, *words)))
    assert handle.wait(WAIT_S) is JobState.DONE
    told = next(line for line in log_of(handle).splitlines() if line.startswith(">"))
    assert tuple(json.loads(told[1:])) == words


def test_environment_and_files_travel_with_the_job(place: Executor) -> None:
    files = {"a.txt": b"first", "b.bin": bytes(range(256))}
    code = "import os, sys; print('>', os.environ['ADDED'], open('a.txt').read(), sum(open('b.bin', 'rb').read()))"
    handle = place.submit(python(code, environment={"ADDED": "it's 5 %"}, files=files))
    assert handle.wait(WAIT_S) is JobState.DONE, log_of(handle)
    assert f"> it's 5 % first {sum(range(256))}" in log_of(handle).splitlines()


def test_a_job_that_is_stopped(clients: Clients) -> None:
    with running(clients, python("import time; print('be' 'gun'); time.sleep(600)")) as handle:
        assert handle.exit_code() is None
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED


def test_a_job_that_is_stopped_can_save_its_work(clients: Clients, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def save(*_): time.sleep(0.5); pathlib.Path({str(saved)!r}).touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, save); print('be' 'gun'); time.sleep(600)"
    )
    with running(clients, python(code)) as handle:
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED
    assert saved.exists()


def test_a_job_that_will_not_stop_is_killed(clients: Clients) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('be' 'gun'); time.sleep(600)"
    with running(clients, python(code)) as handle:
        handle.cancel(grace_s=1)
        assert handle.wait(WAIT_S) is JobState.CANCELLED


def test_stopping_a_finished_job_changes_nothing(place: Executor) -> None:
    handle = place.submit(python(""))
    handle.wait(WAIT_S)
    handle.cancel()
    assert handle.state() is JobState.DONE


def test_a_log_is_followed_as_it_grows(clients: Clients, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    code = f"import os, time\nprint('be' 'gun ' * 2)\n{wait}\nprint('after ' * 2)"
    with running(clients, python(code)) as handle:
        pieces, told = handle.logs(follow=True), ""
        while "begun" not in told:
            told += next(pieces)
        assert "after after" not in told
        gate.touch()
        told += "".join(pieces)
        assert told.count("begun begun") == told.count("after after") == 1
        assert handle.state() is JobState.DONE


def test_waiting_gives_up_after_its_time(clients: Clients) -> None:
    with running(clients, python("import time; print('be' 'gun'); time.sleep(600)")) as handle:
        assert handle.wait(0.05) is JobState.RUNNING


def test_another_client_sees_the_same(clients: Clients) -> None:
    submitted = clients().submit(python("print('here' * 2); raise SystemExit(5)", name="seen"))
    submitted.wait(WAIT_S)
    handle = clients().attach(submitted.id)
    assert (handle.state(), handle.exit_code(), handle.job.name) == (JobState.FAILED, 5, "seen")
    assert "herehere" in "".join(handle.logs(follow=True))


def test_jobs_are_listed_oldest_first(clients: Clients) -> None:
    submitted = [clients().submit(python("")).id for _ in range(3)]
    assert [handle.id for handle in clients().list()][-3:] == submitted
    assert len(set(submitted)) == 3


@pytest.mark.parametrize("job_id", ["no-such-job", "", "..", "../1", "99999999"])
def test_an_unknown_job(place: Executor, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        place.attach(job_id)


def test_a_preview_says_what_would_be_sent_and_keeps_secrets(place: Executor) -> None:
    before = [handle.id for handle in place.list()]
    environment = {"GREETING": "hello", "AWS_SECRET_ACCESS_KEY": "do-not-show", "DB_PASS": "do-not-show"}
    job = Job(
        argv=("some-command", "--flag", "--api-key", "do-not-show"),
        name="shown",
        environment=environment,
        files={"a.txt": b"first"},
    )
    text = place.preview(job)
    assert "some-command --flag" in text
    assert "a.txt" in text
    assert "GREETING" in text and "hello" in text and "DB_PASS" in text
    assert "do-not-show" not in text
    assert [handle.id for handle in place.list()] == before


def test_the_place_is_in_order(place: Executor) -> None:
    checks = list(place.checks())
    assert checks
    assert [check.problem for check in checks] == [""] * len(checks)
