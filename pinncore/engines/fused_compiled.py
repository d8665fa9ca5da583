"""The kernels of engine `fused`, compiled once on a machine for each kind of channels, activation and precision."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import typeof, types

from ..equations.channels import Channels
from ..kernels.cache import kernel_folder
from ..kernels.channels import VECTORS, ChannelType
from . import fused_kernels as kernels

LOGGER = logging.getLogger("pinncore")

Kind = tuple[int, tuple[tuple[tuple[int, int, bool], ...], ...]]  # of `Channels`


@functools.cache
def compiled_pass(kind: Kind, activation: str, dtype: str) -> Callable[..., None]:
    """Return `fused_kernels.evaluate` for a kind of channels, without `ch` and `kind` among its arguments.

    Compiling takes about ten seconds, which the log says.
    """
    flat, table, indices, index_table, whole = _arrays(dtype)
    signature = (
        *(ChannelType(*kind), typeof(kernels.KINDS[activation]), whole),
        *(table, indices, indices),  # parameters, members, places
        *(index_table, indices, table),  # layers, slots, seeds
        *(table, indices, table, table, table),  # inputs, columns, data, coefficients, weights
        *(whole, index_table, flat),  # points, stretches, work
        *(whole, whole, whole),  # task, shares, offset
        *(types.Array(types.float64, 3, "C"), types.Array(flat.dtype, 3, "C"), table),  # squares, gradients, out
    )
    return _compiled(kernels.evaluate, signature, activation, dtype, mark_of(kind, activation, dtype))


@functools.cache
def compiled_coupled(activation: str, dtype: str) -> Callable[..., None]:
    """Return `fused_kernels.evaluate_coupled` for values alone, without `ch` and `kind` among its arguments."""
    flat, table, indices, index_table, whole = _arrays(dtype)
    signature = (
        *(ChannelType(*Channels().kind), typeof(kernels.KINDS[activation])),
        *(table, indices, index_table, indices, table),  # parameters, members, layers, slots, seeds
        *(table, table, index_table, index_table, table),  # inputs, solution, starts, columns, entries
        *(flat, whole, whole),  # work, task, shares
        *(types.Array(types.float64, 3, "C"), types.Array(flat.dtype, 3, "C")),  # squares, gradients
    )
    return _compiled(kernels.evaluate_coupled, signature, activation, dtype, mark_of("coupled", activation, dtype))


def _arrays(dtype: str) -> tuple[Any, Any, Any, Any, Any]:
    """Return types of numbers [n] and [m, n], of whole numbers likewise, and of one whole number."""
    number, whole = types.float32 if dtype == "float32" else types.float64, types.int64
    flat, table = (types.Array(number, dimensions, "C") for dimensions in (1, 2))
    indices, index_table = (types.Array(whole, dimensions, "C") for dimensions in (1, 2))
    return flat, table, indices, index_table, whole


def _compiled(dispatcher: Any, signature: tuple[Any, ...], activation: str, dtype: str, mark: Path) -> Any:
    """Compile a kernel, once on a machine, and return it with its first two arguments given."""
    started = time.perf_counter()
    if not mark.exists():
        LOGGER.warning("Compiling a kernel of engine fused for this machine, once; this takes some seconds.")
    misses = dispatcher.stats.cache_misses.total()
    entry = dispatcher.compile(signature)
    if dispatcher.stats.cache_misses.total() > misses:
        seconds = time.perf_counter() - started
        LOGGER.warning("Compiled it for %s and %s in %.1f s; kept in %s.", dtype, activation, seconds, kernel_folder())
    with contextlib.suppress(OSError):
        mark.touch()
    return functools.partial(entry, None, kernels.KINDS[activation])


def mark_of(*key: object) -> Path:
    """Return the path of the empty file, beside the kernels, that marks those of a key as compiled.

    Looking for it is faster than loading them.
    """
    return kernel_folder() / f"compiled-{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}"


@functools.cache
def compiled_sums(dtype: str) -> Callable[..., None]:
    """Return `fused_kernels.reduce` for a precision."""
    number, double, whole = types.float32 if dtype == "float32" else types.float64, types.float64, types.int64
    table, weights = types.Array(number, 2, "C"), types.Array(double, 2, "C")
    arguments = (types.Array(double, 3, "C"), types.Array(number, 3, "C"), types.Array(whole, 2, "C"))
    return kernels.reduce.compile((*arguments, weights, weights, types.Array(number, 1, "C"), table, table))


@functools.cache
def workspace_size(channels: int, layers: tuple[int, ...], lanes: int, chunks: int = 1) -> int:
    """Return the numbers in the workspace of a network with `channels` channels, for vectors of `lanes` lanes.

    With several `chunks`, the activations of all of them are kept.
    """
    place, length = kernels.arrange.py_func(channels, layers, VECTORS * lanes, lanes)
    return int(length + (chunks - 1) * place[0, 3])
