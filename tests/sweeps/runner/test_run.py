"""The real command on a real Ray: killed, run again, stopped, joined to a cluster, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from sweeps.study.loading import load_spec

from ..clusters import Node, below, command, kill, wait_for
from ..small import assert_same_tables, prepare, table, train_all, write_study

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]
SLOW_ENOUGH = {
    "epochs": 6000,
    "iterations": 200,
    "thin": 1,
    "trials": 6,
}  # some seconds a pack, so that kills land inside


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=240, check=False)


def states(study_dir: Path) -> list[str]:
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{study_dir}/study.db")
    return [trial.state.name for trial in study.trials]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The study file, and the study trained without interruption and without Ray."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    file = write_study(folder / "data", **SLOW_ENOUGH)  # type: ignore[arg-type]
    study_dir, _ = prepare(folder / "root", load_spec(file))
    train_all(study_dir, segment_s=5.0).close()
    return file, study_dir


def end(driver: subprocess.Popen[str], what: str) -> None:
    """End a run by SIGTERM to it or to its group, or by killing the head of its Ray cluster."""
    if what == "driver":
        driver.terminate()
    elif what == "group":  # as `timeout` does
        driver.terminate()
        os.killpg(driver.pid, signal.SIGTERM)
    else:
        kill(next(pid for pid in below(driver.pid) if "gcs_server" in Path(f"/proc/{pid}/cmdline").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["driver", "group", "head"])
def test_a_run_ended_from_outside_saves_and_says_how_to_go_on(
    uninterrupted: tuple[Path, Path], tmp_path: Path, what: str
) -> None:
    file, expected = uninterrupted
    study_dir = tmp_path / "small"
    driver = subprocess.Popen(
        command("run", file, "--root", tmp_path, "--plain"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: list((study_dir / "checkpoints").rglob("*.json")), driver)
    held = run("run", file, "--root", tmp_path, "--plain")
    assert held.returncode == 2 and f"process {driver.pid}" in held.stderr, held.stdout + held.stderr
    begun = time.monotonic()
    end(driver, what)
    output, _ = driver.communicate(timeout=60)
    print(f"{what}: {time.monotonic() - begun:.1f} s")
    assert driver.returncode == 130, output
    assert "run" in output and str(study_dir) in output
    assert "Traceback" not in output
    assert "RUNNING" not in states(study_dir)

    again = run("run", study_dir, "--plain")
    assert again.returncode == 0, again.stdout + again.stderr
    assert_same_tables(expected, study_dir)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Node]:
    """A cluster that exists before the run, with token authentication as Ray has it; no other Ray is touched."""
    node = Node(tmp_path, "head", cpus=2)
    try:
        yield node
    finally:
        node.kill()


@pytest.mark.slow
def test_a_run_joins_an_existing_cluster(tmp_path: Path, head: Node) -> None:
    file = write_study(tmp_path / "data", trials=4)
    joined = run("run", file, "--root", tmp_path, "--address", head.address, "--json")
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert table(tmp_path / "small", "trials")["trial"].to_pylist() == list(range(4))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1"])
def test_an_address_without_a_cluster_is_one_sentence(tmp_path: Path, address: str) -> None:
    file = write_study(tmp_path / "data", trials=4)
    refused = run("run", file, "--root", tmp_path, "--address", address)
    assert refused.returncode == 2
    assert address in refused.stderr and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert not list((tmp_path / "small").glob("study.db"))


@pytest.mark.slow
def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    file = write_study(tmp_path / "data", trials=4)
    refused = run("run", file, "--root", tmp_path, "--set", "resources.device=cuda")
    assert refused.returncode == 2
    assert "no node of the cluster has a GPU" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_mistake_found_by_the_owner_is_one_sentence(tmp_path: Path) -> None:
    file = write_study(tmp_path / "data", trials=4)
    study_dir, _ = prepare(tmp_path, load_spec(file))
    (study_dir / "study.db").write_bytes(b"garbage " * 1000)
    refused = run("run", file, "--root", tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert "study.db" in refused.stderr and "Traceback" not in refused.stdout + refused.stderr


def test_a_copy_of_a_study_does_not_run_as_the_original(tmp_path: Path) -> None:
    study_dir, _ = prepare(tmp_path, load_spec(write_study(tmp_path / "data", trials=4)))
    study_dir.rename(tmp_path / "backup")
    refused = run("run", tmp_path / "backup")
    assert refused.returncode == 2 and "holds the study small" in refused.stderr
    assert not study_dir.exists()
