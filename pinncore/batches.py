"""Which points count in an epoch of the first stage: mini-batches, and points drawn anew.

Both follow from a member's seed and the epoch alone, so a resumed member needs no further state.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pick = NDArray[np.int64] | None  # indices of points; None: all
_STREAM = 0x6261746368  # of random numbers, beside those of the initial weights


def picks(counts: Sequence[int], batch: int, *, seed: int, epoch: int) -> tuple[Pick, ...]:
    """Return the points of an epoch for each group of `counts` points: `batch` of them, all where there are no more.

    A pass of ceil(points / batch) epochs goes through all points in an order drawn for it; its last epoch is filled up
    with the first of them.
    """
    return tuple(
        None if count <= batch else _pick(count, batch, seed, group, epoch) for group, count in enumerate(counts)
    )


def _pick(count: int, batch: int, seed: int, group: int, epoch: int) -> NDArray[np.int64]:
    number, position = divmod(epoch, -(-count // batch))
    order = _order(count, seed, number, group)
    return order.take(np.arange(position * batch, (position + 1) * batch), mode="wrap")


@functools.lru_cache(maxsize=256)
def _order(count: int, seed: int, number: int, group: int) -> NDArray[np.int64]:
    """Return the order [points] of the `number`th pass through the points of a group."""
    order = np.random.default_rng([seed, _STREAM, number, group]).permutation(count).astype(np.int64, copy=False)
    order.flags.writeable = False
    return order


def round_of(epoch: int, *, epochs: int, every: int | None) -> int:
    """Return how often points were drawn anew before an epoch, of `epochs`; afterwards they stay the last ones."""
    return 0 if every is None else max(min(epoch, epochs - 1), 0) // every
