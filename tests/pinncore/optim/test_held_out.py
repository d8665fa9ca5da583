"""The held-out stop: which weights are kept, and when it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pinncore.optim.held_out import BestHeldOut


def looked(residuals: list[float]) -> BestHeldOut:
    """Return the record after looks at steps 100, 110, ..., whose weights are their numbers."""
    best = BestHeldOut()
    for number, residual in enumerate(residuals):
        best.look(residual, 100 + 10 * number, np.array([float(number)]))
    return best


@pytest.mark.parametrize(
    ("residuals", "kept"),
    [
        ([3.0, 2.0, 2.5], 1),
        ([3.0, 2.0, 2.0], 1),  # of equal ones the first
        ([3.0, 2.0, 1.999], 2),  # less than 1 % is no gain, but smaller all the same
        ([math.nan, math.inf, 2.0, math.nan], 2),
        ([0.0, 1.0], 0),
    ],
)
def test_the_weights_of_the_smallest_residual_are_kept(residuals: list[float], kept: int) -> None:
    best = looked(residuals)
    assert best.kept_at == 100 + 10 * kept
    assert best.weights is not None and best.weights.tolist() == [kept]


def test_kept_weights_are_a_copy() -> None:
    weights, best = np.zeros(2), BestHeldOut()
    best.look(1.0, 0, weights)
    weights += 1
    assert best.weights is not None and not best.weights.any()


def test_without_a_finite_residual_nothing_is_kept() -> None:
    best = looked([math.nan, math.inf])
    assert best.kept_at is None and best.weights is None


@pytest.mark.parametrize(
    ("residuals", "ends_at"),
    [
        ([1.0] * 9, 5),  # five looks after the first
        ([1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], 6),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 0.98, 0.98, 0.98, 0.98, 0.98, 0.98], 10),  # a gain of 2 % in the fifth
        ([1.0, 1.0, 1.0, 1.0, 1.0, 0.995, 0.98], 5),
        ([0.997**look for look in range(30)], None),  # 1.5 % in five looks, although each gains less than 1 %
        ([0.999**look for look in range(30)], 5),
        ([math.nan] * 9, 5),
        ([0.0] * 9, 5),
    ],
)
def test_it_ends_after_five_looks_without_a_gain_of_one_per_cent(residuals: list[float], ends_at: int | None) -> None:
    ends = [looks for looks in range(len(residuals)) if looked(residuals[: looks + 1]).has_stalled]
    assert (ends[0] if ends else None) == ends_at
