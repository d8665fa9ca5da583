"""Viscous Burgers equation: a sine wave steepens to a shock (Raissi, Perdikaris, Karniadakis 2019, section 3.1).

u_t + u u_x = viscosity u_xx   for -1 < x < 1, 0 < t < 1,    u(x, 0) = -sin(pi x),    u(-1, t) = u(1, t) = 0
"""

import math
from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.references.burgers import burgers
from pinncore.settings import NonNegativeFloat, PositiveFloat


class Burgers(Problem):
    coordinates = {"x": "1", "t": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(-1, 1), t=(0, 1))

    viscosity: Annotated[PositiveFloat, Doc("Viscosity; the shock is about four times as wide.")] = 0.01 / math.pi
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the boundary term of the loss.")] = 1.0
    start_weight: Annotated[NonNegativeFloat, Doc("Factor on the term of the initial condition.")] = 1.0

    def equations(self, u: Any, x: Any, t: Any) -> dict[str, Any]:
        return {"momentum": u.diff(t) + u * u.diff(x) - self.viscosity * u.diff(x, 2)}

    def conditions(self, u: Any, x: Any) -> list[Condition]:
        return [
            Condition("walls", u, on=self.domain.faces("x"), weight=self.boundary_weight),
            Condition("start", u + sp.sin(sp.pi * x), on=self.domain.face(t=0), weight=self.start_weight),
        ]

    def reference(self) -> Any:
        return lambda x, t: burgers(x, t, viscosity=self.viscosity)
