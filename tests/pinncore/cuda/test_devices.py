"""GPUs as PyTorch counts them, with answers of PyTorch that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pinncore.cuda import devices
from pinncore.cuda.devices import Gpu, gpu_of, gpus, why_no_gpu

LARGE = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=150_000_000_000)
SLICE = SimpleNamespace(name="NVIDIA A100 MIG 1g.10gb", major=8, minor=0, total_memory=10_000_000_000)
OPEN_DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (dvs-builder)\n"


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Two GPUs, and the file in which the driver says its version, which tests may change."""
    file = tmp_path / "version"
    file.write_text(OPEN_DRIVER)
    monkeypatch.setattr(devices, "_DRIVER_FILE", file)
    monkeypatch.setattr(devices, "_asked_driver", lambda: "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", [LARGE, SLICE].__getitem__)
    devices.driver_version.cache_clear()
    yield file
    devices.driver_version.cache_clear()


def test_each_visible_gpu_has_its_facts() -> None:
    assert gpus() == [
        Gpu(0, "NVIDIA H200", (9, 0), 150_000_000_000, "570.124.06"),
        Gpu(1, "NVIDIA A100 MIG 1g.10gb", (8, 0), 10_000_000_000, "570.124.06"),
    ]
    assert gpus()[0].capability_text == "9.0"


def test_the_gpu_of_a_device() -> None:
    first, second = gpus()
    assert (gpu_of("cuda"), gpu_of("cuda:1")) == (first, second)
    assert gpu_of("cpu") is None and gpu_of("cuda:2") is None


@pytest.mark.parametrize(
    ("said", "asked", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54  Tue Jun  6\nGCC version: gcc 11.4.0", "", "535.54"),
        (None, "566.36\n566.36\n", "566.36"),
        (None, "NVIDIA-SMI has failed", ""),
    ],
)
def test_the_version_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, two: Path, said: str | None, asked: str, version: str
) -> None:
    monkeypatch.setattr(devices, "_asked_driver", lambda: asked)
    two.unlink() if said is None else two.write_text(said)
    assert devices.driver_version() == version


@pytest.mark.parametrize(
    ("cuda", "visible", "said", "reason"),
    [
        (None, None, OPEN_DRIVER, "driver 570.124.06 is here, but torch VERSION is built without CUDA"),
        (None, None, "", "torch VERSION is built without CUDA"),
        ("12.8", "", OPEN_DRIVER, "CUDA_VISIBLE_DEVICES is empty"),
        ("12.8", None, OPEN_DRIVER, "torch finds none"),
        ("12.8", None, "", "no NVIDIA driver was found"),
    ],
)
def test_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, two: Path, cuda: str | None, visible: str | None, said: str, reason: str
) -> None:
    version: Any = torch.version
    monkeypatch.setattr(version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    two.write_text(said)
    assert why_no_gpu() == reason.replace("VERSION", torch.__version__)
