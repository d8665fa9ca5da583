"""Clusters that grow: a study requests nodes, waits for them, trains on them, and releases them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import ROOT

from ..clusters import command, wait_for
from ..small import table, write_study
from .growing import GrowingCluster

pytestmark = [pytest.mark.xdist_group("ray growth"), pytest.mark.timeout(300)]
OPEN = {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def grown(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GrowingCluster]:
    """A cluster whose workers have the resources of the test's parameter."""
    cluster = GrowingCluster(tmp_path, request.param, environment={**os.environ, **OPEN})
    try:
        yield cluster
    finally:
        cluster.kill()


def start(
    cluster: GrowingCluster, folder: Path, *words: str, environment: Mapping[str, str] = OPEN, **study: int
) -> tuple[subprocess.Popen[str], Path]:
    """Start a run on the cluster; return its process and its log."""
    file = write_study(folder / "data", pack=1, **study)  # type: ignore[arg-type]
    log = folder / "run.log"
    with open(log, "w") as output:
        driver = subprocess.Popen(
            command("run", file, "--root", folder, "--address", cluster.address, "--plain", *words),
            stdout=output,
            stderr=output,
            text=True,
            env={**os.environ, **environment},
        )
    return driver, log


@pytest.mark.slow
@pytest.mark.parametrize("grown", [{"CPU": 1}], indirect=True)
def test_a_study_grows_from_no_worker_to_two_and_back(grown: GrowingCluster, tmp_path: Path) -> None:
    driver, log = start(grown, tmp_path, trials=10, epochs=6000, iterations=200, thin=1)
    try:
        wait_for(lambda: grown.workers == 2, driver)
        driver.wait(timeout=200)
        assert driver.returncode == 0, log.read_text()
        assert "to grow (0 of" in log.read_text(), log.read_text()
        assert table(tmp_path / "small", "trials")["trial"].to_pylist() == list(range(10))
        wait_for(lambda: grown.workers == 0, grown.process)
    finally:
        driver.kill()
        driver.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("grown", [{"CPU": 1, "GPU": 1}], indirect=True)
def test_gpus_that_only_workers_have_are_found(grown: GrowingCluster, tmp_path: Path, device: str) -> None:
    (tmp_path / "notes").mkdir()
    setup = {
        "worker_process_setup_hook": "tests.sweeps.runner.gpus.pretended_gpus.pretend",
        "env_vars": {"PRETENDED_GPUS": str(tmp_path / "notes"), "PYTHONPATH": str(ROOT)},
    }
    environment = {**OPEN, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": setup})}
    words = ("--set", f"resources.device={device}")
    driver, log = start(grown, tmp_path, *words, environment=environment, trials=12, epochs=3000, thin=1)
    try:
        wait_for(lambda: grown.workers == 2, driver)
        driver.wait(timeout=200)
        assert driver.returncode == 0, log.read_text()
        packs = [json.loads(file.read_text()) for file in (tmp_path / "notes").iterdir()]
        assert {pack["device"] for pack in packs} == {"cuda"} and len({pack["node"] for pack in packs}) == 2
        wait_for(lambda: grown.workers == 0, grown.process)
    finally:
        driver.kill()
        driver.wait(timeout=30)


@pytest.mark.parametrize("grown", [{"CPU": 1}], indirect=True)
def test_a_cluster_that_does_not_grow_ends_the_run_with_what_is_missing(grown: GrowingCluster, tmp_path: Path) -> None:
    words = ("--set", "resources.cpus_per_pack=2", "--set", "resources.wait_min=0.05")
    driver, log = start(grown, tmp_path, *words, trials=2)
    try:
        driver.wait(timeout=120)
        text = log.read_text()
        assert driver.returncode == 1, text
        assert "waiting for the cluster: no node has room for a pack, which needs 2 cores" in text
        assert "did not grow within 0.05 min (resources.wait_min)" in text and "Traceback" not in text
    finally:
        driver.kill()
        driver.wait(timeout=30)
