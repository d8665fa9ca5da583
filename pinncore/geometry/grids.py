"""The regular grid on which errors are measured and pictures drawn."""

from __future__ import annotations

from .checks import Array
from .pieces import Flat
from .region import Region
from .samplers import centres, product_grid


def field_grid(region: Region, about: int = 10_000) -> dict[str, Array]:
    """Return the centres of a regular grid that lie in a region, by coordinate [points].

    Every coordinate has the same number of cells, so that about `about` points are left in the region: 100 x 100 in a
    box of two coordinates. One coordinate gets a tenth as many. Raises `SettingError`.
    """
    whole = Flat(region.limits)
    dimension = whole.cube.dimension
    wanted = max(about // 10, 1) if dimension == 1 else about
    points = _centres(whole, wanted)
    inside = region.contains(points)
    if not inside.all() and inside.any():
        points = _centres(whole, round(wanted / float(inside.mean())))
        inside = region.contains(points)
    return {name: values[inside] for name, values in points.items()}


def _centres(whole: Flat, about: int) -> dict[str, Array]:
    dimension = whole.cube.dimension
    cells = max(round(about ** (1 / dimension)), 1)
    return whole.at(product_grid([centres(cells)] * dimension))
