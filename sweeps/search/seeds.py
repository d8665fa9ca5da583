"""Numbers that look random and depend on nothing but what they are made of."""

from __future__ import annotations

import hashlib
from typing import Final

_FEISTEL_ROUNDS: Final = 4


def stable_hash(*numbers: int) -> int:
    """Return a number of 64 bits that depends on `numbers` alone, on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big")


def shuffled(index: int, size: int, *, seed: int) -> int:
    """Return where `index` lies in a permutation of range(size) drawn by `seed`, without making the permutation.

    A Feistel network permutes the next power of four; what falls outside is sent through again (Black and Rogaway
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
