"""Estimate of the time that a study still takes, from its recent speed, smoothed so that it does not jump."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 5.0  # of training before the first estimate
WINDOW_S: Final = 30.0  # over which the speed is measured, or half of the time so far where that is longer
MOST_SAMPLES: Final = 200  # that are kept of the window
SMOOTHING_S: Final = 10.0  # in which a new estimate moves the shown one by two thirds


class Pace:
    """Estimator of the time left from samples of the amount done, in any unit."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque()  # time, and the amount done by then
        self._began = self._sampled_at = 0.0
        self._end: float | None = None  # smoothed estimate of the time when all is done

    def left_s(self, done: float, left: float) -> float | None:
        """Return the seconds until the amount `left` is done at the recent speed, None where that is unknown."""
        now = self._clock()
        if not self._samples:
            self._began = now
        window_s = max(WINDOW_S, (now - self._began) / 2)
        if not self._samples or now - self._samples[-1][0] >= window_s / MOST_SAMPLES:
            self._samples.append((now, done))
        while len(self._samples) > 1 and self._samples[1][0] <= now - window_s:
            self._samples.popleft()
        since, done_before = self._samples[0]
        elapsed, self._sampled_at = now - self._sampled_at, now
        if left <= 0 or done <= done_before or now - since < FIRST_S:
            self._end = None
            return None
        end = now + left * (now - since) / (done - done_before)
        if self._end is None:
            self._end = end
        self._end += (end - self._end) * -math.expm1(-elapsed / SMOOTHING_S)
        return max(self._end - now, 0.0)
