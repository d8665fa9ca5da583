"""Medians and ranges of repeated timings."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The middle one of repeated measurements, and the smallest and the largest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(samples: Sequence[float]) -> Spread:
        """The spread of one sample or more."""
        return Spread(statistics.median(samples), min(samples), max(samples))


def ratio(rival: Sequence[float], own: Sequence[float]) -> Spread:
    """How many times longer the rival takes: median by median, the range over the repeats.

    Sample i of both is of the same repeat, so what slowed the machine for a while slowed both.
    """
    each = [theirs / ours for theirs, ours in zip(rival, own, strict=True)]
    middle = statistics.median(rival) / statistics.median(own)
    return Spread(middle, min(*each, middle), max(*each, middle))
