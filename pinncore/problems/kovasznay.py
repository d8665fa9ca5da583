"""Kovasznay flow behind a grid: steady incompressible Navier-Stokes with a known solution (Kovasznay 1948).

u u_x + v u_y = -p_x + (u_xx + u_yy) / Re,    u v_x + v v_y = -p_y + (v_xx + v_yy) / Re,    u_x + v_y = 0
"""

from typing import Annotated, Any

import sympy as sp
from typing_extensions import Doc

from pinncore import Box, Condition, Problem
from pinncore.settings import NonNegativeFloat, PositiveFloat


class Kovasznay(Problem):
    coordinates = {"x": "1", "y": "1"}
    outputs = {"u": "1", "v": "1", "p": "1"}
    domain = Box(x=(-0.5, 1), y=(-0.5, 1.5))

    reynolds: Annotated[PositiveFloat, Doc("Reynolds number Re.")] = 20.0
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on the terms of boundary and outflow.")] = 1.0

    def equations(self, u: Any, v: Any, p: Any, x: Any, y: Any) -> dict[str, Any]:
        def momentum(w: Any, s: Any) -> Any:
            return u * w.diff(x) + v * w.diff(y) + p.diff(s) - (w.diff(x, 2) + w.diff(y, 2)) / self.reynolds

        return {"momentum_x": momentum(u, x), "momentum_y": momentum(v, y), "mass": u.diff(x) + v.diff(y)}

    def conditions(self, u: Any, v: Any, p: Any, x: Any, y: Any) -> list[Condition]:
        exact, boundary, weight = self.reference(x, y), self.domain.boundary, self.boundary_weight
        velocity = [Condition(f"boundary_{w.name}", w - exact[w.name], on=boundary, weight=weight) for w in (u, v)]
        return [*velocity, Condition("outflow", p - exact["p"], on=self.domain.face(x=1), weight=weight)]

    def reference(self, x: Any, y: Any) -> dict[str, Any]:
        rate = self.reynolds / 2 - sp.sqrt(self.reynolds**2 / 4 + 4 * sp.pi**2)
        decay, wave = sp.exp(rate * x), 2 * sp.pi * y
        return {"u": 1 - decay * sp.cos(wave), "v": rate / (2 * sp.pi) * decay * sp.sin(wave), "p": (1 - decay**2) / 2}
