"""GPUs that this process may use, as PyTorch counts them: their model, memory and driver, and what runs on them.

CUDA_VISIBLE_DEVICES decides which they are, instances of MIG among them; it is neither set nor interpreted here.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from .nvidia import why_not

_DRIVER_FILE: Final = Path("/proc/driver/nvidia/version")
_VERSION: Final = re.compile(r"(?<![\w.])\d+\.\d+(?:\.\d+)?(?![\w.])")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of one: its index among those visible, model, compute capability, memory in bytes, driver.

    `driver` is empty where the system does not say its version.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver: str

    @property
    def capability_text(self) -> str:
        """Return the compute capability as NVIDIA writes it, such as 9.0."""
        return ".".join(map(str, self.capability))


def gpus() -> list[Gpu]:
    """Return the visible GPUs in the order of their indices, none where PyTorch can use none."""
    return [_gpu(index) for index in range(torch.cuda.device_count())]


def gpu_of(device: str) -> Gpu | None:
    """Return the GPU of a device such as cuda or cuda:1; None for a CPU, and where there is no such GPU."""
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return None
    index = chosen.index or 0  # no other device is ever made the current one
    return _gpu(index) if index < torch.cuda.device_count() else None


def free_bytes(gpu: Gpu) -> int:
    """Return the memory of a GPU that no process uses now."""
    return torch.cuda.mem_get_info(gpu.index)[0]


def kernel_obstacle(gpu: Gpu) -> str | None:
    """Return why the kernel of engine fused cannot run on a GPU; None where it can."""
    return why_not(torch.device("cuda", gpu.index))


def why_no_gpu() -> str:
    """Return in a few words why PyTorch can use no GPU here."""
    if torch.version.cuda is None:
        found = f"driver {driver_version()} is here, but " if driver_version() else ""
        return f"{found}torch {torch.__version__} is built without CUDA"
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
        return "CUDA_VISIBLE_DEVICES is empty"
    return "torch finds none" if driver_version() else "no NVIDIA driver was found"


@functools.cache
def driver_version() -> str:
    """Return the version of the NVIDIA driver, empty where there is none or it is not said."""
    try:
        text = _DRIVER_FILE.read_text(errors="replace")
    except OSError:
        text = _asked_driver()
    found = _VERSION.search(text)
    return found[0] if found else ""


def _asked_driver() -> str:
    """Return what nvidia-smi answers, which knows the driver of WSL too."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _gpu(index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    return Gpu(index, properties.name, capability, properties.total_memory, driver_version())
