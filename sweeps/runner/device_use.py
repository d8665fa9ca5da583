"""What a worker takes of its machine, as it measures it itself: cores that compute, memory and load of its GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import torch

AT_LEAST_S: Final = 0.5  # between two measurements: shorter ones say nothing


class DeviceUse:
    """Measures from one look to the next; a look sooner than half a second repeats the last one."""

    def __init__(
        self,
        device: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._device, self._clock, self._cpu_s = device, clock, cpu_s
        self._at, self._used_s = clock(), cpu_s()
        self._found: dict[str, float] = {}

    def look(self) -> dict[str, float]:
        """`cores_busy` of this process; of a GPU also `gpu_bytes` that it holds and, where that is told, `gpu_busy`.

        `gpu_busy` is the share of the last moments in which the GPU computed, whoever for. Empty until half a second
        has passed.
        """
        now, used_s = self._clock(), self._cpu_s()
        if now - self._at >= AT_LEAST_S:
            self._found = {"cores_busy": (used_s - self._used_s) / (now - self._at)}
            self._at, self._used_s = now, used_s
            if self._device.startswith("cuda"):
                self._found |= _gpu(self._device)
        return self._found


def _gpu(device: str) -> dict[str, float]:
    found = {"gpu_bytes": float(torch.cuda.memory_reserved(device))}
    with contextlib.suppress(
        Exception
    ):  # without nvidia-ml-py, or where the driver tells nothing: no training ends here
        found["gpu_busy"] = torch.cuda.utilization(device) / 100
    return found
