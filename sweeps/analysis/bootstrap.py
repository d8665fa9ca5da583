"""The uncertainty of a quantile over a few seeds: percentile bootstrap (Efron 1979), which resamples the seeds.

The generator is fixed, so that the same numbers give the same intervals. A failed seed is an infinite value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..study.replicates import quantile, quantiles

Array = NDArray[np.float64]

LEVEL: Final = 0.95
FEWEST_SEEDS: Final = 5  # with fewer, the intervals contain the true median in less than 90 % of cases
DRAWS: Final = 4000


@dataclass(frozen=True)
class Contrast:
    """The comparison of two sets of seeds: the ratio of their quantiles, with its interval.

    `ratio`, `low` and `high` are None where a value is not positive; the ratio to a failed one is 0. `p_value` is twice
    the smaller of the shares of draws in which one or the other is better. `low`, `high` and `p_value` are None where
    either side has fewer than `FEWEST_SEEDS` seeds.
    """

    ratio: float | None
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def told_apart(self) -> bool | None:
        """Return whether the two differ at the level of the interval, None where that is unknown."""
        return None if self.p_value is None else self.p_value < 1 - LEVEL


def resampled(values: Any, share: float, generator: np.random.Generator, draws: int = DRAWS) -> Array:
    """Return the quantiles of `draws` resamples of `values`, shape [..., seeds], as [..., draws]."""
    values = np.asarray(values, dtype=float)
    seeds = values.shape[-1]
    drawn = generator.integers(0, seeds, (*values.shape[:-1], draws * seeds))
    return quantiles(np.take_along_axis(values, drawn, axis=-1).reshape(*values.shape[:-1], draws, seeds), share)


def interval(values: Any, share: float, generator: np.random.Generator) -> tuple[float, float] | None:
    """Return both ends of the 95 % interval of a quantile over seeds, None for fewer than `FEWEST_SEEDS`."""
    return ends(resampled(values, share, generator)) if len(values) >= FEWEST_SEEDS else None


def contrast(values: Any, others: Any, share: float, generator: np.random.Generator) -> Contrast:
    """Compare the quantile of `values` with that of `others`, drawing the seeds of both independently."""
    one, another = quantile(values, share), quantile(others, share)
    ratio = None if min(one, another) <= 0 else 1.0 if one == another else one / another
    if min(len(values), len(others)) < FEWEST_SEEDS:
        return Contrast(ratio, None, None, None)
    drawn, other = resampled(values, share, generator), resampled(others, share, generator)
    p_value = min(1.0, 2 * min(float(np.mean(drawn <= other)), float(np.mean(drawn >= other))))
    if ratio is None:
        return Contrast(None, None, None, p_value)
    with np.errstate(invalid="ignore"):
        low, high = ends(np.where(drawn == other, 1.0, drawn / other))  # two failed seeds are equal
    return Contrast(ratio, low, high, p_value)


def ends(drawn: Array) -> tuple[float, float]:
    """Return both ends of the central 95 % of draws. They are drawn values, because infinity cannot be interpolated."""
    tail = (1 - LEVEL) / 2
    low = np.quantile(drawn, tail, method="lower")
    return float(low), float(np.quantile(drawn, 1 - tail, method="higher"))
