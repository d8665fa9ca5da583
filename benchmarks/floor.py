"""The floor of loss and gradient: the multiply-adds that a network's shape asks for, and a GPU's rate of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from .options import BenchError

STRAIN_CHANNELS: Final = (4, 2, 2)  # residual: value, two slopes, Laplacian; each boundary: value, one slope
CORES_PER_PROCESSOR: Final = {(8, 0): 64, (8, 6): 128, (8, 9): 128, (9, 0): 128, (10, 0): 128, (12, 0): 128}


class NoGpuError(Exception):
    """There is no GPU to measure on; the message says why."""


def multiply_adds(layers: Sequence[int], groups: Sequence[tuple[int, int]]) -> int:
    """Return the multiply-adds of loss and gradient of one network `layers`; `groups` are (points, channels).

    A layer n x m with c channels takes n m c a point for the forward pass, n m c for the reverse pass and n m c for its
    weight gradients. In the first layer only the value depends on the point, and nothing goes back to the inputs. With
    inputs i, first width w and M the sum of n m over all other layers this is points x (2 i w + 3 c M). Not counted are
    activations, residuals, sums without products (biases, first-layer gradients of slopes), widths filled up to fours.
    """
    inputs, width, *_ = layers
    rest = sum(before * after for before, after in itertools.pairwise(layers[1:]))
    return sum(points * (2 * inputs * width + 3 * channels * rest) for points, channels in groups)


def gpu_rate(processors: int, capability: tuple[int, int], clock_hz: float) -> float:
    """Return the float32 operations a second of a GPU: processors x cores x clock x 2, as a multiply-add counts twice.

    Raises `BenchError` for a compute capability whose cores are not known here.
    """
    if capability not in CORES_PER_PROCESSOR:
        version = ".".join(map(str, capability))
        raise BenchError(f"compute capability {version} has no entry in CORES_PER_PROCESSOR of benchmarks/floor.py")
    return processors * CORES_PER_PROCESSOR[capability] * clock_hz * 2
