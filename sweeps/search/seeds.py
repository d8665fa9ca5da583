"""Pseudo-random numbers that depend only on their arguments."""

from __future__ import annotations

import hashlib
from typing import Final

_FEISTEL_ROUNDS: Final = 4


def stable_hash(*numbers: int) -> int:
    """Return a number of 64 bits that depends only on `numbers`, the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big")


def shuffled(index: int, size: int, *, seed: int) -> int:
    """Return the image of `index` in a permutation of range(size) drawn by `seed`, without storing the permutation.

    A Feistel network permutes the next power of four; numbers outside the range are permuted again (Black and Rogaway
    2002, cycle walking).
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for turn in range(_FEISTEL_ROUNDS):
            left, right = right, left ^ (stable_hash(seed, turn, right) & mask)
        index = left << half_bits | right
        if index < size:
            return index
