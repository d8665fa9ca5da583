"""Promises about what imports what, and about which names are public."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cluster
from tests.cluster.waiting import WAIT_S

SERVICE = {"ray", "optuna", "pyarrow", "duckdb", "pydantic"}
PUBLIC = {
    "BACKENDS", "INLINE", "LOCAL",
    "Check", "ClusterError", "Executor", "InlineExecutor", "Job", "JobError", "JobHandle", "JobNotFound", "JobState",
    "KubernetesProfile", "LocalExecutor", "LocalProfile", "LogsNotKept", "Profile", "RayProfile", "Resources",
    "SlurmProfile", "VmsProfile", "executor_of",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after a statement."""
    show = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}}, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=WAIT_S, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import pinncore", SERVICE | {"typer", "rich", "matplotlib", "sweeps", "cluster"}),
        ("import cluster", SERVICE | {"torch", "numpy", "sweeps", "pinncore"}),
        ("from pinncore import TrainSettings, load_data", {"torch", "numba", "scipy"}),
        ("from sweeps import open, run", {"torch", "numba", "scipy", "ray", "matplotlib"}),
        ("import sweeps.runner.driver, sweeps.runner.tune", {"torch", "numba", "duckdb", "matplotlib"}),
        ("import sweeps.cli.app", {"torch", "ray", "optuna", "matplotlib", "pyarrow", "duckdb"}),
    ],
)
def test_import_stays_light(statement: str, unwanted: set[str]) -> None:
    assert modules_after(statement) & unwanted == set()


def test_public_names_of_the_cluster() -> None:
    assert set(cluster.__all__) == PUBLIC
    assert cluster.__doc__ and [name for name in PUBLIC if not getattr(cluster, name).__doc__] == []
