"""Helmholtz equation with a known solution (Wang, Teng, Perdikaris 2021, section 4.1).

u_xx + u_yy + k^2 u = f   for -1 < x, y < 1,    u = 0 on the boundary,    solution sin(pi x) sin(4 pi y)
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.settings import NonNegativeFloat


class Helmholtz(Problem):
    coordinates = {"x": "1", "y": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(-1, 1), y=(-1, 1))

    wave_number: Annotated[NonNegativeFloat, Doc("Wave number k; 0 makes it a Poisson equation.")] = 1.0
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the boundary term of the loss.")] = 1.0

    def equations(self, u: Any, x: Any, y: Any) -> dict[str, Any]:
        source = (self.wave_number**2 - 17 * sp.pi**2) * self.reference(x, y)
        return {"helmholtz": u.diff(x, 2) + u.diff(y, 2) + self.wave_number**2 * u - source}

    def conditions(self, u: Any) -> list[Condition]:
        return [Condition("boundary", u, on=self.domain.boundary, weight=self.boundary_weight)]

    def reference(self, x: Any, y: Any) -> Any:
        return sp.sin(sp.pi * x) * sp.sin(4 * sp.pi * y)
