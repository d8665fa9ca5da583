"""A second problem in twenty lines: another equation, other columns, a metric of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch

from pinncore.problems import Column, Jet, Metric, PointSet, Predictor, Problem
from pinncore.problems.base import REL_L2, Array
from pinncore.settings import PositiveFloat


class Wind(Problem):
    """Heat that a wind carries through the unit square: u_a - diffusivity (u_aa + u_bb) = q, u = a b solves it."""

    name, terms = "wind", ("heat", "walls")
    quantity, unit = "temperature", "K"
    coordinates = (Column("a", "a_m", "m"), Column("b", "b_m", "m"))
    known = (Column("q", "source", "K/m"),)
    shown = (Column("q", "source", "K/m"),)
    metrics = (REL_L2, Metric("max_error", "max |u - reference|", unit="K", needs_reference=True, is_key=True))
    diffusivity: PositiveFloat = 0.1

    @cached_property
    def point_sets(self) -> tuple[PointSet, ...]:
        a, b = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0, 1, 8)] * 2))
        walls = a * b * (1 - a) * (1 - b) == 0
        at_walls = {"a_m": a[walls], "b_m": b[walls], "source": (a * b)[walls]}
        return self.points("heat", {"a_m": a, "b_m": b, "source": b}), self.points("walls", at_walls)

    @property
    def reference(self) -> Array:
        return self.point_sets[0].columns["a_m"] * self.point_sets[0].columns["b_m"]

    def residual(self, term: str, u: Jet, data: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (u.x - self.diffusivity * u.laplacian if term == "heat" else u.value) - data["q"]

    def measure(self, u: Array, predict: Predictor) -> dict[str, float | None]:
        return {"max_error": float(np.abs(u - self.reference).max())}
