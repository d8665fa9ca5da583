"""Device use of a worker, as the worker measures it: busy cores, memory and load of its GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import torch

from ..machine import kind_of
from ..owner.messages import DeviceLoad

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
        self._load = DeviceLoad()

    def look(self) -> DeviceLoad:
        """Return the load since the last measurement; nothing is measured until half a second has passed."""
        now, used_s = self._clock(), self._cpu_s()
        if now - self._measured_at >= AT_LEAST_S:
            cores_busy, gpu_bytes, gpu_busy = (used_s - self._used_s) / (now - self._measured_at), None, None
            self._measured_at, self._used_s = now, used_s
            if kind_of(self._device) == "cuda":
                gpu_bytes = float(torch.cuda.memory_reserved(self._device))
                # Without nvidia-ml-py, or where the driver reports nothing, training goes on without this value.
                with contextlib.suppress(Exception):
                    gpu_busy = torch.cuda.utilization(self._device) / 100
            self._load = DeviceLoad(cores_busy, gpu_bytes, gpu_busy)
        return self._load
