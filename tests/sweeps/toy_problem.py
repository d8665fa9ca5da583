"""A second problem in twenty lines: another equation, other columns, a metric of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from pinncore import Box, Condition, Metric, Problem
from pinncore.problems.base import Predictor
from pinncore.problems.columns import REL_L2, Array, Column
from pinncore.settings import PositiveFloat


class Wind(Problem):
    """Heat that a wind carries through the unit square: u_a - diffusivity (u_aa + u_bb) = b, u = a b solves it."""

    quantity = "temperature"
    coordinates = (Column("a", "a_m", "m"), Column("b", "b_m", "m"))
    outputs = {"u": "K"}
    domain = Box(a=(0, 1), b=(0, 1))
    metrics = (REL_L2, Metric("worst", "max |u - reference|", unit="K", needs_reference=True, is_key=True))
    diffusivity: PositiveFloat = 0.1

    def equations(self, u: Any, a: Any, b: Any) -> dict[str, Any]:
        return {"heat": u.diff(a) - self.diffusivity * (u.diff(a, 2) + u.diff(b, 2)) - b}

    def conditions(self, u: Any, a: Any, b: Any) -> list[Condition]:
        return [Condition("walls", u - a * b, on=self.domain.boundary)]

    def reference(self, a: Any, b: Any) -> Any:
        return a * b

    def measure(self, u: Array, predict: Predictor) -> dict[str, float | None]:
        return {"worst": float(np.abs(u - self.solution).max())}
