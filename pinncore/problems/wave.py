"""Wave equation with two standing waves (Wang, Yu, Perdikaris 2022, section 4.2).

u_tt = c^2 u_xx   for 0 < x, t < 1,    u(0, t) = u(1, t) = 0,
u(x, 0) = sin(pi x) + sin(4 pi x) / 2,    u_t(x, 0) = 0
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.settings import NonNegativeFloat, PositiveFloat


class Wave(Problem):
    coordinates = {"x": "1", "t": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(0, 1), t=(0, 1))

    speed: Annotated[PositiveFloat, Doc("Speed c of the waves.")] = 2.0
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the boundary term of the loss.")] = 1.0
    start_weight: Annotated[NonNegativeFloat, Doc("Factor on both terms of the initial condition.")] = 1.0

    def equations(self, u: Any, x: Any, t: Any) -> dict[str, Any]:
        return {"wave": u.diff(t, 2) - self.speed**2 * u.diff(x, 2)}

    def conditions(self, u: Any, x: Any, t: Any) -> list[Condition]:
        start = self.domain.face(t=0)
        return [
            Condition("walls", u, on=self.domain.faces("x"), weight=self.boundary_weight),
            Condition("start", u - self.reference(x, 0), on=start, weight=self.start_weight),
            Condition("at_rest", u.diff(t), on=start, weight=self.start_weight),
        ]

    def reference(self, x: Any, t: Any) -> Any:
        angle = sp.pi * self.speed * t
        return sp.sin(sp.pi * x) * sp.cos(angle) + sp.sin(4 * sp.pi * x) * sp.cos(4 * angle) / 2
