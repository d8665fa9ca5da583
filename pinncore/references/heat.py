"""The heat equation with a conductivity that varies in space, exact in time and spectral in space."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

Array = NDArray[np.float64]

NODES: Final = 160  # of the Chebyshev grid; for a contrast of 0.9, half as many change 1e-6


def heat(x: Array, t: Array, *, diffusivity: float, contrast: float, source: float) -> Array:
    """Return u [points] of u_t = (k u_x)_x + source sin(pi x / 2), k = diffusivity (1 + contrast cos(2 pi x)).

    u(x, 0) = sin(pi x / 2), u(0, t) = 0, u_x(1, t) = 0. Collocation on a Chebyshev grid of twice the interval, where
    the solution is even about x = 1, gives du/dt = A u + f, solved by the eigenvectors of A.
    """
    nodes = 1 + np.cos(np.pi * np.arange(NODES + 1) / NODES)[::-1]  # 0 to 2
    slopes = _differentiation(nodes)
    conductivity = diffusivity * (1 + contrast * np.cos(2 * np.pi * nodes))
    matrix = (slopes @ (conductivity[:, None] * slopes))[1:-1, 1:-1]
    start = np.sin(np.pi * nodes[1:-1] / 2)
    steady = np.linalg.solve(matrix, -source * start)
    rates, modes = np.linalg.eig(matrix)
    amplitudes = np.linalg.solve(modes, start - steady)
    times, places = np.unique(t, return_inverse=True)
    inner = steady[:, None] + (modes @ (amplitudes[:, None] * np.exp(rates[:, None] * times))).real
    values = np.zeros((NODES + 1, len(times)))
    values[1:-1] = inner
    coefficients = np.linalg.solve(chebyshev.chebvander(nodes - 1, NODES), values)  # [degree, times]
    return np.einsum("pd,dp->p", chebyshev.chebvander(x - 1, NODES), coefficients[:, places])


def _differentiation(nodes: Array) -> Array:
    """Return the matrix [nodes, nodes] that differentiates the polynomial through values (Trefethen 2000, ch. 6)."""
    count = len(nodes)
    scale = np.where((np.arange(count) == 0) | (np.arange(count) == count - 1), 2.0, 1.0) * (-1.0) ** np.arange(count)
    apart = nodes[:, None] - nodes + np.eye(count)
    matrix = np.outer(scale, 1 / scale) / apart
    return np.asarray(matrix - np.diag(matrix.sum(axis=1)))
