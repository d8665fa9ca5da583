"""`submit` and the commands for jobs, on a real Ray cluster with a token."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sweeps.study.loading import load_spec
from tests.cluster.ray.place import Head, ray_head
from tests.cluster.waiting import eventually
from tests.processes import line_of, started

from ..clusters import command
from ..small import assert_same_tables, prepare, run_all, write_study

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

Call = Callable[..., subprocess.CompletedProcess[str]]
PROFILE = '{name}: {{kind: ray, address: "{head.dashboard}", root: {root}, token_file: {token}, command: [{python}]}}\n'


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("head")) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without a token or profiles."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    (tmp_path / "home").mkdir()
    return plain | {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def call(tmp_path: Path, environment: dict[str, str]) -> Call:
    """Run a `pinnsweep` command in the folder of clusters.yaml."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words), capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path, env=environment
        )

    return run


def write_profile(folder: Path, head: Head, *, token: object) -> Path:
    """Write a profile `lab` for a cluster and return the root of its studies."""
    python = ", ".join(json.dumps(word) for word in command())
    text = PROFILE.format(name="lab", head=head, root=folder / "root", token=token, python=python)
    (folder / "clusters.yaml").write_text(text)
    return folder / "root"


def refused(process: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a command that ended with a user error: one line, exit code 2."""
    assert process.returncode == 2, process.stdout + process.stderr
    assert "Traceback" not in process.stderr and len(process.stderr.splitlines()) == 1, process.stderr
    return process.stderr


@pytest.mark.slow
def test_a_study_on_a_cluster_is_followed_left_found_again_stopped_and_gone_on_with(
    head: Head, call: Call, environment: dict[str, str], tmp_path: Path
) -> None:
    file = write_study(
        tmp_path / "data", epochs=3000, iterations=100, thin=2, trials=200
    )  # far more than the test waits for
    root = write_profile(tmp_path, head, token=head.token_file)
    assert call("doctor", "lab").returncode == 0
    submitted = json.loads(call("submit", file, "--to", "lab", "--json").stdout)
    job = submitted["job"]
    assert job.startswith("lab/small-") and submitted["root"] == str(root)

    where: dict[str, Any] = {"cwd": tmp_path, "env": environment}
    following = command("logs", job, "-f")
    with started(following, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **where) as client:
        assert any("starting study small" in line for line in iter(partial(line_of, client), ""))

    eventually(lambda: list((root / "small" / "checkpoints").rglob("*.json")))
    listed = {record["job"]: record["state"] for record in json.loads(call("jobs", "--json").stdout)}
    assert listed[job] == "running"
    stopped = call("cancel", job)
    assert stopped.returncode == 0 and "cancelled" in stopped.stdout, stopped.stdout + stopped.stderr
    log = call("logs", job).stdout
    assert "Stopping: finishing and saving the current step" in log and "Interrupted" in log
    assert "RUNNING" not in call("status", "small", "--root", root).stdout

    again = call("submit", file, "--to", "lab", "--trials", 4, "--follow")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resuming study small" in again.stdout
    alone, _ = prepare(tmp_path / "alone", load_spec(file, ["search.trials=4"]))
    run_all(alone, segment_s=5.0)
    first = partial(pa.Table.filter, mask=pc.field("trial") < 4)  # other trials may have finished before the stop
    assert_same_tables(alone, root / "small", places_differ=True, of=first)


def test_without_a_token_it_is_refused_and_told_how_to_give_it(head: Head, call: Call, tmp_path: Path) -> None:
    file = write_study(tmp_path / "data")
    profile = write_profile(tmp_path, head, token="null")
    message = refused(call("submit", file, "--to", "lab"))
    assert "requires its token: give it in RAY_AUTH_TOKEN" in message
    assert not profile.exists()


def test_an_old_token_is_refused(head: Head, call: Call, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("0123456789abcdef0123456789abcdef")
    write_profile(tmp_path, head, token=tmp_path / "old")
    assert "refuses this token: it is old" in refused(call("jobs", "lab"))
    listed = call("jobs")  # other places are still listed
    assert listed.returncode == 0 and "refuses this token" in listed.stderr


def test_a_token_file_that_is_not_there(head: Head, call: Call, tmp_path: Path) -> None:
    write_profile(tmp_path, head, token=tmp_path / "gone")
    assert f"token_file: {tmp_path / 'gone'} cannot be read" in refused(call("jobs", "lab"))


def test_a_cluster_that_is_not_there(call: Call, tmp_path: Path) -> None:
    write_profile(tmp_path, Head("http://127.0.0.1:1", "", Path("token")), token="null")
    assert "no Ray dashboard answers at http://127.0.0.1:1" in refused(call("jobs", "lab"))
    doctor = call("doctor", "lab")
    assert doctor.returncode == 2 and "NO  http://127.0.0.1:1 can be reached" in doctor.stdout
    assert "no Ray dashboard answers" in doctor.stderr


def test_what_would_be_sent_is_shown_without_a_cluster(call: Call, tmp_path: Path) -> None:
    file = write_study(tmp_path / "data")
    root = write_profile(tmp_path, Head("http://127.0.0.1:1", "", Path("token")), token="null")
    shown = call("submit", file, "--to", "lab", "--dry-run")
    assert shown.returncode == 0
    assert f"run study.yaml --root {root} --inputs . --plain --address auto" in shown.stdout
    assert "RAY_JOB_STOP_WAIT_TIME_S" in shown.stdout and "study.yaml" in shown.stdout
    assert shown.stdout.count(".csv") == 3
