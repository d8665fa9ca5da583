"""The coupled equations of gradient damage on a mesh: their residual and its exact derivative.

In the weak form, for all virtual displacements v and strains w (Peerlings et al. 1996, section 4):

    integral of eps(v) . (1 - D(k)) C eps(d)            = 0     equilibrium,
    integral of w u + g grad w . grad u - w e(eps(d))   = 0     non-local strain,

with k = max(u, largest u so far) at each Gauss point. Unknowns are [nodes, 3]: two displacements in mm, and u.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from .material import Material, equivalent_strain
from .quads import SHAPES, Array, Indices, Quads

_LEAF: Final = 12  # nodes that nested dissection leaves together


@dataclass(frozen=True)
class GaussState:
    """A state at the Gauss points, arrays of shape [elements, 4, ...]; strains are (e_xx, e_yy, 2 e_xy)."""

    strain: Array
    local: Array  # e
    local_slopes: Array  # de/d(strain)
    nonlocal_strain: Array  # u
    history: Array  # k
    damage: Array
    damage_slope: Array  # dD/du: zero while unloading
    stress_mpa: Array


@dataclass(frozen=True)
class CoupledSystem:
    """The equations on a mesh. `fixed` [nodes, 3] marks the unknowns that are given."""

    quads: Quads
    material: Material
    fixed: NDArray[np.bool_]

    def state(self, unknowns: Array, history: Array) -> GaussState:
        """Return the state of unknowns [nodes, 3]; `history` [elements, 4] is the largest u under earlier loads."""
        values = unknowns.ravel()[self._numbers]
        strain = np.einsum("egsi,ei->egs", self._strain_matrices, values[:, :8], optimize=True)
        nonlocal_strain = values[:, 8:] @ SHAPES.T
        local, local_slopes = equivalent_strain(strain)
        k = np.maximum(history, nonlocal_strain)
        damage = self.material.damage(k)
        damage_slope = np.where(nonlocal_strain >= history, self.material.damage_slope(k), 0.0)
        stress = (1 - damage)[..., None] * (strain @ self.material.stiffness_mpa)
        return GaussState(strain, local, local_slopes, nonlocal_strain, k, damage, damage_slope, stress)

    def residual(self, unknowns: Array, state: GaussState) -> tuple[Array, Array]:
        """Return both sides' difference [nodes, 3], in N/mm and mm^2, and the largest terms [3] in them."""
        forces = np.einsum("egsi,egs->ei", self._strain_matrices, state.stress_mpa * self._areas[..., None])
        sources = (self._areas * state.local) @ SHAPES
        strains = np.einsum("eij,ej->ei", self._screened_poisson, unknowns[self.quads.corners, 2])
        residual = self._sum(np.concatenate([forces, strains - sources], axis=1))
        reaction = np.abs(residual[:, :2]).max()
        return residual, np.array([reaction, reaction, np.abs(self._sum_values(sources)).max()])

    def tangent(self, state: GaussState) -> Any:
        """Return the derivative of the residual to the free unknowns, sparse, both in the order of `free`."""
        matrices, areas = self._strain_matrices, self._areas
        blocks = np.empty((len(self.quads.corners), 12, 12))
        blocks[:, :8, :8] = np.einsum("eg,egij->eij", 1 - state.damage, self._elastic, optimize=True)
        softening = -state.damage_slope / (1 - state.damage) * areas
        to_nonlocal = np.einsum("egsi,egs->egi", matrices, state.stress_mpa * softening[..., None], optimize=True)
        blocks[:, :8, 8:] = np.einsum("egi,gj->eij", to_nonlocal, SHAPES, optimize=True)
        to_strain = np.einsum("egsi,egs->egi", matrices, state.local_slopes * areas[..., None], optimize=True)
        blocks[:, 8:, :8] = -np.einsum("gi,egj->eij", SHAPES, to_strain, optimize=True)
        blocks[:, 8:, 8:] = self._screened_poisson
        places, of_entry, rows, starts = self._pattern
        entries = np.bincount(of_entry, blocks.ravel()[places], minlength=len(rows))
        return csc_array((entries, rows, starts), shape=(len(self.free), len(self.free)))

    @cached_property
    def free(self) -> Indices:
        """Return the free unknowns, as places in the raveled unknowns, in an order that keeps factors of K sparse."""
        order = _nested_dissection(self.quads.nodes, np.arange(len(self.quads.nodes)))
        numbers = (3 * np.array(order)[:, None] + np.arange(3)).ravel()
        return numbers[~self.fixed.ravel()[numbers]]

    @cached_property
    def _numbers(self) -> Indices:
        """Return the unknowns [elements, 12] of each element: x and y of each corner, then u of each."""
        first = 3 * self.quads.corners
        displacements = np.stack([first, first + 1], axis=-1).reshape(-1, 8)
        return np.concatenate([displacements, first + 2], axis=1)

    @cached_property
    def _strain_matrices(self) -> Array:
        """Return the strains [elements, 4, 3, 8] of displacements of the corners, per mm."""
        slopes = self.quads.element_slopes
        matrices = np.zeros((*slopes.shape[:2], 3, 8))
        matrices[:, :, 0, 0::2] = matrices[:, :, 2, 1::2] = slopes[..., 0]
        matrices[:, :, 1, 1::2] = matrices[:, :, 2, 0::2] = slopes[..., 1]
        return matrices

    @cached_property
    def _areas(self) -> Array:
        """Return the area [elements, 4] of each Gauss point in mm^2."""
        return self.quads.weights[self.quads.gauss]

    @cached_property
    def _elastic(self) -> Array:
        """Return the undamaged stiffness [elements, 4, 8, 8] that each Gauss point adds, in MPa."""
        matrices = self._strain_matrices
        stiffness = np.einsum("egsi,st,egtj->egij", matrices, self.material.stiffness_mpa, matrices, optimize=True)
        return stiffness * self._areas[..., None, None]

    @cached_property
    def _screened_poisson(self) -> Array:
        """Return the matrix [elements, 4, 4] of u - g laplace u, in mm^2."""
        slopes = self.quads.element_slopes
        gradients = np.einsum("eg,egid,egjd->eij", self._areas, slopes, slopes, optimize=True)
        values = np.einsum("eg,gi,gj->eij", self._areas, SHAPES, SHAPES, optimize=True)
        return values + self.material.gradient_mm2 * gradients

    @cached_property
    def _pattern(self) -> tuple[Indices, Indices, NDArray[np.int32], NDArray[np.int32]]:
        """Return how blocks [elements, 12, 12] become columns: places in them, entry of each, rows, starts."""
        number = np.full(self.fixed.size, -1)
        number[self.free] = np.arange(len(self.free))
        of_element = number[self._numbers]
        rows = np.repeat(of_element[:, :, None], 12, axis=2).ravel()
        columns = np.repeat(of_element[:, None, :], 12, axis=1).ravel()
        places = np.flatnonzero((rows >= 0) & (columns >= 0))
        keys, of_entry = np.unique(columns[places] * len(self.free) + rows[places], return_inverse=True)
        starts = np.searchsorted(keys // len(self.free), np.arange(len(self.free) + 1))
        return places, of_entry, (keys % len(self.free)).astype(np.int32), starts.astype(np.int32)

    def _sum(self, of_elements: Array) -> Array:
        """Return values [elements, 12] summed at the unknowns [nodes, 3]."""
        summed = np.bincount(self._numbers.ravel(), of_elements.ravel(), minlength=self.fixed.size)
        return np.asarray(summed, dtype=np.float64).reshape(-1, 3)

    def _sum_values(self, of_corners: Array) -> Array:
        """Return values [elements, 4] summed at the nodes."""
        summed = np.bincount(self.quads.corners.ravel(), of_corners.ravel(), minlength=len(self.quads.nodes))
        return np.asarray(summed, dtype=np.float64)


def _nested_dissection(nodes: Array, members: Indices) -> list[int]:
    """Return nodes [nodes, 2] in an order whose factors fill in little: two halves, then the line between them.

    After George, "Nested dissection of a regular finite element mesh", SIAM Journal on Numerical Analysis 10 (1973).
    """
    places = nodes[members]
    longer = int(np.ptp(places[:, 1]) > np.ptp(places[:, 0]))
    along = np.round(places[:, longer], 9)
    lines = np.unique(along)
    if len(members) <= _LEAF or len(lines) < 3:
        return members.tolist()
    middle = lines[len(lines) // 2]
    halves = (_nested_dissection(nodes, members[side]) for side in (along < middle, along > middle))
    return [*(node for half in halves for node in half), *members[along == middle].tolist()]
