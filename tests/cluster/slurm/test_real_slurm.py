"""Jobs of a real SLURM, with its own daemons and commands, and with a real Ray."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import Executor, Job, JobHandle, JobState
from cluster.slurm.executor import SlurmExecutor
from cluster.slurm.profile import SlurmProfile
from sweeps.study.loading import load_spec
from tests.sweeps.clusters import command
from tests.sweeps.small import assert_same_tables, prepare, train_all, write_study

from ..waiting import WAIT_S, eventually
from .daemons import slurm_daemons
from .jobs import SAVES_ON_TERM, begun, log_of, python

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[None]:
    """Daemons for all tests of this file."""
    with slurm_daemons():
        yield


def client(root: Path, **settings: Any) -> Executor:
    return SlurmExecutor(SlurmProfile(root=str(root), **settings), "real", poll_s=0.2)


def test_a_job_on_two_nodes(tmp_path: Path) -> None:
    place = client(tmp_path, nodes=2, cpus_per_node=1, gpus_per_node=1, partition="main", time_limit_min=10)
    assert [check.problem for check in place.checks()] == [""] * 4
    code = "import ray; ray.init('auto', logging_level='ERROR'); print(ray.cluster_resources())"
    handle = place.submit(python(f"{code}; raise SystemExit(3)"))
    assert handle.wait(200) is JobState.FAILED, log_of(handle)
    assert handle.exit_code() == 3
    assert "'CPU': 2.0" in log_of(handle) and "'GPU': 2.0" in log_of(handle)
    assert not (tmp_path / ".jobs" / "real" / "1" / "token").exists()


def test_cancel(tmp_path: Path) -> None:
    place = client(tmp_path / "a folder, 5 %j", time_limit_min=10)
    handle = place.submit(python(SAVES_ON_TERM, name="it's two words"))
    eventually(begun(handle))
    assert handle.state() is JobState.RUNNING
    handle.cancel()
    assert handle.wait(WAIT_S) is JobState.CANCELLED
    assert handle.exit_code() == 130


def test_cancel_before_it_runs(tmp_path: Path) -> None:
    handle = client(tmp_path, options=("--begin=now+600",)).submit(python(""))
    assert handle.state() is JobState.PENDING
    handle.cancel()
    assert handle.wait(WAIT_S) is JobState.CANCELLED


def test_a_job_cancelled_by_other_means(tmp_path: Path) -> None:
    handle = client(tmp_path).submit(python(SAVES_ON_TERM))
    eventually(begun(handle))
    number = (tmp_path / ".jobs" / "real" / "1" / "slurm_ids").read_text().split()[-1]
    subprocess.run(["scancel", number], timeout=WAIT_S, check=True)
    assert handle.wait(WAIT_S) is JobState.CANCELLED


def test_a_job_from_which_its_nodes_are_taken(tmp_path: Path) -> None:
    """What preemption and the failure of a node do too: SLURM ends the job and queues it again."""
    handle = client(tmp_path).submit(python(SAVES_ON_TERM))
    eventually(begun(handle))
    number = (tmp_path / ".jobs" / "real" / "1" / "slurm_ids").read_text().split()[-1]
    subprocess.run(["scontrol", "requeue", number], timeout=WAIT_S, check=True)
    eventually(lambda: handle.state() is JobState.PENDING)
    assert handle.wait(WAIT_S) is JobState.DONE
    assert "went on" in log_of(handle)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"partition": "nope"}, "partition must be one of main, closed, got 'nope'"),
        ({"partition": "closed"}, "the partition closed is down"),
        ({"nodes": 9}, "Requested node configuration is not available"),
        ({"constraint": "a100"}, "Invalid feature specification"),
        ({"options": ("--bogus",)}, "--bogus"),
    ],
)
def test_what_slurm_will_not_do(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    *_, last = client(tmp_path, **settings).checks()
    assert problem in last.problem


def test_a_study_too_long_for_its_time_limit(tmp_path: Path) -> None:
    """It meets the limit, is queued again, and ends with the tables of a study that nothing interrupted."""
    file = write_study(tmp_path / "data", epochs=5000, iterations=200, thin=1, trials=32)
    root = tmp_path / "root"
    job = Job(
        argv=tuple(command("run", "study.yaml", "--root", root, "--plain", "--address", "auto")),
        files={"study.yaml": file.read_bytes()},
        name="small",
    )
    # SLURM sends the signal 60 to 90 seconds after the start; the training alone takes longer than that.
    handle = client(root, cpus_per_node=1, time_limit_min=2, signal_before_end_s=30).submit(job)
    calm, _ = prepare(tmp_path / "calm", load_spec(file))
    with ThreadPoolExecutor() as pool:
        whole = pool.submit(lambda: train_all(calm, segment_s=5.0).close())
        seen = list(states_until_the_end(handle))
        whole.result()
    assert handle.exit_code() == 0, log_of(handle)
    assert seen[-4:] == [JobState.RUNNING, JobState.PENDING, JobState.RUNNING, JobState.DONE]
    assert "resumes when SLURM starts the job again" in log_of(handle)
    assert_same_tables(calm, root / "small")


def states_until_the_end(handle: JobHandle) -> Iterator[JobState]:
    """Each state as the job comes to it."""
    before = None
    while before is None or not before.finished:
        if (state := handle.state()) is not before:
            yield state
        before = state
        time.sleep(0.2)
