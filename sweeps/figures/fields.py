"""Figures over a plane: a field, its error and the residual, in colours that change as smoothly as the values do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.tri import Triangulation
from scipy.spatial import cKDTree

from pinncore.mesh import Mesh, mesh_of
from pinncore.problems.columns import Line
from pinncore.problems.record import ProblemRecord

from .drawing import INK, QUIET, STYLE, Array, panel, spans_decades

DECADES: Final = 6  # of a logarithmic colour scale, at most
Place = tuple[float, ...]

_SIZE: Final = (4.0, 3.2)  # inches
_SMALL: Final = (2.4, 1.95)  # two of them fit side by side on a phone


@dataclass(frozen=True)
class Plane:
    """Points over two coordinates, arrays of shape [points], with the labels of the axes and lines to draw on them.

    Pictures of it are `is_small` where several stand in a row; they have no labels.
    """

    first: Array
    second: Array
    labels: tuple[str, str]
    marks: Sequence[Line] = ()
    is_small: bool = False

    @staticmethod
    def of(problem: ProblemRecord, columns: Mapping[str, Array], marks: Sequence[Line] = ()) -> Plane:
        """Return the points of a problem from columns that have its coordinates."""
        first, second = problem.coordinates
        x, y = (at.symbol + ("" if at.unit == "1" else f" in {at.unit}") for at in (first, second))
        return Plane(columns[first.name], columns[second.name], (x, y), marks)


class KeptField:
    """The field of one training, from the columns [points] of the table `fields`, with pictures of it."""

    def __init__(self, problem: ProblemRecord, columns: Mapping[str, Array], marks: Sequence[Line] = ()) -> None:
        self.plane, self._problem = Plane.of(problem, columns, marks), problem
        self.predicted, self.reference = columns["predicted"], columns["reference"]
        self.has_reference = bool(np.isfinite(self.reference).all())

    @property
    def pictures(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the pictures on linear colour scales, and of those on logarithmic ones.

        The latter exist for a field without negative values that spans at least a decade.
        """
        linear = ("predicted", "reference", "error") if self.has_reference else ("predicted",)
        if not self.spans_a_decade:
            return linear, ()
        has_relative = self.has_reference and bool((self._relative > 0).any())
        log = [f"{name}-log" for name in linear if name != "error"] + ["relative-error"] * has_relative
        return linear, tuple(log)

    @cached_property
    def spans_a_decade(self) -> bool:
        """Return whether the field has no negative values and a logarithmic scale shows more of it."""
        limits, largest = log_limits(self._scale), np.abs(self._scale).max()
        return limits is not None and limits[1] > 10 * limits[0] and self._scale.min() >= -1e-3 * largest

    @property
    def _scale(self) -> Array:
        return self.reference if self.has_reference else self.predicted

    @property
    def _relative(self) -> Array:
        """Return the absolute error over the reference in per cent [points], the largest where the latter is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = np.abs(100 * (self.predicted - self.reference) / self.reference)
        is_known = np.isfinite(percent)
        return np.where(is_known, percent, percent[is_known].max(initial=0.0))

    def picture(self, name: str, of: str = "", *, small: bool = False) -> Figure:
        """Draw one of `pictures`; prediction and reference share colour scales, and `of` ends the title.

        A `small` one has no names of axes.
        """
        plane, unit, shown = replace(self.plane, is_small=small), self._problem.unit, name.removesuffix("-log")
        if name == "error":
            return error_map(plane, self.predicted - self.reference, title=f"Error{of}", unit=unit)
        if name == "relative-error":
            return relative_map(plane, self._relative, title=f"Error / reference{of}")
        values = self.predicted if shown == "predicted" else self.reference
        if name != shown:
            return log_map(plane, values, title=f"{shown.capitalize()}, log{of}", unit=unit, of=self._scale)
        limits = (min(0.0, float(self._scale.min())), float(self._scale.max()))
        return field_map(plane, values, title=shown.capitalize() + of, unit=unit, limits=limits)


@matplotlib.rc_context(STYLE)
def field_map(plane: Plane, values: Array, *, title: str, unit: str, limits: tuple[float, float]) -> Figure:
    """Draw a quantity [points] in its `unit` on the linear colour scale `limits`, with a line at each of its ticks."""
    factor, power = _power_of_ten(max(map(abs, limits)))
    low, high = limits[0] * factor, limits[1] * factor
    scale = Normalize(low, high if high > low else low + 1.0)
    return _map(plane, values * factor, title, _label(power, unit), "viridis", scale, lines="white")


@matplotlib.rc_context(STYLE)
def log_map(plane: Plane, values: Array, *, title: str, unit: str, of: Array) -> Figure:
    """Draw a quantity [points] in its `unit` on a logarithmic colour scale, that of the positive values `of` a field.

    What is below the scale, also what is not positive, has its lowest colour.
    """
    low, high = log_limits(of) or (1.0, 10.0)
    factor, power = _power_of_ten(high)
    scale = LogNorm(low * factor, high * factor)
    return _map(plane, values * factor, title, _label(power, unit), "viridis", scale, lines="white")


@matplotlib.rc_context(STYLE)
def relative_map(plane: Plane, percent: Array, *, title: str) -> Figure:
    """Draw positive relative errors [points] in per cent, over the three decades below their 99.5th percentile."""
    largest = _largest(percent)
    return _map(plane, percent, title, "%", "magma", LogNorm(largest / 1000, largest))


@matplotlib.rc_context(STYLE)
def error_map(plane: Plane, error: Array, *, title: str, unit: str) -> Figure:
    """Draw a signed error [points] in its `unit`, on a colour scale symmetric about 0.

    The scale ends at the 99.5th percentile of the absolute error, so that a few points do not hide the rest.
    """
    factor, power = _power_of_ten(_largest(error))
    return _map(plane, error * factor, title, _label(power, unit), "RdBu_r", _symmetric(error * factor))


@matplotlib.rc_context(STYLE)
def residual_map(plane: Plane, residual: Array, *, within: Plane, title: str) -> Figure:
    """Draw the residual of the equation [points] over the RMS of its forcing, symmetric about 0.

    The points `within` give the outline of the domain. From the outermost points to there, the residual of the nearest
    point is drawn.
    """
    domain = mesh_of(within.first, within.second)
    if domain is not None:
        corners = np.unique(domain.outline.reshape(-1, 2), axis=0)
        places = np.stack([plane.first, plane.second], axis=1)
        nearest = cKDTree(places).query(corners)[1]
        first, second = np.concatenate([places, corners]).T
        plane = replace(plane, first=first, second=second)
        residual = np.concatenate([residual, residual[nearest]])
    return _map(plane, residual, title, "residual / RMS of the forcing", "PuOr_r", _symmetric(residual), within=domain)


def log_limits(values: Array) -> tuple[float, float] | None:
    """Return the ends of a logarithmic scale for the positive values, None where they are too close or missing."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not spans_decades(positive):
        return None
    low, high = np.quantile(positive, [0.001, 0.999])
    return max(float(low), 10.0**-DECADES * float(high)), float(high)


