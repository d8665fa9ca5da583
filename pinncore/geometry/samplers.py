"""Points in the unit cube: random and low-discrepancy sequences, and regular grids.

Sequences depend on a generator and give exactly as many points as asked for; grids depend on nothing and give at most
as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..errors import SettingError
from .checks import Array

LARGEST_ASPECT: Final = 10.0  # of the cells of a grid: coordinates of different units may differ by any factor
GAUSS_NODES: Final = (0.5 - 0.5 / math.sqrt(3.0), 0.5 + 0.5 / math.sqrt(3.0))  # in a cell of length 1

Draw = Callable[[int, "Cube", np.random.Generator], Array]


@dataclass(frozen=True)
class Cube:
    """The unit cube in front of a piece of a region: the length of each direction, and whether it has two ends."""

    lengths: tuple[float, ...]
    has_ends: tuple[bool, ...]

    @property
    def dimension(self) -> int:
        """Return the number of directions."""
        return len(self.lengths)


@dataclass(frozen=True)
class Sampler:
    """A way to place points; `draw` gives them [points, directions]. New rounds differ where it `is_random`."""

    name: str
    meaning: str
    draw: Draw
    is_random: bool = True


def sampler_of(name: str) -> Sampler:
    """Return the sampler called `name`. Raises `SettingError`."""
    if name not in SAMPLERS:
        raise SettingError("points_sampler", name, f"must be one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def grid_shape(count: int, lengths: Sequence[float]) -> tuple[int, ...]:
    """Return the cells in each direction of the finest grid of at most `count` cells that are about cubes.

    Lengths that differ by more than `LARGEST_ASPECT` count as if they differed by that.
    """
    longest = max(lengths)
    sides = [max(length, longest / LARGEST_ASPECT) for length in lengths]
    cells = [1] * len(sides)
    free = sorted(range(len(sides)), key=lambda i: sides[i])  # the shortest may have room for one cell only
    while free:
        per_length = (count / math.prod(sides[i] for i in free)) ** (1 / len(free))
        if sides[free[0]] * per_length >= 1:
            for i in free:
                cells[i] = math.floor(sides[i] * per_length * (1 + 1e-12))
            break
        free.pop(0)
    while True:
        finer = [
            i for i in range(len(cells)) if math.prod(cells) // cells[i] * (cells[i] + 1) <= count
        ]  # where one more layer of cells has room
        if not finer:
            return tuple(cells)
        cells[max(finer, key=lambda i: sides[i] / cells[i])] += 1


def product_grid(axes: Sequence[Array]) -> Array:
    """Return all points [points, directions] of a grid; the last direction runs fastest."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def centres(cells: int) -> Array:
    """Return the centres [cells] of equal cells of the unit interval."""
    return (np.arange(cells) + 0.5) / cells


def _sobol(count: int, cube: Cube, rng: np.random.Generator) -> Array:
    from scipy.stats import qmc  # takes a second to import

    points = qmc.Sobol(cube.dimension, scramble=True, rng=rng).random_base2(max(count - 1, 0).bit_length())
    return np.asarray(points[:count])


def _lhs(count: int, cube: Cube, rng: np.random.Generator) -> Array:
    from scipy.stats import qmc

    return np.asarray(qmc.LatinHypercube(cube.dimension, rng=rng).random(count))


def _uniform(count: int, cube: Cube, rng: np.random.Generator) -> Array:
    return rng.random((count, cube.dimension))


def _refined(count: int, cube: Cube, rng: np.random.Generator) -> Array:
    points = _sobol(count, cube, rng)
    return np.where(cube.has_ends, (1 - np.cos(np.pi * points)) / 2, points)


def _grid(count: int, cube: Cube, rng: np.random.Generator) -> Array:
    return product_grid([centres(cells) for cells in grid_shape(count, cube.lengths)])


def _gauss(count: int, cube: Cube, rng: np.random.Generator) -> Array:
    cells = grid_shape(max(count // 2**cube.dimension, 1), cube.lengths)
    return product_grid([(np.arange(n)[:, None] + GAUSS_NODES).ravel() / n for n in cells])


SAMPLERS: Final = {
    sampler.name: sampler
    for sampler in (
        Sampler("sobol", "scrambled Sobol sequence", _sobol),
        Sampler("lhs", "Latin hypercube", _lhs),
        Sampler("uniform", "independent, uniformly distributed", _uniform),
        Sampler("grid", "centres of a regular grid of at most so many cells", _grid, is_random=False),
        Sampler("gauss", "2-point Gauss-Legendre in every cell and direction of a grid", _gauss, is_random=False),
        Sampler("refined", "Sobol sequence, denser towards the ends of every coordinate (Chebyshev density)", _refined),
    )
}
