"""Maps over a plane: of a field, its error, a residual, in colours that change as smoothly as the values do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy.spatial import cKDTree

from pinncore.problems import Column
from pinncore.problems.columns import Line

from .drawing import INK, QUIET, STYLE, Array, axis_label, fitted_title, power_of_ten, spans_decades, unit_label
from .surfaces import Surface, surface_of

DECADES: Final = 6  # of a logarithmic colour scale, at most

_SIZE: Final = (4.0, 3.2)  # inches
_SMALL: Final = (2.4, 1.95)  # two of them fit side by side on a phone
_NARROWEST: Final = 0.25  # height over width from which a plane is drawn with lengths in proportion
_BETWEEN: Final = 40  # points of an outline from corner to corner, to which a residual is continued
_FLAT: Final = 0.02  # share of a colour scale at its ends without contour lines, where many fields are level


@dataclass(frozen=True)
class Plane:
    """Points over two coordinates, arrays of shape [points], with the labels of the axes and lines to draw on them.

    Lengths are in proportion where the coordinates have the `same_unit`.
    """

    first: Array
    second: Array
    labels: tuple[str, str]
    marks: Sequence[Line] = ()
    same_unit: bool = True

    @staticmethod
    def of(axes: tuple[Column, Column], places: tuple[Array, Array], marks: Sequence[Line] = ()) -> Plane:
        """Return points over two coordinates, whose values are `places`."""
        x, y = axes
        labels = axis_label(x.symbol, x.unit), axis_label(y.symbol, y.unit)
        return Plane(*places, labels, marks, x.unit == y.unit)

    @cached_property
    def surface(self) -> Surface | None:
        """Return what is drawn on; None where the points do not span a plane."""
        return surface_of(self.first, self.second, same_unit=self.same_unit)

    @property
    def proportion(self) -> float | None:
        """Return height over width of the picture where lengths are in proportion, None where the picture decides."""
        if self.surface is None or not self.same_unit:
            return None
        width, height = (high - low for low, high in self.surface.limits)
        return height / width if _NARROWEST <= height / width <= 1 / _NARROWEST else None


@dataclass(frozen=True)
class Map:
    """A quantity `values` [points] over a plane, with all that makes it a picture; `figure_of` draws it.

    `label` stands beside the colour scale; `lines` is the colour of contour lines, none where it is empty. The outline
    is that of the surface `within`, where there is one.
    """

    plane: Plane
    values: Array
    title: str
    label: str
    colors: str
    scale: Normalize
    lines: str = ""
    within: Surface | None = None


@matplotlib.rc_context(STYLE)
def figure_of(*maps: Map, small: bool = False) -> Figure:
    """Draw maps below each other, `small` where many pictures stand side by side."""
    heights = [_height(each.plane, small=small) for each in maps]
    figure = Figure(figsize=((_SMALL if small else _SIZE)[0], sum(heights)), layout="compressed")
    for axes, each in zip(np.ravel(figure.subplots(len(maps), height_ratios=heights)), maps, strict=True):
        draw(axes, each, small=small)
    return figure


def field_map(plane: Plane, values: Array, *, title: str, unit: str, limits: tuple[float, float]) -> Map:
    """Return a quantity [points] in its `unit` on the linear colour scale `limits`, with a line at each tick."""
    factor, power = power_of_ten(max(map(abs, limits)))
    low, high = limits[0] * factor, limits[1] * factor
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return Map(plane, values * factor, title, unit_label(power, unit), "viridis", Normalize(low, high), lines="white")


def log_map(plane: Plane, values: Array, *, title: str, unit: str, of: Array) -> Map:
    """Return a quantity [points] in its `unit` on a logarithmic colour scale, that of the positive values `of` a field.

    What is below the scale, also what is not positive, has its lowest colour.
    """
    low, high = log_limits(of) or (1.0, 10.0)
    factor, power = power_of_ten(high)
    scale = LogNorm(low * factor, high * factor)
    return Map(plane, values * factor, title, unit_label(power, unit), "viridis", scale, lines="white")


def relative_map(plane: Plane, percent: Array, *, title: str) -> Map:
    """Return positive relative errors [points] in per cent, over the three decades below their 99.5th percentile."""
    largest = _largest(percent)
    return Map(plane, percent, title, "%", "magma", LogNorm(largest / 1000, largest))


def error_map(plane: Plane, error: Array, *, title: str, unit: str, of: Array | None = None) -> Map:
    """Return a signed error [points] in its `unit`, on a scale symmetric about 0, that of the error `of` a field.

    The scale ends at the 99.5th percentile of the absolute error, so that a few points do not hide the rest.
    """
    largest = _largest(error if of is None else of)
    factor, power = power_of_ten(largest)
    scale = Normalize(-largest * factor, largest * factor)
    return Map(plane, error * factor, title, unit_label(power, unit), "RdBu_r", scale)


def residual_map(plane: Plane, residual: Array, *, within: Plane, title: str, label: str) -> Map:
    """Return a residual [points] on a colour scale symmetric about 0; `label` says what it is measured in.

    The points `within` give the outline of the domain. From the outermost points to there, the residual of the nearest
    point is drawn.
    """
    domain, largest = within.surface, _largest(residual)
    if domain is not None:
        corners = np.unique(np.concatenate([_closer(line) for line in domain.outline]), axis=0)
        places = np.stack([plane.first, plane.second], axis=1)
        size = np.array([1.0, 1.0]) if plane.same_unit else np.ptp(corners, axis=0)
        nearest = cKDTree(places / size).query(corners / size)[1]
        first, second = np.concatenate([places, corners]).T
        plane = replace(plane, first=first, second=second)
        residual = np.concatenate([residual, residual[nearest]])
    return Map(plane, residual, title, label, "PuOr_r", Normalize(-largest, largest), within=domain)


def log_limits(values: Array) -> tuple[float, float] | None:
    """Return the ends of a logarithmic scale for the positive values, None where they are too close or missing."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not spans_decades(positive):
        return None
    low, high = np.quantile(positive, [0.001, 0.999])
    return max(float(low), 10.0**-DECADES * float(high)), float(high)


