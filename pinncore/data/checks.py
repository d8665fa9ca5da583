"""What cannot be right in the tables of a damage analysis, and what is doubtful; each with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .points import Points

BOUNDARIES: Final = {"lrb": ("left/right", "x"), "btb": ("bottom/top", "y")}
ON_BOUNDARY: Final = 1e-6  # of the plate: farther from its edge, a node is not on it
OTHER_SIZE: Final = 5.0  # times the span of the Gauss points, which boundary nodes surround
LARGE_LENGTH: Final = 0.25  # l_c over the plate that is doubtful; 1 is refused


@dataclass(frozen=True)
class Where:
    """The file of a table, and the place of each of its rows there, such as "line 2"."""

    source: str
    place: Callable[[int], str]


def refuse(points: Mapping[str, Points], where: Mapping[str, Where]) -> None:
    """Raise `DataError` where tables cannot be right. `points` and `where` are by the names of tables."""
    for name, table in points.items():
        wrong = np.flatnonzero(table.g_mm2 <= 0)
        if len(wrong):
            raise DataError(
                f"data: {where[name].source}, {where[name].place(wrong[0])}, has g <= 0 ({table.g_mm2[wrong[0]]:g}); "
                "g = l_c^2/2 in mm^2 must be positive"
            )
    gauss, source = points["gauss_points"], where["gauss_points"].source
    if not gauss.elocal.any():
        raise DataError(f"data: {source} has elocal 0 in all {len(gauss)} rows: an unloaded increment has no solution")
    if gauss.enonlocal_true is not None and not gauss.enonlocal_true.any():
        raise DataError(
            f"data: {source} has enonlocal_true 0 in all {len(gauss)} rows: it is no reference. Leave the column out"
        )
    if max(np.ptp(gauss.x_mm), np.ptp(gauss.y_mm)) == 0:
        raise DataError(
            f"data: the {len(gauss)} points of {source} all lie at one place, x = {gauss.x_mm[0]:g} mm, "
            f"y = {gauss.y_mm[0]:g} mm"
        )
    _refuse_other_size(points)
    for name, table in points.items():
        _refuse_other_values(table, where[name])
    for name in BOUNDARIES:
        _refuse_other_boundary(points, name, where[name].source)
    size_mm, length_mm = _plate_mm(points), _longest_mm(points)
    if length_mm > size_mm:
        raise DataError(
            f"data: l_c = sqrt(2 g) = {length_mm:.3g} mm is {length_mm / size_mm:.3g} times the plate "
            f"({size_mm:.3g} mm): coordinates and g are in different units. Coordinates in m beside g in mm^2 are "
            "stated so: length: {x: m, y: m, g: mm}"
        )
    for name in BOUNDARIES:
        _refuse_other_factor(gauss, points[name], name)


def warnings(points: Mapping[str, Points], where: Mapping[str, Where]) -> Iterator[str]:
    """Yield a sentence on everything doubtful in tables that `refuse` has passed."""
    for name, table in points.items():
        first, second = table.repeated
        if len(first):
            yield (
                f"{where[name].source}: {len(first)} of {len(table)} rows repeat another exactly, first "
                f"{where[name].place(second[0])} that of {where[name].place(first[0])}: they count twice in the loss"
            )
    for name, (label, axis) in BOUNDARIES.items():
        off = _off_boundary(points, name)
        if off.any():
            row = int(np.flatnonzero(off)[0])
            yield (
                f"{where[name].source}: {off.sum()} of {len(off)} {label} nodes lie neither at the smallest nor at the "
                f"largest {axis} of all points, first {_position(points[name], row)} in {where[name].place(row)}: "
                "right for a plate that is no rectangle, else wrong"
            )
    gauss = points["gauss_points"]
    if min(np.ptp(gauss.x_mm), np.ptp(gauss.y_mm)) == 0:
        yield f"all {len(gauss)} Gauss points lie on one line"
    size_mm, length_mm = _plate_mm(points), _longest_mm(points)
    if length_mm > LARGE_LENGTH * size_mm:
        yield (
            f"l_c = {length_mm:.3g} mm is {length_mm / size_mm:.2g} of the plate ({size_mm:.3g} mm): are coordinates "
            "and g in the same unit?"
        )
    spacing_mm = float(np.sqrt(np.ptp(gauss.x_mm) * np.ptp(gauss.y_mm))) / max(np.sqrt(len(gauss)) - 1, 1.0)
    shortest_mm = float(np.sqrt(2 * gauss.g_mm2.min()))
    if shortest_mm < spacing_mm:
        yield (
            f"l_c = {shortest_mm:.3g} mm is smaller than the spacing of the Gauss points (about {spacing_mm:.3g} mm): "
            "the solution is then almost elocal itself, or coordinates and g are in different units"
        )


def contradictions(points: Mapping[str, Points], factor: int) -> Iterator[str]:
    """Yield a sentence where elocal, divided by `factor`, and the reference are far apart.

    Raises `DataError` where the other factor would bring them together.
    """
    gauss = points["gauss_points"]
    if gauss.enonlocal_true is None or not gauss.enonlocal_true.mean():
        return
    ratio = float(gauss.elocal.mean() / gauss.enonlocal_true.mean())
    found = factor_of(ratio)
    if found not in (None, factor):
        raise DataError(
            f"data: elocal_factor: {factor} is stated, but mean elocal is {ratio:.3g} times mean enonlocal_true, which "
            f"is factor {found}. State elocal_factor: {found} or auto"
        )
    if found is None:
        yield (
            f"mean elocal, divided by the factor {factor} as stated, is {ratio / factor:.3g} times mean "
            "enonlocal_true; without flux through the boundary the two are equal"
        )


def factor_of(ratio: float) -> int | None:
    """Return the factor 1 or 10 that a ratio of mean elocal to mean enonlocal_true stands for, or None."""
    return next((factor for factor in (1, 10) if 0.5 < ratio / factor < 2), None)


def _plate_mm(points: Mapping[str, Points]) -> float:
    return float(max(high - low for low, high in _limits(points).values()))


def _longest_mm(points: Mapping[str, Points]) -> float:
    return float(np.sqrt(2 * max(table.g_mm2.max() for table in points.values())))


def _limits(points: Mapping[str, Points]) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest x and y of all points."""
    every = {
        "x": np.concatenate([table.x_mm for table in points.values()]),
        "y": np.concatenate([table.y_mm for table in points.values()]),
    }
    return {axis: (float(values.min()), float(values.max())) for axis, values in every.items()}


