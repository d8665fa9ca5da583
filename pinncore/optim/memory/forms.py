"""The forms of a member's memory, and the choice of one by cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ...errors import SettingError

Method = Literal["lbfgs", "bfgs", "ssbfgs", "ssbroyden"]
Form = Literal["two_loop", "compact", "dense"]
Curvature = Literal["torch", "relative"]

DENSE_LIMIT = 256e6  # bytes of two full matrices
SMALLEST_CURVATURE = 1e-10  # of torch.optim.LBFGS

# Bytes per second from cache and from memory, on two cores of an AMD Zen 4 (AVX-512, 32 MB last cache). The two loops
# read every pair twice; the dense form reads and writes two triangles, with more arithmetic per byte.
_LAST_CACHE = 24e6
_TWO_LOOP_SPEED = (60e9, 21e9)
_DENSE_SPEED = (51e9, 25e9)
# An accelerator waits for launches: seconds per launch, bytes per second, and launches per direction.
_LAUNCH_S, _DEVICE_SPEED = 5e-6, 1e12
_TWO_LOOP_LAUNCHES, _COMPACT_LAUNCHES, _DENSE_LAUNCHES = 8, 30, 25  # the first is per pair


@dataclass(frozen=True)
class MemorySpec:
    """The method, form, history and curvature test of one member's memory."""

    method: Method
    form: Form
    history: int
    curvature: Curvature

    def thresholds(self, dtype: torch.dtype) -> tuple[float, float]:
        """Return two thresholds; a pair is kept if y's is above the first, and above the second times y'y.

        `relative`: y's > eps y'y, Byrd, Lu, Nocedal and Zhu (1995), section 3.
        """
        return (SMALLEST_CURVATURE, 0.0) if self.curvature == "torch" else (0.0, torch.finfo(dtype).eps)


def memory_form(history: int, iterations: int, size: int, dtype: torch.dtype, device: str) -> Form:
    """Return the cheapest exact form of L-BFGS over a whole run, from a member's own settings only.

    `size` is the member's own number of parameters, `device` a device type. So members keep their form in any pack and
    across restarts.
    """
    pairs = min(history, max(iterations, 1))
    average = history * (1 - history / (2 * iterations)) if history < iterations else iterations / 2
    pair = 2 * size * dtype.itemsize  # bytes of s and y
    square = size * size * dtype.itemsize
    costs: dict[Form, float]
    if device == "cpu":
        costs = {
            "two_loop": 2 * average * pair / _TWO_LOOP_SPEED[pairs * pair > _LAST_CACHE],
            "dense": 2 * square / _DENSE_SPEED[square > _LAST_CACHE],
        }
    else:
        products = average * average * dtype.itemsize
        costs = {
            "two_loop": _LAUNCH_S * _TWO_LOOP_LAUNCHES * average + 2 * average * pair / _DEVICE_SPEED,
            "compact": _LAUNCH_S * _COMPACT_LAUNCHES + (2 * average * pair + 4 * products) / _DEVICE_SPEED,
            "dense": _LAUNCH_S * _DENSE_LAUNCHES + 6 * square / _DEVICE_SPEED,
        }
    if history < iterations or 2 * square > DENSE_LIMIT:
        del costs["dense"]
    return min(costs, key=lambda form: costs[form])


def checked_form(
    memory: str, history: int, iterations: int, size: int, dtype: torch.dtype, device: str, method: Method = "lbfgs"
) -> Form:
    """Return the form that `lbfgs_memory` names; `auto` leaves the choice to `memory_form`.

    Raises `SettingError` for a dense L-BFGS that would have to drop pairs, which it cannot.
    """
    if method != "lbfgs":
        return "dense"  # one inverse Hessian
    match memory:
        case "auto":
            return memory_form(history, iterations, size, dtype, device)
        case "dense" if history < iterations:
            raise SettingError(
                "lbfgs_memory",
                memory,
                f"needs lbfgs_history ({history}) of at least iterations ({iterations})",
                "Raise lbfgs_history, or use two_loop.",
            )
        case "two_loop" | "compact" | "dense":
            return memory
    raise SettingError("lbfgs_memory", memory, "must be one of auto, two_loop, compact, dense")


def memory_bytes(form: Form, pairs: int, size: int, dtype: torch.dtype, method: Method = "lbfgs") -> int:
    """Return the most bytes that `pairs` pairs of a member with `size` parameters take in memory or a checkpoint."""
    if form == "dense":
        return (2 if method == "lbfgs" else 1) * size * size * dtype.itemsize
    products = pairs * pairs if form == "compact" else 0
    return (2 * pairs * size + products) * dtype.itemsize