def _height(plane: Plane, *, small: bool) -> float:
    """Return the height in inches: less for a plane that is wide and low."""
    width, height = _SMALL if small else _SIZE
    if plane.proportion is None:
        return height
    beside, above = (1.0, 0.8) if small else (1.2, 0.9)  # names of axes, colour scale and title, about
    return min(height, above + plane.proportion * (width - beside))


def draw(axes: Axes, drawn: Map, *, small: bool) -> None:
    """Draw one map on its axes."""
    plane, scale, surface = drawn.plane, drawn.scale, drawn.plane.surface
    axes.grid(False)
    axes.spines[:].set_visible(False)
    xlabel, ylabel = plane.labels
    axes.set(xlabel=xlabel, ylabel=ylabel)
    fitted_title(axes, drawn.title, most=20 if small else 36)
    if surface is None:
        text = "the points do not span a plane" if len(plane.first) else "no points"
        axes.text(0.5, 0.5, text, ha="center", color=QUIET, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    low, high = float(scale.vmin or 0.0), float(scale.vmax or 1.0)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    log, slack = isinstance(scale, LogNorm), 1e-6 * (high - low)
    filled = surface.fill(axes, drawn.values, drawn.colors, scale)
    is_below, is_above = drawn.values < low - slack * (not log), drawn.values > high + slack
    beside = axes.inset_axes((1.05, 0, 0.06, 1))
    extend = beyond[bool(is_below.any()), bool(is_above.any())]
    bar = axes.figure.colorbar(filled, cax=beside, extend=extend, extendfrac=0.04)
    ticks = _bar_ticks(low, high, log=log)
    bar.set_ticks(list(ticks), labels=[f"{tick:.10g}".replace("-", "\N{MINUS SIGN}") for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.set_label(drawn.label or "\N{NO-BREAK SPACE}")  # so that plots side by side have the same size
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    start, end = (float(scale.inverse(share)) for share in (_FLAT, 1 - _FLAT))
    if drawn.lines:
        surface.contour(axes, drawn.values, scale, [tick for tick in ticks if start < tick < end], drawn.lines)
    _frame(axes, drawn.within or surface, plane.marks, small=small)
    if plane.proportion is not None:
        axes.set_aspect("equal")


def _closer(line: Array) -> Array:
    """Return the points [points, 2] of a line with more of them between its corners."""
    steps = np.arange(_BETWEEN)[:, None] / _BETWEEN
    pieces = [start + steps * (end - start) for start, end in itertools.pairwise(line)]
    return np.concatenate([*pieces, line[-1:]])


def _bar_ticks(low: float, high: float, *, log: bool) -> Array:
    if log:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 3 else (1.0,)
        ticks = np.asarray(LogLocator(10, subs=subs).tick_values(low, high))
    else:
        ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10], symmetric=low == -high).tick_values(low, high))
    slack = 1e-9 * (high - low)
    return ticks[(ticks >= low - slack) & (ticks <= high + slack)]


def _frame(axes: Axes, surface: Surface, marks: Sequence[Line], *, small: bool) -> None:
    """Draw the boundary, and inside it the marks as bold lines that hide no tick."""
    for line in surface.outline:
        axes.plot(*line.T, color=INK, linewidth=0.8, solid_capstyle="round", clip_on=False)
    for mark in marks:
        axes.plot(*zip(*mark, strict=True), color=INK, linewidth=5, solid_capstyle="butt", zorder=4)
    axes.set(xlim=surface.limits[0], ylim=surface.limits[1])
    for axis, most in ((axes.xaxis, 3 if small else 5), (axes.yaxis, 4)):
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))


def _largest(values: Array) -> float:
    return float(np.quantile(np.abs(values), 0.995)) or 1.0
