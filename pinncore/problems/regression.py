"""Plain regression in one coordinate: a chirp, whose local frequency grows with x.

u = sin(a x^2) exp(-x)   for 0 < x < 1
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Problem
from pinncore.settings import PositiveFloat


class Regression(Problem):
    coordinates = {"x": "1"}
    outputs = {"u": "1"}
    domain = Box(x=(0, 1))

    frequency: Annotated[PositiveFloat, Doc("Angular frequency a of the chirp.")] = 20.0

    def equations(self, u: Any, x: Any) -> dict[str, Any]:
        return {"misfit": u - self.reference(x)}

    def reference(self, x: Any) -> Any:
        return sp.sin(self.frequency * x**2) * sp.exp(-x)
