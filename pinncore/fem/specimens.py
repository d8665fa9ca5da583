"""Specimens whose damage can be computed: plate, material, supports and load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .material import Material
from .quads import Array, Quads

MESHES: Final = range(10, 201, 10)  # elements along an edge; multiples of ten have a node at the tip of the notch


@dataclass(frozen=True)
class Specimen:
    """A square plate in plane strain whose upper edge is pulled up, the load in equal increments.

    `supports` and `pulled` tell from nodes [nodes, 2] in mm which displacements [nodes, 2] are zero, and which are
    given: `pull_mm` times the load factor, which is the number of the increment times `load_step`.
    """

    name: str
    size_mm: float
    material: Material
    supports: Callable[[Array], NDArray[np.bool_]]
    pulled: Callable[[Array], NDArray[np.bool_]]
    pull_mm: float
    load_step: float

    def mesh(self, elements: int) -> Quads:
        """Return `elements` x `elements` quadrilaterals. Raises `DataError` where they do not fit the notch."""
        if elements not in MESHES:
            raise DataError(
                f"mesh: must be a multiple of 10 from {MESHES[0]} to {MESHES[-1]}, got {elements}. It is the number of "
                f"elements along an edge of {self.name}, whose notch must end at a node; the bundled data have 40"
            )
        return Quads.rectangle(self.size_mm, self.size_mm, elements, elements)


def specimen(name: str) -> Specimen:
    """Return a specimen by name. Raises `DataError` where there is none."""
    if name not in SPECIMENS:
        raise DataError(f"specimen: there is none called {name!r}. Known: {', '.join(SPECIMENS)}")
    return SPECIMENS[name]


def _notched_supports(nodes: Array) -> NDArray[np.bool_]:
    """Return what holds the plate: rollers right of the notch, which is the lower edge up to x = 30 mm, and a pin."""
    x, y = nodes.T
    lower = y < _NEAR_MM
    return np.stack([lower & (x > 100 - _NEAR_MM), lower & (x > 30 - _NEAR_MM)], axis=1)


def _upper_edge(nodes: Array) -> NDArray[np.bool_]:
    """Return the vertical displacements of the upper edge."""
    upper = nodes[:, 1] > 100 - _NEAR_MM
    return np.stack([np.zeros_like(upper), upper], axis=1)


_NEAR_MM: Final = 1e-6
_SETTINGS: Final[dict[str, Any]] = {"threshold": 1e-4, "share": 0.7, "rate": 1e4, "largest_damage": 0.95}
SPECIMENS: Final = {
    "strb100": Specimen(
        name="strb100",
        size_mm=100.0,
        material=Material(shear_modulus_mpa=125e3, poisson_ratio=0.2, internal_length_mm=4.0, **_SETTINGS),
        supports=_notched_supports,
        pulled=_upper_edge,
        pull_mm=0.01,
        load_step=0.005,
    )
}
