"""Medians and ranges of repeated timings."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median, smallest and largest of repeated measurements."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(samples: Sequence[float]) -> Spread:
        """Return the spread of one sample or more."""
        return Spread(statistics.median(samples), min(samples), max(samples))


def ratio(rival: Sequence[float], own: Sequence[float]) -> Spread:
    """Return how many times longer the rival takes: the ratio of the medians, and the range over the repeats.

    Sample i of both is from the same repeat, so a slow moment of the machine slowed both.
    """
    ratios = [theirs / ours for theirs, ours in zip(rival, own, strict=True)]
    middle = statistics.median(rival) / statistics.median(own)
    return Spread(middle, min(*ratios, middle), max(*ratios, middle))