def _refuse_other_values(table: Points, where: Where) -> None:
    first, second = table.repeated
    for name in ("elocal", "g_mm2", "enonlocal_true"):
        values = table.columns.get(name)
        if values is None:
            continue
        other = np.flatnonzero(values[first] != values[second])
        if len(other):
            one, two = int(first[other[0]]), int(second[other[0]])
            raise DataError(
                f"data: {where.source} has {len(other)} places twice with other values, first "
                f"{_position(table, one)} in {where.place(one)} and {where.place(two)} ({name} {values[one]:g} and "
                f"{values[two]:g}): are there two increments in one file? Keep one"
            )


def _position(table: Points, row: int) -> str:
    return f"x = {table.x_mm[row]:g} mm, y = {table.y_mm[row]:g} mm"


def _refuse_other_size(points: Mapping[str, Points]) -> None:
    """Raise `DataError` where the Gauss points and the boundary nodes span plates of different sizes."""
    inside_mm = _plate_mm({"gauss_points": points["gauss_points"]})
    around_mm = _plate_mm({name: points[name] for name in BOUNDARIES})
    if not 1 / OTHER_SIZE < around_mm / inside_mm < OTHER_SIZE:
        raise DataError(
            f"data: the Gauss points span {inside_mm:.3g} mm, and the boundary nodes {around_mm:.3g} mm: their "
            "coordinates are in different units"
        )


def _off_boundary(points: Mapping[str, Points], name: str, axis: str = "") -> NDArray[np.bool_]:
    """Return which nodes [nodes] of a boundary lie at neither end of its axis, or of the axis given."""
    axis = axis or BOUNDARIES[name][1]
    values = points[name].x_mm if axis == "x" else points[name].y_mm
    low, high = _limits(points)[axis]
    return np.minimum(np.abs(values - low), np.abs(values - high)) > ON_BOUNDARY * _plate_mm(points)


def _refuse_other_boundary(points: Mapping[str, Points], name: str, source: str) -> None:
    """Raise `DataError` where most nodes of a boundary do not lie on it."""
    label, axis = BOUNDARIES[name]
    off = _off_boundary(points, name)
    if off.mean() <= 0.5:
        return
    low, high = _limits(points)[axis]
    other = "y" if axis == "x" else "x"
    elsewhere = int((off & ~_off_boundary(points, name, other)).sum())
    advice = f"{elsewhere} of them lie at the ends of {other}: are the tables lrb and btb exchanged?"
    raise DataError(
        f"data: {off.sum()} of the {len(off)} {label} nodes in {source} lie neither at {axis} = {low:g} mm nor at "
        f"{axis} = {high:g} mm, the ends of all points. "
        + (advice if elsewhere > off.sum() / 2 else "Are they in another unit than the Gauss points?")
    )


def _refuse_other_factor(gauss: Points, nodes: Points, name: str) -> None:
    """Raise `DataError` where boundary nodes differ too much from the nearest Gauss points: a factor of ten."""
    from scipy.spatial import KDTree

    tree = KDTree(np.stack([gauss.x_mm, gauss.y_mm], axis=1))
    nearest = gauss.elocal[tree.query(np.stack([nodes.x_mm, nodes.y_mm], axis=1))[1]]
    positive = (nearest > 0) & (nodes.elocal > 0)
    if not positive.any():
        return
    ratio = float(np.median(nodes.elocal[positive] / nearest[positive]))
    if not 1 / 3 < ratio < 3:
        raise DataError(
            f"data: elocal in the table {name} is {ratio:.3g} times that of the nearest Gauss points: the "
            "tables are in different units (a factor of ten?)"
        )
