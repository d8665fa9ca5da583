"""What `pinncore` promises: its names, errors of one family, an import that brings none of the sweep libraries."""

from __future__ import annotations

import subprocess
import sys

import pinncore
from tests.cluster.waiting import WAIT_S

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
    "read_csv_tables",
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
