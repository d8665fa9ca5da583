"""Screened Poisson equation with Robin conditions and a solution in closed form.

u - l^2 (u_xx + u_yy) = 1 - c(x) c(y)   in the unit square,    u_n + b u = 0 on its boundary,
with the solution (1 - c(x)) (1 - c(y)), where c is a hyperbolic cosine about the middle
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem, normal_derivative
from pinncore.settings import NonNegativeFloat, PositiveFloat


class ScreenedPoisson(Problem):
    coordinates = {"x": "1", "y": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(0, 1), y=(0, 1))

    length: Annotated[PositiveFloat, Doc("Length l over which the boundary is felt.")] = 0.2
    transfer: Annotated[PositiveFloat, Doc("Transfer b through the boundary.")] = 5.0
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the boundary term of the loss.")] = 1.0

    def equations(self, u: Any, x: Any, y: Any) -> dict[str, Any]:
        return {"screened": u - self.length**2 * (u.diff(x, 2) + u.diff(y, 2)) - 1 + self._layer(x) * self._layer(y)}

    def conditions(self, u: Any) -> list[Condition]:
        robin = normal_derivative(u) + self.transfer * u
        return [Condition("robin", robin, on=self.domain.boundary, weight=self.boundary_weight)]

    def reference(self, x: Any, y: Any) -> Any:
        return (1 - self._layer(x)) * (1 - self._layer(y))

    def _layer(self, x: Any) -> Any:
        end = 1 / (2 * self.length)
        return sp.cosh((2 * x - 1) * end) / (sp.cosh(end) + sp.sinh(end) / (self.length * self.transfer))
