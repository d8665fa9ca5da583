"""Gradient-enhanced damage: the local equivalent strain, the damage law and the elastic stiffness in plane strain.

Damage after Peerlings, de Borst, Brekelmans and de Vree, "Gradient enhanced damage for quasi-brittle materials",
International Journal for Numerical Methods in Engineering 39 (1996); the equivalent strain after Mazars, without the
principal strain out of the plane, which is zero. Strains are vectors (e_xx, e_yy, 2 e_xy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .quads import Array


@dataclass(frozen=True)
class Material:
    """An isotropic elastic material that softens: `D = d_max (1 - e_d (1 - a)/k - a exp(-b (k - e_d)))` for k > e_d."""

    shear_modulus_mpa: float
    poisson_ratio: float
    internal_length_mm: float
    threshold: float  # e_d, a strain
    share: float  # a
    rate: float  # b
    largest_damage: float  # d_max

    @property
    def gradient_mm2(self) -> float:
        """Return g = l_c^2 / 2."""
        return self.internal_length_mm**2 / 2

    @property
    def stiffness_mpa(self) -> Array:
        """Return the undamaged stiffness [3, 3] in plane strain."""
        shear, ratio = self.shear_modulus_mpa, self.poisson_ratio
        lame = 2 * shear * ratio / (1 - 2 * ratio)
        return np.array([[lame + 2 * shear, lame, 0], [lame, lame + 2 * shear, 0], [0, 0, shear]])

    def damage(self, history: Array) -> Array:
        """Return the damage at points whose largest non-local strain so far is k = `history`."""
        k = np.maximum(history, self.threshold)
        left = self.threshold * (1 - self.share) / k + self.share * np.exp(-self.rate * (k - self.threshold))
        return self.largest_damage * (1 - left)

    def damage_slope(self, history: Array) -> Array:
        """Return dD/dk, zero up to the threshold."""
        k = np.maximum(history, self.threshold)
        slope = self.threshold * (1 - self.share) / k**2
        slope = slope + self.share * self.rate * np.exp(-self.rate * (k - self.threshold))
        return np.where(history > self.threshold, self.largest_damage * slope, 0.0)


def equivalent_strain(strain: Array) -> tuple[Array, Array]:
    """Return e = sqrt(<e1>^2 + <e2>^2) [...] and its derivatives [..., 3] from strains [..., 3].

    e1 and e2 are the principal strains in the plane, `<.>` the positive part. The derivatives are zero where e is.
    """
    mean, half = (strain[..., 0] + strain[..., 1]) / 2, (strain[..., 0] - strain[..., 1]) / 2
    shear = strain[..., 2] / 2
    radius = np.hypot(half, shear)
    first, second = np.maximum(mean + radius, 0.0), np.maximum(mean - radius, 0.0)
    equivalent = np.hypot(first, second)
    divisor = np.where(equivalent > 0, equivalent, 1.0)
    to_mean = (first + second) / divisor
    to_radius = (first - second) / divisor / np.where(radius > 0, radius, 1.0)
    slopes = to_mean + to_radius * half, to_mean - to_radius * half, to_radius * shear
    return equivalent, np.stack(slopes, axis=-1) / 2
