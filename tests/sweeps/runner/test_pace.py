"""Estimates of the time left: soon near the truth, and smooth."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from sweeps.runner.pace import FIRST_S, Pace


def estimates(done_at: Callable[[float], float], total: float, *, every_s: float = 0.5) -> list[tuple[float, float]]:
    """Return the estimates until `total` is done, each with its time."""
    now, pairs = 0.0, []
    pace = Pace(lambda: now)
    while (done := done_at(now)) < total:
        left_s = pace.left_s(done, total - done)
        if left_s is not None:
            pairs.append((now, left_s))
        now += every_s
    return pairs


def test_steady_work_is_estimated_right_from_the_start() -> None:
    pairs = estimates(lambda now: 0.02 * now, 12.0)  # 600 s
    assert pairs[0][0] == FIRST_S
    assert all(abs(left_s - (600 - now)) < 1 for now, left_s in pairs)


def test_trials_that_end_in_groups_do_not_make_it_jump() -> None:
    draw = random.Random(3)
    ends = [40 * (n // 8 + 1) + draw.uniform(-4, 4) for n in range(160)]  # eight at a time, 40 s each, 800 s

    def done_at(now: float) -> float:
        reported = 2.0 * int(now / 2.0)  # workers report every two seconds
        begun = ((end, end - 40) for end in ends if end - 40 <= now)
        return sum(1.0 if end <= now else max(reported - start, 0.0) / 40 for end, start in begun)

    pairs = estimates(done_at, 159.9)
    moves = [abs(left_s - before + 0.5) for (_, before), (_, left_s) in itertools.pairwise(pairs)]
    assert max(moves[120:]) < 4, "seconds, from one look to the next"
    assert all(abs(left_s - (800 - now)) < 60 for now, left_s in pairs[120:])


def test_twice_the_workers_halve_it_within_a_minute_or_two() -> None:
    pairs = estimates(lambda now: min(now, 100.0) + 2 * max(now - 100.0, 0.0), 1000.0)  # 550 s
    assert abs(next(left_s for now, left_s in pairs if now >= 95) - 905) < 10
    assert abs(next(left_s for now, left_s in pairs if now >= 220) - 330) < 40


def test_without_progress_there_is_no_estimate() -> None:
    times = iter((0.0, 4.0, 30.0, 30.0, 31.0))
    pace = Pace(lambda: next(times))
    for _ in range(3):
        assert pace.left_s(3.0, 10.0) is None, "work done before the start does not count"
    assert pace.left_s(4.0, 9.0) == 9.0 * 30
    assert pace.left_s(13.0, 0.0) is None
