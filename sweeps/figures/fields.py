"""Figures of the plate: contours of a strain, of its error and of the residual, on the mesh of the analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import INK, QUIET, STYLE, Array, Format, picture_bytes
from .mesh import Mesh, mesh_of

Line = Sequence[tuple[float, float]]

_MOST_EDGES: Final = 30_000  # the lines of finer meshes would hide the field


@matplotlib.rc_context(STYLE)
def strain_field(
    x_mm: Array,
    y_mm: Array,
    strain: Array,
    *,
    title: str,
    limits: tuple[float, float],
    notch: Line | None = None,
    format: Format = "svg",
) -> bytes:
    """Draw filled contours of a dimensionless strain over the plate, on the colour scale `limits`.

    `x_mm`, `y_mm`, `strain`: shape [points], anywhere in the plane; `notch`: the corners of a line in mm.
    """
    factor, power = _power_of_ten(max(map(abs, limits)))
    low, high = limits[0] * factor, limits[1] * factor
    levels = np.linspace(low, high if high > low else low + 1.0, 41)
    figure, axes, mesh = _plate(x_mm, y_mm, title)
    if mesh is not None:
        filled = _contours(axes, mesh, strain * factor, levels, "viridis", every=5, lines="white")
        _bar(figure, axes, filled, f"strain{power} (dimensionless)", MaxNLocator(6))
        _lines(axes, mesh, notch, color="white")
    return picture_bytes(figure, format)


@matplotlib.rc_context(STYLE)
def strain_error(
    x_mm: Array, y_mm: Array, error: Array, *, title: str, notch: Line | None = None, format: Format = "svg"
) -> bytes:
    """Draw filled contours of the signed error of a dimensionless strain, on a colour scale symmetric about 0.

    The scale ends at the 99.5th percentile of the absolute error, so that a few points do not hide the rest.
    """
    factor, power = _power_of_ten(_largest(error))
    figure, axes, mesh = _plate(x_mm, y_mm, title)
    if mesh is not None:
        _signed(figure, axes, mesh, error * factor, f"error{power} (dimensionless)", "RdBu_r")
        _lines(axes, mesh, notch, color=INK)
    return picture_bytes(figure, format)


@matplotlib.rc_context(STYLE)
def residual_map(
    x_mm: Array,
    y_mm: Array,
    residual: Array,
    *,
    within: tuple[Array, Array],
    title: str,
    notch: Line | None = None,
    format: Format = "svg",
) -> bytes:
    """Draw filled contours of the residual of the equation over the RMS of the local strain, symmetric about 0.

    `within`: `x_mm` and `y_mm` of the points that give the outline of the plate.
    """
    figure, axes, mesh = _plate(x_mm, y_mm, title)
    if mesh is not None:
        _signed(figure, axes, mesh, residual, "residual / RMS of the local strain", "PuOr_r")
        _lines(axes, mesh_of(*within) or mesh, notch, color=INK)
    return picture_bytes(figure, format)


def _signed(figure: Figure, axes: Axes, mesh: Mesh, values: Array, label: str, colors: str) -> None:
    largest = _largest(values)
    levels = np.linspace(-largest, largest, 42)  # an even number: 0 lies inside a band, not on a line
    _bar(figure, axes, _contours(axes, mesh, values, levels, colors), label, MaxNLocator(7, symmetric=True))


def _plate(x_mm: Array, y_mm: Array, title: str) -> tuple[Figure, Axes, Mesh | None]:
    figure = Figure(figsize=(4.8, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("x in mm")
    axes.set_ylabel("y in mm")
    axes.set_title(title)
    mesh = mesh_of(x_mm, y_mm)
    if mesh is None:
        axes.text(0.5, 0.5, "the points do not span a plane", ha="center", color=QUIET, transform=axes.transAxes)
    return figure, axes, mesh


def _contours(
    axes: Axes, mesh: Mesh, values: Array, levels: Array, colors: str, *, every: int = 0, lines: str = ""
) -> Any:
    """Draw bands of colour, with a thin line at every `every`-th level, and return them."""
    triangles, at_vertices = mesh.triangulation, mesh.at_vertices(values)
    filled = axes.tricontourf(triangles, at_vertices, levels=levels, cmap=colors, extend="both")
    filled.set_rasterized(True)  # polygons side by side show their seams in SVG
    if every and np.ptp(at_vertices) > 0:
        axes.tricontour(
            triangles, at_vertices, levels=levels[every:-1:every], colors=lines, linewidths=0.5, alpha=0.7
        ).set_rasterized(True)
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


def _lines(axes: Axes, mesh: Mesh, notch: Line | None, *, color: str) -> None:
    """Draw the edges of the elements faintly, the boundary, and the notch as a bold line on it."""
    if 0 < len(mesh.edges) <= _MOST_EDGES:
        axes.add_collection(LineCollection(list(mesh.edges), colors=color, linewidths=0.3, alpha=0.18, rasterized=True))
    axes.add_collection(LineCollection(list(mesh.outline), colors=INK, linewidths=0.8, capstyle="round", clip_on=False))
    if notch is not None:
        axes.plot(*zip(*notch, strict=True), color=INK, linewidth=3.5, solid_capstyle="butt", clip_on=False, zorder=4)
    axes.set_xlim(mesh.x_mm.min(), mesh.x_mm.max())
    axes.set_ylim(mesh.y_mm.min(), mesh.y_mm.max())


def _largest(values: Array) -> float:
    return float(np.quantile(np.abs(values), 0.995)) or 1.0


def _power_of_ten(largest: float) -> tuple[float, str]:
    """Return a factor that makes `largest` a number from 1 to 10, and the words for the axis."""
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return 10.0**-exponent, f" in $10^{{{exponent}}}$" if exponent else ""
