"""How long a study still takes, from how fast it went of late; told calmly, so that it does not jump."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 5.0  # of training before anything is said
LATELY_S: Final = 30.0  # over which the speed is taken, or half of the time so far where that is more
LOOKS: Final = 200  # that are kept of it
CALM_S: Final = 10.0  # in which a new guess moves the old one by two thirds


class Pace:
    """Guesses the time left from looks at how much is done, in any unit."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, float]] = deque()  # when, and how much was done then
        self._began = self._looked = 0.0
        self._end: float | None = None  # when it will be over

    def left_s(self, done: float, left: float) -> float | None:
        """Seconds until what is `left` is done, at the speed of late; None where that cannot be said."""
        now = self._clock()
        if not self._looks:
            self._began = now
        lately = max(LATELY_S, (now - self._began) / 2)
        if not self._looks or now - self._looks[-1][0] >= lately / LOOKS:
            self._looks.append((now, done))
        while len(self._looks) > 1 and self._looks[1][0] <= now - lately:
            self._looks.popleft()
        since, before = self._looks[0]
        elapsed, self._looked = now - self._looked, now
        if left <= 0 or done <= before or now - since < FIRST_S:
            self._end = None
            return None
        guess = now + left * (now - since) / (done - before)
        if self._end is None:
            self._end = guess
        self._end += (guess - self._end) * -math.expm1(-elapsed / CALM_S)
        return max(self._end - now, 0.0)
