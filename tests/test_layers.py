"""Promises about what imports what, and about which names are public."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import cluster
import sweeps

SERVICE = {"ray", "optuna", "pyarrow", "duckdb", "pydantic"}
PUBLIC = {
    cluster: {
        "Check", "ClusterError", "Executor", "InlineExecutor", "Job", "JobError", "JobHandle", "JobNotFound",
        "JobState", "KubernetesProfile", "LocalExecutor", "LocalProfile", "LogsNotKept", "Profile", "RayProfile",
        "Resources", "SlurmProfile", "VmsProfile",
    },
    sweeps: set(),
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after a statement."""
    show = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}}, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import pinncore", SERVICE | {"typer", "rich", "matplotlib", "sweeps", "cluster"}),
        ("import cluster", SERVICE | {"torch", "numpy", "sweeps", "pinncore"}),
        ("import sweeps.cli", {"torch", "ray", "optuna", "matplotlib", "pyarrow", "duckdb"}),
    ],
)
def test_import_stays_light(statement: str, unwanted: set[str]) -> None:
    assert modules_after(statement) & unwanted == set()


@pytest.mark.parametrize("package", PUBLIC, ids=lambda package: package.__name__)
def test_public_names(package: ModuleType) -> None:
    names = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert names == PUBLIC[package]


@pytest.mark.parametrize("package", PUBLIC, ids=lambda package: package.__name__)
def test_public_names_are_documented(package: ModuleType) -> None:
    assert package.__doc__
    assert [name for name in PUBLIC[package] if not getattr(package, name).__doc__] == []
