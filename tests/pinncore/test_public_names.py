"""What `pinncore` promises: its names, errors of one family, an import that brings none of the sweep libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pinncore
from tests.cluster.waiting import WAIT_S
from tests.sweeps import toy_problem

PUBLIC = {
    "CheckpointError",
    "DataError",
    "FieldData",
    "Member",
    "MemberResult",
    "MemberState",
    "Metric",
    "NonlocalStrain",
    "PROBLEMS",
    "Problem",
    "ProblemError",
    "problem_class",
    "Condition",
    "normal_derivative",
    "TorchCall",
    "At",
    "Ball",
    "Box",
    "Disk",
    "Table",
    "Pack",
    "PinnError",
    "SettingError",
    "StopReason",
    "TrainedNetwork",
    "TrainSettings",
    "WeightsError",
    "load_data",
    "pack_key",
    "read_checkpoint",
    "save_data",
    "train",
    "write_checkpoint",
    "write_network",
}
FORBIDDEN = ("ray", "optuna", "pyarrow", "duckdb", "pydantic", "typer", "rich", "matplotlib", "sweeps", "cluster")


def test_public_names() -> None:
    assert set(pinncore.__all__) == PUBLIC
    assert all(getattr(pinncore, name).__doc__ for name in PUBLIC - {"PROBLEMS"})


def test_errors_are_one_family() -> None:
    for error in (pinncore.CheckpointError, pinncore.DataError, pinncore.SettingError, pinncore.WeightsError):
        assert issubclass(error, pinncore.PinnError)


def test_importing_brings_none_of_the_sweep_libraries() -> None:
    """In a process of its own, so that other tests' imports do not hide one."""
    code = f"import sys, pinncore; print(*[name for name in {FORBIDDEN!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.split() == []


def test_a_module_beside_the_others_is_all_that_a_problem_needs(tmp_path: Path) -> None:
    shutil.copytree(Path(pinncore.__file__).parent, tmp_path / "pinncore", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(toy_problem.__file__), tmp_path / "pinncore" / "problems" / "a_wind.py")
    command = [sys.executable, "-c", "import pinncore; print(pinncore.__file__, *pinncore.PROBLEMS)"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    file, *names = answer.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert names == list(dict.fromkeys(["nonlocal_strain", "a_wind", *pinncore.PROBLEMS]))  # the first is the default
