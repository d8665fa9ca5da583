"""Allen-Cahn equation: two phases separate (Raissi et al. 2019, section 3.1.2, with walls in place of periods).

u_t = d u_xx + r (u - u^3)   for -1 < x < 1, 0 < t < 1,    u(x, 0) = x^2 cos(pi x),    u(-1, t) = u(1, t) = -1
"""

from typing import Annotated, Any, Literal

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.references.allen_cahn import allen_cahn
from pinncore.settings import NonNegativeFloat, PositiveFloat


class AllenCahn(Problem):
    coordinates = {"x": "1", "t": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(-1, 1), t=(0, 1))

    diffusion: Annotated[PositiveFloat, Doc("Diffusion d; its root gives the width of the fronts.")] = 1e-4
    reaction: Annotated[PositiveFloat, Doc("Rate r of the separation.")] = 5.0
    constraints: Annotated[Literal["soft", "hard"], Doc("Conditions: soft (loss terms) or hard (built in).")] = "soft"
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the soft boundary term of the loss.")] = 1.0
    start_weight: Annotated[NonNegativeFloat, Doc("Factor on the soft term of the initial condition.")] = 1.0

    def equations(self, u: Any, x: Any, t: Any) -> dict[str, Any]:
        return {"phase": u.diff(t) - self.diffusion * u.diff(x, 2) - self.reaction * (u - u**3)}

    def conditions(self, u: Any, x: Any) -> list[Condition]:
        walls = Condition("walls", u + 1, on=self.domain.faces("x"), weight=self.boundary_weight)
        start = Condition("start", u - x**2 * sp.cos(sp.pi * x), on=self.domain.face(t=0), weight=self.start_weight)
        return [walls, start] if self.constraints == "soft" else []

    def transform(self, u: Any, x: Any, t: Any) -> Any:
        return x**2 * sp.cos(sp.pi * x) + t * (1 - x**2) * u if self.constraints == "hard" else u

    def reference(self) -> Any:
        return lambda x, t: allen_cahn(x, t, diffusion=self.diffusion, reaction=self.reaction)
