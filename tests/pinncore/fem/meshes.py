"""Small meshes with the tables of an analysis on them."""

from __future__ import annotations

import numpy as np

from pinncore import FieldData
from pinncore.data.points import Points
from pinncore.fem.discrete import Discrete
from pinncore.fem.quads import Quads


def plate(elements: int = 6, *, g_mm2: float = 60.0) -> FieldData:
    """A plate of 100 mm with a smooth local strain; the reference is its finite-element solution."""
    quads = Quads.rectangle(100.0, 100.0, elements, elements)
    x, y = (quads.values @ quads.nodes).T
    e, g = _strain(x, y), np.full(len(x), g_mm2)
    discrete = Discrete(quads, g, e)
    node_x, node_y = quads.nodes.T
    sides, ends = np.isin(node_x, (0, 100)), np.isin(node_y, (0, 100))

    def boundary(chosen: np.ndarray) -> Points:
        at = node_x[chosen], node_y[chosen]
        return Points(*at, np.full(chosen.sum(), g_mm2), _strain(*at), discrete.solution[chosen])

    gauss = Points(x, y, g, e, discrete.read(discrete.solution))
    return FieldData("plate", gauss, boundary(sides), boundary(ends), 1, ())


def _strain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(1e-4 * (2 + np.cos(np.pi * x / 50) * np.cos(np.pi * y / 100)))
