"""The two numbers of the self-scaled Broyden family, tau (scaling) and phi (member of the family).

Urban, Stefanou and Pons, "Unveiling the optimization process of physics informed neural networks", J. Comput. Phys. 523
(2025) 113656: update eq. 10, SSBFGS eq. 11, SSBroyden eq. 13-23, after Al-Baali (1998), "Numerical experience with a
class of self-scaling quasi-Newton algorithms". `bfgs` is tau = phi = 1.
"""

from __future__ import annotations

import math

from ...kernels.cache import kept

METHODS = {"bfgs": 0, "ssbfgs": 1, "ssbroyden": 2}


@kept(error_model="numpy")
def broyden_parameters(method: int, ys: float, yhy: float, bend: float, size: int) -> tuple[float, float]:
    """Return tau and phi from y's, y'Hy, s'Bs (B = H^-1) and the parameter count; (1, 1) where they do not exist."""
    if method == 0 or not bend > 0.0:
        return 1.0, 1.0
    b, h = bend / ys, yhy / ys
    rho = min(1.0, 1.0 / b)
    if method == 1:
        return rho, 1.0
    a = b * h - 1.0  # >= 0 by Cauchy and Schwarz, but for rounding
    if size < 2 or not a > 0.0:
        return rho, 1.0  # s and Hy are parallel: every member of the family is the same
    c = math.sqrt(a / (1.0 + a))
    lowest = min(1.0, h * (1.0 - c))
    theta = max((lowest - 1.0) / a, min(1.0 / lowest, (1.0 - b) / b))
    sigma = 1.0 + theta * a
    power = sigma ** (1.0 / (1.0 - size))
    tau = min(rho * power, sigma) if theta <= 0.0 else rho * min(power, 1.0 / theta)
    phi = (1.0 - theta) / sigma
    if tau > 0.0 and math.isfinite(tau) and math.isfinite(phi):
        return tau, phi
    return 1.0, 1.0
