"""Packs on the GPUs of a cluster, each on its own or sharing one, with GPUs that only Ray counts."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests import ROOT

from ...clusters import command
from ...small import table, write_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with two GPUs each."""
    environment = dict(os.environ)
    os.environ["RAY_AUTH_MODE"] = "disabled"  # the mode that Ray read when it was imported
    fake = Cluster()
    try:
        for _ in range(2):
            fake.add_node(num_cpus=4, num_gpus=2, include_dashboard=False)
        yield fake
    finally:
        fake.shutdown()
        os.environ.clear()
        os.environ.update(environment)
    assert not ray.is_initialized()


def run(cluster: Cluster, folder: Path, *words: str) -> list[dict[str, Any]]:
    """Train a study on the cluster; return what each pack was given."""
    (folder / "notes").mkdir()
    setup = {
        "worker_process_setup_hook": "tests.sweeps.runner.gpus.pretended_gpus.pretend",
        "env_vars": {"PRETENDED_GPUS": str(folder / "notes"), "PYTHONPATH": str(ROOT)},
    }
    file = write_study(folder / "data", trials=16, pack=1, epochs=400)
    done = subprocess.run(
        command("run", file, "--root", folder, "--address", cluster.address, "--plain", *words),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": setup})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert table(folder / "small", "trials").num_rows == 16
    return [json.loads(file.read_text()) for file in (folder / "notes").iterdir()]


def test_each_pack_has_a_gpu_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    packs = run(cluster, tmp_path)
    assert {pack["device"] for pack in packs} == {"cuda"}
    workers = defaultdict(set)
    for pack in packs:
        assert pack["gpus"] in ("0", "1"), "exactly one device"
        workers[pack["node"], pack["gpus"]].add(pack["pid"])
    assert len(workers) == 4, "every GPU of both nodes trains"
    assert all(len(pids) == 1 for pids in workers.values()), "and no two processes share one"


def test_packs_share_a_gpu_where_a_fraction_is_requested(cluster: Cluster, tmp_path: Path) -> None:
    packs = run(cluster, tmp_path, "--set", "resources.gpus_per_pack=0.5")
    assert {pack["gpus"] for pack in packs} <= {"0", "1"}
    workers = defaultdict(set)
    for pack in packs:
        workers[pack["node"], pack["gpus"]].add(pack["pid"])
    assert max(map(len, workers.values())) == 2
