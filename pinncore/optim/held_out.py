"""Held-out stop: the weights of the smallest held-out residual are kept, and the end comes when it no longer falls.

Early stopping on a residual at points that are never trained on (Prechelt 1998, "Early stopping - but when?"). It looks
at a member only, at fixed iterations, so that company and interruptions change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOOK_EVERY: Final = 10  # iterations of the second stage
PATIENCE: Final = 5  # looks in which the residual must fall by GAIN
GAIN: Final = 0.01


@dataclass
class BestHeldOut:
    """The held-out residuals of a member so far, and the weights of the smallest.

    `kept_at` is their step of both stages together; it and `weights` [parameters] are None until a residual is finite.
    """

    residuals: list[float] = field(default_factory=list)
    kept_at: int | None = None
    weights: Array | None = None

    def look(self, residual: float, step: int, weights: Array) -> None:
        """Take the residual of `weights` [parameters] at a step, and keep these if it is smaller than all before."""
        value = residual if math.isfinite(residual) else math.inf
        if value < min(self.residuals, default=math.inf):
            self.kept_at, self.weights = step, weights.copy()
        self.residuals.append(value)

    @property
    def has_stalled(self) -> bool:
        """Return whether the last looks gained too little over the best one before them."""
        before, recent = self.residuals[:-PATIENCE], self.residuals[-PATIENCE:]
        return bool(before) and min(recent) >= (1 - GAIN) * min(before)
