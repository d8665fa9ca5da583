"""The Allen-Cahn equation from x^2 cos(pi x), by the method of lines on a grid that resolves the fronts."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PinnError

Array = NDArray[np.float64]

PER_FRONT: Final = 25  # cells in sqrt(2 diffusion / reaction), the width of a front; half as many change 1e-7
FEWEST: Final = 500  # cells from the middle to the wall
TIMES: Final = 401  # kept, between which a spline of fifth order is taken


def allen_cahn(x: Array, t: Array, *, diffusion: float, reaction: float) -> Array:
    """Return u [points] of u_t = diffusion u_xx + reaction (u - u^3), u(x, 0) = x^2 cos(pi x), u(-1) = u(1) = -1.

    Differences of fourth order on half of the interval, as the solution is even in x; LSODA with a banded Jacobian.
    """
    from scipy.integrate import solve_ivp
    from scipy.interpolate import RectBivariateSpline

    cells = max(math.ceil(PER_FRONT / math.sqrt(2 * diffusion / reaction)), FEWEST)
    nodes = np.linspace(0.0, 1.0, cells + 1)
    factor = diffusion * cells**2 / 12

    def rate(_: float, u: Array) -> Array:
        # even about the middle; at the wall u + 1 is odd, because u_xx = 0 there by the equation itself
        extended = np.concatenate([u[2:0:-1], u, [-1.0, -2.0 - u[-1]]])
        second = -extended[:-4] + 16 * extended[1:-3] - 30 * extended[2:-2] + 16 * extended[3:-1] - extended[4:]
        return factor * second + reaction * (u - u**3)

    times = np.linspace(0.0, max(float(t.max()), 1e-6), TIMES)
    start = (nodes**2 * np.cos(np.pi * nodes))[:-1]
    found = solve_ivp(
        rate, (0.0, times[-1]), start, method="LSODA", t_eval=times, rtol=1e-10, atol=1e-11, lband=2, uband=2
    )
    if not found.success:
        raise PinnError(f"the reference of the Allen-Cahn equation was not found: {found.message}")
    u = np.vstack([found.y, np.full(TIMES, -1.0)])
    return np.asarray(RectBivariateSpline(nodes, times, u, kx=5, ky=5, s=0).ev(np.abs(x), t))
