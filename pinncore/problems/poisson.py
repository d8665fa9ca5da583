"""Poisson equation with a known solution.

-(u_xx + u_yy) = 2 (n pi)^2 sin(n pi x) sin(n pi y)   in the unit square,   u = 0 on its boundary
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.settings import NonNegativeFloat, PositiveInt


class Poisson(Problem):
    coordinates = {"x": "1", "y": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(0, 1), y=(0, 1))

    half_waves: Annotated[PositiveInt, Doc("Half waves n of the solution in each direction.")] = 2
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the boundary term of the loss.")] = 1.0

    def equations(self, u: Any, x: Any, y: Any) -> dict[str, Any]:
        source = 2 * (self.half_waves * sp.pi) ** 2 * self.reference(x, y)
        return {"poisson": u.diff(x, 2) + u.diff(y, 2) + source}

    def conditions(self, u: Any) -> list[Condition]:
        return [Condition("boundary", u, on=self.domain.boundary, weight=self.boundary_weight)]

    def reference(self, x: Any, y: Any) -> Any:
        return sp.sin(self.half_waves * sp.pi * x) * sp.sin(self.half_waves * sp.pi * y)