def _map(
    plane: Plane,
    values: Array,
    title: str,
    label: str,
    colors: str,
    scale: Normalize,
    *,
    lines: str = "",
    within: Mesh | None = None,
) -> Figure:
    """Draw values [points] in colours, in the outline of the mesh `within`; `lines` is the colour of contour lines."""
    figure, axes = panel(*(_SMALL if plane.is_small else _SIZE))
    axes.set_aspect("equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    xlabel, ylabel = ("", "") if plane.is_small else plane.labels
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    mesh = mesh_of(plane.first, plane.second)
    if mesh is None:
        axes.text(0.5, 0.5, "the points do not span a plane", ha="center", color=QUIET, transform=axes.transAxes)
        return figure
    low, high = float(scale.vmin or 0.0), float(scale.vmax or 1.0)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    inside = np.clip(values, low, high)
    log = isinstance(scale, LogNorm)
    at_vertices = np.exp(mesh.at_vertices(np.log(inside))) if log else mesh.at_vertices(inside)
    at_vertices = np.clip(at_vertices, low, high)
    triangles, slack = Triangulation(mesh.x, mesh.y, mesh.triangles), 1e-6 * (high - low)
    filled = axes.tripcolor(triangles, at_vertices, shading="gouraud", cmap=colors, norm=scale, rasterized=True)
    extend = beyond[bool((values < low - slack * (not log)).any()), bool((values > high + slack).any())]
    beside = axes.inset_axes((1.05, 0, 0.06, 1))
    bar = figure.colorbar(filled, cax=beside, extend=extend, extendfrac=0.04)
    ticks = _bar_ticks(low, high, log=log)
    bar.set_ticks(list(ticks), labels=[f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.set_label(label)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    levels = [tick for tick in ticks if at_vertices.min() < tick < at_vertices.max()]
    if lines and levels:
        contours = axes.tricontour(triangles, at_vertices, levels=levels, colors=lines, linewidths=0.5, alpha=0.6)
        contours.set_rasterized(True)
    _frame(axes, within or mesh, plane.marks)
    return figure


def _bar_ticks(low: float, high: float, *, log: bool) -> Array:
    if log:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 3 else (1.0,)
        ticks = np.asarray(LogLocator(10, subs=subs).tick_values(low, high))
    else:
        ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10], symmetric=low == -high).tick_values(low, high))
    slack = 1e-9 * (high - low)
    return ticks[(ticks >= low - slack) & (ticks <= high + slack)]


