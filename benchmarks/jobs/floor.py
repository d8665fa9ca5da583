"""The job of the floor: the time that a device needs for the multiply-adds of loss and gradient alone.

On a CPU a loop of nothing else does as many of them; on a GPU the time is computed from what the device says of itself.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from pinncore.cuda.devices import why_no_gpu
from pinncore.kernels.cache import kept
from pinncore.kernels.simd import fill, fma, lanes, store

from ..case import Case
from ..floor import STRAIN_CHANNELS, NoGpuError, gpu_rate, multiply_adds
from .job import Job

CHAINS = 12  # independent sums: two units of four cycles need eight, sixteen registers hold twelve and two factors


@kept()
def spin(work: Any, rounds: int) -> None:
    """Do `CHAINS` multiply-adds of whole vectors a round, and keep their results in `work`, so that they are needed."""
    n, a, b = lanes(work), fill(work, 0.999), fill(work, 0.001)
    s0, s1, s2, s3 = fill(work, 0.0), fill(work, 0.1), fill(work, 0.2), fill(work, 0.3)
    s4, s5, s6, s7 = fill(work, 0.4), fill(work, 0.5), fill(work, 0.6), fill(work, 0.7)
    s8, s9, s10, s11 = fill(work, 0.8), fill(work, 0.9), fill(work, 1.1), fill(work, 1.2)
    for _ in range(rounds):
        s0, s1, s2, s3 = fma(a, s0, b), fma(a, s1, b), fma(a, s2, b), fma(a, s3, b)
        s4, s5, s6, s7 = fma(a, s4, b), fma(a, s5, b), fma(a, s6, b), fma(a, s7, b)
        s8, s9, s10, s11 = fma(a, s8, b), fma(a, s9, b), fma(a, s10, b), fma(a, s11, b)
    for k, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11)):
        store(work, k * n, s)


class CpuFloor(Job):
    """The multiply-adds of an evaluation of one member, on one core."""

    def __init__(self, count: int, dtype: str) -> None:
        self._count, self._work = count, np.zeros(CHAINS * 64, dtype)
        self._width = vector_width(self._work)
        self.run(1)

    def facts(self) -> dict[str, Any]:
        return {"multiply_adds": self._count}

    def run(self, amount: int) -> dict[str, Any]:
        rounds = -(-amount * self._count // (CHAINS * self._width))
        started = time.perf_counter()
        spin(self._work, rounds)
        return {"seconds": time.perf_counter() - started}


class GpuFloor(Job):
    """The same on a GPU at its rate; its sample is computed."""

    def __init__(self, count: int) -> None:
        self._count = count
        name, self._rate = describe_gpu()
        self._facts = {"multiply_adds": count, "gpu": name, "operations_per_s": self._rate}

    def facts(self) -> dict[str, Any]:
        return self._facts

    def run(self, amount: int) -> dict[str, Any]:
        return {"seconds": amount * 2 * self._count / self._rate}


@kept()
def vector_width(work: Any) -> int:
    """Return how many numbers a vector of the array's kind has."""
    return lanes(work)


def describe_gpu() -> tuple[str, float]:
    """Return the name of the GPU and its float32 operations a second. Raises `NoGpuError`."""
    if not torch.cuda.is_available():
        raise NoGpuError(why_no_gpu())
    from cuda.bindings import driver  # noqa: PLC0415, an optional dependency

    found = torch.cuda.get_device_properties(0)
    torch.zeros(1, device="cuda")  # makes the context, without which the driver answers nothing
    status, kilohertz = driver.cuDeviceGetAttribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 0)
    if status.value:
        raise RuntimeError(f"CUDA reports {status.name} when asked for the clock rate")
    return found.name, gpu_rate(found.multi_processor_count, (found.major, found.minor), 1e3 * kilohertz)


def open_job(name: str, threads: int, *, case: str, dtype: str) -> Job:
    """Build the job of `cpu` or `cuda`, for the points and the shape of a case file."""
    numbers = Case.load(case)
    sets = (numbers.interior, numbers.lrb, numbers.btb)
    points = [len(each) for each in sets]
    count = multiply_adds([int(size) for size in numbers.layers], list(zip(points, STRAIN_CHANNELS, strict=True)))
    return GpuFloor(count) if name == "cuda" else CpuFloor(count, dtype)
