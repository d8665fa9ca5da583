"""What doctor says of the GPUs of a machine, with GPUs that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinncore.cuda import devices
from pinncore.cuda.devices import Gpu
from sweeps.jobs.doctor import check_here

LARGE = Gpu(0, "NVIDIA H200", (9, 0), 150_754_820_096, "570.124.06")
OLD = Gpu(1, "Tesla T4", (7, 5), 15_828_320_256, "")


def said(folder: Path) -> list[str]:
    """Return the lines about devices; none of any line is a problem."""
    checks = list(check_here(str(folder)))
    assert [check.problem for check in checks] == [""] * len(checks)
    return [check.what for check in checks if check.what.startswith(("cuda:", "no GPU"))]


def test_each_gpu_has_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: [LARGE, OLD])
    monkeypatch.setattr(
        devices, "kernel_obstacle", lambda gpu: "compute capability 7.5 is below 8.0" if gpu is OLD else None
    )
    assert said(tmp_path) == [
        "cuda:0 NVIDIA H200, capability 9.0, 150.8 GB, driver 570.124.06; engine fused runs",
        "cuda:1 Tesla T4, capability 7.5, 15.8 GB, driver unknown; only engine torch runs: compute "
        "capability 7.5 is below 8.0",
    ]


def test_no_gpu_is_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "gpus", list)
    monkeypatch.setattr(devices, "why_no_gpu", lambda: "no NVIDIA driver was found")
    assert said(tmp_path) == ["no GPU: no NVIDIA driver was found; packs train on the CPU"]
