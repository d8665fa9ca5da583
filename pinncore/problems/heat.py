"""Heat equation with a conductivity that varies in space.

u_t = (k(x) u_x)_x + q sin(pi x / 2)   for 0 < x, t < 1,    k(x) = d (1 + c cos(2 pi x)),
u(x, 0) = sin(pi x / 2),    u(0, t) = 0,    u_x(1, t) = 0
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.references.heat import heat
from pinncore.settings import Fraction, NonNegativeFloat, PositiveFloat


class Heat(Problem):
    coordinates = {"x": "1", "t": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(0, 1), t=(0, 1))

    diffusivity: Annotated[PositiveFloat, Doc("Mean d of the conductivity.")] = 0.5
    contrast: Annotated[Fraction, Doc("Relative amplitude c of the conductivity.")] = 0.5
    source: Annotated[float, Doc("Strength q of the heat source.")] = 1.0
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on both boundary terms of the loss.")] = 1.0
    start_weight: Annotated[NonNegativeFloat, Doc("Factor on the term of the initial condition.")] = 1.0

    def equations(self, u: Any, x: Any, t: Any) -> dict[str, Any]:
        k = self.diffusivity * (1 + self.contrast * sp.cos(2 * sp.pi * x))
        return {"heat": u.diff(t) - (k * u.diff(x)).diff(x) - self.source * sp.sin(sp.pi * x / 2)}

    def conditions(self, u: Any, x: Any) -> list[Condition]:
        return [
            Condition("cold", u, on=self.domain.face(x=0), weight=self.boundary_weight),
            Condition("insulated", u.diff(x), on=self.domain.face(x=1), weight=self.boundary_weight),
            Condition("start", u - sp.sin(sp.pi * x / 2), on=self.domain.face(t=0), weight=self.start_weight),
        ]

    def reference(self) -> Any:
        return lambda x, t: heat(x, t, diffusivity=self.diffusivity, contrast=self.contrast, source=self.source)
