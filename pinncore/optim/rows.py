"""Sums over the rows of [rows, size] tensors, each row in an order that depends on its own numbers only.

On a CPU, four float64 vectors take the elements in turn, zeros fill the last turn of a row, and the four are added as a
tree. So neither other rows, nor threads, nor zeros appended to a row change a bit. float32 is widened first: products
are then exact, and slopes and curvatures near a minimum, sums that cancel, keep their sign. On other devices (CUDA)
torch chooses the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..kernels.cache import kept
from ..kernels.simd import VECTOR_BYTES, absolute, fill, fma, load_double, total

LANES = VECTOR_BYTES // 8
TURN = 4 * LANES  # elements of one turn of the four vectors


_inline = njit(forceinline=True, error_model="numpy")


@_inline
def _no_sums() -> Any:
    zero = fill(np.empty(0), 0.0)
    return zero, zero, zero, zero


@_inline
def _add_products(sums: Any, a: Any, p: int, b: Any, q: int) -> Any:
    """Add one turn of products a[p + i] b[q + i]."""
    return (
        fma(load_double(a, p), load_double(b, q), sums[0]),
        fma(load_double(a, p + LANES), load_double(b, q + LANES), sums[1]),
        fma(load_double(a, p + 2 * LANES), load_double(b, q + 2 * LANES), sums[2]),
        fma(load_double(a, p + 3 * LANES), load_double(b, q + 3 * LANES), sums[3]),
    )


@_inline
def _add_absolutes(sums: Any, a: Any, p: int) -> Any:
    """Add one turn of |a[p + i]|."""
    return (
        sums[0] + absolute(load_double(a, p)),
        sums[1] + absolute(load_double(a, p + LANES)),
        sums[2] + absolute(load_double(a, p + 2 * LANES)),
        sums[3] + absolute(load_double(a, p + 3 * LANES)),
    )


@_inline
def tree(sums: Any) -> Any:
    """Return the sum of all elements of four vectors."""
    return total((sums[0] + sums[1]) + (sums[2] + sums[3]))


@_inline
def _last_turn(a: Any, start: int, size: int) -> Any:
    """Return the rest of `a` from `start` on, filled up with zeros."""
    rest = np.zeros(TURN)
    for i in range(size - start):
        rest[i] = a[start + i]
    return rest


@kept(error_model="numpy")
def dot(a: Any, b: Any, size: int) -> float:
    """Return the sum of a[i] b[i] over i < size; a and b are 1-D."""
    sums = _no_sums()
    whole = size // TURN * TURN
    for i in range(0, whole, TURN):
        sums = _add_products(sums, a, i, b, i)
    if whole < size:
        sums = _add_products(sums, _last_turn(a, whole, size), 0, _last_turn(b, whole, size), 0)
    return tree(sums)


@kept(error_model="numpy")
def _absolute_sum(a: Any, size: int) -> float:
    sums = _no_sums()
    whole = size // TURN * TURN
    for i in range(0, whole, TURN):
        sums = _add_absolutes(sums, a, i)
    if whole < size:
        sums = _add_absolutes(sums, _last_turn(a, whole, size), 0)
    return tree(sums)


@kept(error_model="numpy")
def _dots(a: Any, b: Any) -> Any:
    sums = np.empty(a.shape[0])
    for row in range(a.shape[0]):
        sums[row] = dot(a[row], b[row], a.shape[1])
    return sums


@kept(error_model="numpy")
def _absolute_sums(a: Any) -> Any:
    sums = np.empty(a.shape[0])
    for row in range(a.shape[0]):
        sums[row] = _absolute_sum(a[row], a.shape[1])
    return sums


def dots(a: Tensor, b: Tensor) -> list[float]:
    """Return the inner product of each row of `a` with that of `b`, both [rows, size]."""
    if a.device.type != "cpu":
        return (a * b).sum(dim=1).tolist()
    return _compiled(_dots, a, b)


def absolute_sums(a: Tensor) -> list[float]:
    """Return the 1-norm of each row of [rows, size]."""
    if a.device.type != "cpu":
        return a.abs().sum(dim=1).tolist()
    return _compiled(_absolute_sums, a)


def norms(a: Tensor) -> list[float]:
    """Return the 2-norm of each row of [rows, size]."""
    if a.device.type != "cpu":
        return torch.linalg.vector_norm(a, dim=1).tolist()
    return [math.sqrt(square) for square in dots(a, a)]


def _compiled(sums: Callable[..., Any], *tensors: Tensor) -> list[float]:
    return sums(*(tensor.contiguous().numpy() for tensor in tensors)).tolist()
