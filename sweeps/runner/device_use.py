"""Device use of a worker, as the worker measures it: busy cores, memory and load of its GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import torch

AT_LEAST_S: Final = 0.5  # between two measurements; shorter intervals give no useful average


class DeviceUse:
    """Meter of the use between two calls of `look`; a call within half a second repeats the last measurement."""

    def __init__(
        self,
        device: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._device, self._clock, self._cpu_s = device, clock, cpu_s
        self._measured_at, self._used_s = clock(), cpu_s()
        self._measured: dict[str, float] = {}

    def look(self) -> dict[str, float]:
        """Return `cores_busy` of this process and, on a GPU, `gpu_bytes` and `gpu_busy`.

        `gpu_bytes` is the memory that this process holds there. `gpu_busy` is the share of the last moments in which
        the GPU computed, for any process; it is missing where the driver does not report it. The result is empty until
        half a second has passed.
        """
        now, used_s = self._clock(), self._cpu_s()
        if now - self._measured_at >= AT_LEAST_S:
            self._measured = {"cores_busy": (used_s - self._used_s) / (now - self._measured_at)}
            self._measured_at, self._used_s = now, used_s
            if self._device.startswith("cuda"):
                self._measured |= _measure_gpu(self._device)
        return self._measured


def _measure_gpu(device: str) -> dict[str, float]:
    use = {"gpu_bytes": float(torch.cuda.memory_reserved(device))}
    # Without nvidia-ml-py, or where the driver reports nothing, training goes on without this value.
    with contextlib.suppress(Exception):
        use["gpu_busy"] = torch.cuda.utilization(device) / 100
    return use
