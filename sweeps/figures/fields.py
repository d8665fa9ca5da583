"""Figures over a plane: contours of a field, of its error and of the residual, on the mesh of an analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation

from pinncore.mesh import Mesh, mesh_of
from pinncore.problems import Problem
from pinncore.problems.base import Line

from .drawing import INK, QUIET, STYLE, Array, panel

_MOST_EDGES: Final = 30_000  # the lines of finer meshes would hide the field


@dataclass(frozen=True)
class Plane:
    """Points over two coordinates, arrays of shape [points], with the labels of the axes and lines to draw on them."""

    first: Array
    second: Array
    labels: tuple[str, str]
    marks: Sequence[Line] = ()

    @staticmethod
    def of(problem: type[Problem], columns: Mapping[str, Array], marks: Sequence[Line] = ()) -> Plane:
        """Return the points of a problem from columns that have its coordinates."""
        first, second = problem.coordinates
        x, y = (at.symbol + ("" if at.unit == "1" else f" in {at.unit}") for at in (first, second))
        return Plane(columns[first.name], columns[second.name], (x, y), marks)


class KeptField:
    """The field of one training, from the columns [points] of the table `fields`, with pictures of it."""

    def __init__(self, problem: type[Problem], columns: Mapping[str, Array], marks: Sequence[Line] = ()) -> None:
        self.plane, self._problem = Plane.of(problem, columns, marks), problem
        self.predicted, self.reference = columns["predicted"], columns["reference"]
        self.has_reference = bool(np.isfinite(self.reference).all())

    def picture(self, name: str, of: str = "") -> Figure:
        """Draw the prediction, the reference on the same colour scale, or their difference; `of` ends the title."""
        title, unit = name.capitalize() + of, self._problem.unit
        if name == "error":
            return error_map(self.plane, self.predicted - self.reference, title=title, unit=unit)
        scale = self.reference if self.has_reference else self.predicted
        limits = (min(0.0, float(scale.min())), float(scale.max()))
        values = self.predicted if name == "predicted" else self.reference
        return field_map(self.plane, values, title=title, label=self._problem.quantity, unit=unit, limits=limits)


@matplotlib.rc_context(STYLE)
def field_map(plane: Plane, values: Array, *, title: str, label: str, unit: str, limits: tuple[float, float]) -> Figure:
    """Draw filled contours of a quantity [points] in its `unit`, on the colour scale `limits`."""
    factor, power = _power_of_ten(max(map(abs, limits)))
    low, high = limits[0] * factor, limits[1] * factor
    levels = np.linspace(low, high if high > low else low + 1.0, 41)
    figure, axes, mesh = _axes(plane, title)
    if mesh is not None:
        filled = _contours(axes, mesh, values * factor, levels, "viridis")
        if np.ptp(at_vertices := mesh.at_vertices(values * factor)) > 0:
            lines = axes.tricontour(
                Triangulation(mesh.x, mesh.y, mesh.triangles),
                at_vertices,
                levels=levels[5:-1:5],
                colors="white",
                linewidths=0.5,
                alpha=0.7,
            )
            lines.set_rasterized(True)
        _bar(figure, axes, filled, f"{label}{power} ({_unit(unit)})", MaxNLocator(6))
        _lines(axes, mesh, plane.marks, color="white")
    return figure


@matplotlib.rc_context(STYLE)
def error_map(plane: Plane, error: Array, *, title: str, unit: str) -> Figure:
    """Draw filled contours of a signed error [points] in its `unit`, on a colour scale symmetric about 0.

    The scale ends at the 99.5th percentile of the absolute error, so that a few points do not hide the rest.
    """
    factor, power = _power_of_ten(_largest(error))
    return _signed_map(plane, error * factor, title, f"error{power} ({_unit(unit)})", "RdBu_r", within=plane)


@matplotlib.rc_context(STYLE)
def residual_map(plane: Plane, residual: Array, *, within: Plane, title: str) -> Figure:
    """Draw filled contours of the residual of the equation over the RMS of its forcing, symmetric about 0.

    The points `within` give the outline of the domain.
    """
    return _signed_map(plane, residual, title, "residual / RMS of the forcing", "PuOr_r", within=within)


def _unit(unit: str) -> str:
    return "dimensionless" if unit == "1" else unit


def _signed_map(plane: Plane, values: Array, title: str, label: str, colors: str, *, within: Plane) -> Figure:
    figure, axes, mesh = _axes(plane, title)
    if mesh is not None:
        largest = _largest(values)
        levels = np.linspace(-largest, largest, 42)  # an even number: 0 lies inside a band, not on a line
        _bar(figure, axes, _contours(axes, mesh, values, levels, colors), label, MaxNLocator(7, symmetric=True))
        _lines(axes, mesh_of(within.first, within.second) or mesh, plane.marks, color=INK)
    return figure


def _axes(plane: Plane, title: str) -> tuple[Figure, Axes, Mesh | None]:
    figure, axes = panel(4.8, 3.9)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=plane.labels[0], ylabel=plane.labels[1], title=title)
    mesh = mesh_of(plane.first, plane.second)
    if mesh is None:
        axes.text(0.5, 0.5, "the points do not span a plane", ha="center", color=QUIET, transform=axes.transAxes)
    return figure, axes, mesh


def _contours(axes: Axes, mesh: Mesh, values: Array, levels: Array, colors: str) -> Any:
    """Draw bands of colour and return them."""
    triangles, at_vertices = Triangulation(mesh.x, mesh.y, mesh.triangles), mesh.at_vertices(values)
    filled = axes.tricontourf(triangles, at_vertices, levels=levels, cmap=colors, extend="both")
    filled.set_rasterized(True)  # polygons side by side show their seams in SVG
    return filled


def _bar(figure: Figure, axes: Axes, filled: Any, label: str, ticks: MaxNLocator) -> None:
    bar = figure.colorbar(filled, ax=axes, shrink=0.92, pad=0.03, extendfrac=0.03)
    low, high = filled.levels[0], filled.levels[-1]
    slack = 1e-9 * (high - low)
    bar.set_ticks([tick for tick in ticks.tick_values(low, high) if low - slack <= tick <= high + slack])
    bar.set_label(label)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def _lines(axes: Axes, mesh: Mesh, marks: Sequence[Line], *, color: str) -> None:
    """Draw the edges of the elements faintly, the boundary, and the marks as bold lines on it."""
    if 0 < len(mesh.edges) <= _MOST_EDGES:
        axes.add_collection(LineCollection(list(mesh.edges), colors=color, linewidths=0.3, alpha=0.18, rasterized=True))
    axes.add_collection(LineCollection(list(mesh.outline), colors=INK, linewidths=0.8, capstyle="round", clip_on=False))
    for mark in marks:
        axes.plot(*zip(*mark, strict=True), color=INK, linewidth=3.5, solid_capstyle="butt", clip_on=False, zorder=4)
    axes.set_xlim(mesh.x.min(), mesh.x.max())
    axes.set_ylim(mesh.y.min(), mesh.y.max())


def _largest(values: Array) -> float:
    return float(np.quantile(np.abs(values), 0.995)) or 1.0


def _power_of_ten(largest: float) -> tuple[float, str]:
    """Return a factor that makes `largest` a number from 1 to 10, and the words for the axis."""
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return 10.0**-exponent, f" in $10^{{{exponent}}}$" if exponent else ""