def _frame(axes: Axes, mesh: Mesh, marks: Sequence[Line]) -> None:
    """Draw the boundary, and inside it the marks as bold lines that hide no tick."""
    for line in joined(mesh.outline):  # edge by edge, thin lines on a screen look dotted
        axes.plot(*line.T, color=INK, linewidth=0.8, solid_capstyle="round", clip_on=False)
    for mark in marks:
        axes.plot(*zip(*mark, strict=True), color=INK, linewidth=5, solid_capstyle="butt", zorder=4)
    axes.set_xlim(mesh.x.min(), mesh.x.max())
    axes.set_ylim(mesh.y.min(), mesh.y.max())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def joined(edges: Array) -> list[Array]:
    """Return edges [edges, 2, 2] as lines [points, 2] along those that meet; a closed line ends where it begins."""
    ends: dict[Place, list[Place]] = {}
    for start, end in edges.tolist():
        ends.setdefault(tuple(start), []).append(tuple(end))
        ends.setdefault(tuple(end), []).append(tuple(start))
    lines = []
    for start in sorted(ends, key=lambda place: len(ends[place]) % 2 == 0):  # ends of open lines first
        while ends[start]:
            line = [start]
            while ends[line[-1]]:
                after = ends[line[-1]].pop()
                ends[after].remove(line[-1])
                line.append(after)
            lines.append(np.array(line))
    return lines


def _symmetric(values: Array) -> Normalize:
    largest = _largest(values)
    return Normalize(-largest, largest)


def _largest(values: Array) -> float:
    return float(np.quantile(np.abs(values), 0.995)) or 1.0


def _label(power: str, unit: str) -> str:
    """Return the words beside a colour scale: power of ten and unit."""
    words = " ".join(word for word in (power, "" if unit == "1" else unit) if word)
    return f"in {words}" if words else ""


def _power_of_ten(largest: float) -> tuple[float, str]:
    """Return a factor that makes `largest` a number from 1 to 10, and the power that it takes out."""
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return 10.0**-exponent, f"$10^{{{exponent}}}$" if exponent else ""
