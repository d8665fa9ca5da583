"""Figures of single trials: functions from arrays to the bytes of an SVG or PNG picture, without any global state.

Backgrounds are transparent: a page puts them on a light card of its own. Text in SVG is drawn as outlines, so that a
picture looks the same wherever it is opened and loads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from .descriptions import STAGES
from .drawing import BEST, GRID, INK, POINTS, QUIET, STYLE, Array, Format, drawn, positive, readable_scale

TERM_COLORS = ("#2f6db3", "#d9822b", "#3c8c5a", "#8456a8", "#8a6d3b", "#4b9fa8")


@matplotlib.rc_context(STYLE)
def strain_field(
    x_mm: Array, y_mm: Array, strain: Array, *, title: str, limits: tuple[float, float], format: Format = "svg"
) -> bytes:
    """Filled contours of a dimensionless strain over the plate, on the colour scale `limits`.

    `x_mm`, `y_mm`, `strain`: shape [points], anywhere in the plane.
    """
    factor, power = _power_of_ten(max(map(abs, limits)))
    figure, axes = _plate(x_mm, y_mm, title)
    low, high = limits[0] * factor, limits[1] * factor
    high = high if high > low else low + 1.0
    levels = np.linspace(low, high, 33)
    triangles = Triangulation(x_mm, y_mm)
    filled = axes.tricontourf(triangles, strain * factor, levels=levels, cmap="viridis", extend="both")
    filled.set_rasterized(True)  # polygons side by side show their seams in SVG
    axes.tricontour(triangles, strain * factor, levels=levels[4:-1:4], colors="white", linewidths=0.4, alpha=0.6)
    bar = figure.colorbar(filled, ax=axes, shrink=0.86, pad=0.03, extendfrac=0.03)
    bar.set_ticks([tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high])
    bar.set_label(f"strain{power} (dimensionless)")
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    return drawn(figure, format)


@matplotlib.rc_context(STYLE)
def strain_error(x_mm: Array, y_mm: Array, error: Array, *, title: str, format: Format = "svg") -> bytes:
    """Signed error of a dimensionless strain at each Gauss point, on a colour scale symmetric about 0.

    The scale ends at the 99.5th percentile of the absolute error, so that a few points do not hide the rest.
    """
    limit = float(np.quantile(np.abs(error), 0.995)) or 1.0
    factor, power = _power_of_ten(limit)
    figure, axes = _plate(x_mm, y_mm, title)
    size = 1.25 * 200.0 / math.sqrt(len(error))  # touching, although the points are not evenly spaced; plate 200 pt
    shown = axes.scatter(
        x_mm,
        y_mm,
        c=error * factor,
        s=size**2,
        marker="s",
        linewidths=0,
        cmap="RdBu_r",
        norm=CenteredNorm(0.0, limit * factor),
        rasterized=True,
    )
    bar = figure.colorbar(shown, ax=axes, shrink=0.86, pad=0.03, extend="both", extendfrac=0.03)
    bar.set_label(f"error{power} (dimensionless)")
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    return drawn(figure, format)


@matplotlib.rc_context(STYLE)
def training_curves(curve: Mapping[str, Any], *, title: str, format: Format = "svg") -> bytes:
    """Loss with its terms, and below it the error, over the evaluations of one trial; the phases are named.

    `curve`: the columns of one trial in the table of curves, arrays of shape [rows]. Without a reference field there
    is no error to draw.
    """
    evaluations = np.asarray(curve["evaluations"], dtype=float)
    error = 100 * positive(curve["rel_l2"])
    known = bool(np.isfinite(error).any())
    figure = Figure(figsize=(9.2, 4.7 if known else 3.2), layout="constrained")
    panels = figure.subplots(1 + known, 1, sharex=True, height_ratios=(3, 2)[: 1 + known], squeeze=False)[:, 0]
    terms = [name for name in curve if name.startswith("loss_")]
    for name, color in zip(terms, TERM_COLORS, strict=False):
        panels[0].plot(evaluations, positive(curve[name]), color=color, linewidth=1.2, label=name[len("loss_") :])
    panels[0].plot(evaluations, positive(curve["loss"]), color=INK, linewidth=1.8, label="loss")
    panels[0].set_yscale("log")
    panels[0].set_ylabel("loss and its terms")
    panels[0].set_title(title)
    panels[0].legend(ncols=len(terms) + 1, loc="lower right", bbox_to_anchor=(1.0, 0.98), borderpad=0.1)
    if known:
        panels[1].plot(evaluations, error, color=BEST, linewidth=1.5)
        panels[1].set_ylabel("rel_l2 in %")
        readable_scale(panels[1], error)
    panels[-1].set_xlabel("evaluations of loss and gradient")
    for axes in panels:
        _shade_phases(axes, evaluations, np.asarray(curve["phase"]), named=axes is panels[0])
    return drawn(figure, format)


@matplotlib.rc_context(STYLE)
def error_curves(
    curves: Mapping[Hashable, tuple[Array, Array]], *, best: Hashable, title: str, format: Format = "svg"
) -> bytes:
    """Error of trainings over their evaluations: `curves` maps each to (evaluations, rel_l2); `best` stands out."""
    figure = Figure(figsize=(9.2, 3.5), layout="constrained")
    axes = figure.subplots()
    alpha = max(0.12, min(0.7, 12 / max(len(curves), 1)))
    for trial, (evaluations, error) in curves.items():
        if trial != best:
            axes.plot(
                evaluations,
                100 * positive(error),
                color=POINTS,
                linewidth=0.9,
                alpha=alpha,
                rasterized=len(curves) > 40,
            )
    if best in curves:
        evaluations, error = curves[best]
        axes.plot(evaluations, 100 * positive(error), color=BEST, linewidth=2, label="the best")
        axes.legend(loc="upper right")
    readable_scale(axes, 100 * np.concatenate([error for _, error in curves.values()]))
    axes.set_ylabel("rel_l2 in %")
    axes.set_xlabel("evaluations of loss and gradient")
    axes.set_title(title)
    return drawn(figure, format)


@matplotlib.rc_context(STYLE)
def weight_maps(maps: Mapping[int, Array], *, title: str, format: Format = "svg") -> bytes:
    """One layer's weights at several epochs side by side, on one colour scale symmetric about 0.

    `maps`: epoch -> array of shape [inputs + 1, outputs], the biases in the last row.
    """
    limit = max(float(np.nanmax(np.abs(weights))) for weights in maps.values()) or 1.0
    rows, columns = next(iter(maps.values())).shape
    height = min(3.2, max(1.5, 1.0 + 1.9 * rows / max(columns, 2)))
    figure = Figure(figsize=(9.2, height), layout="constrained")
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (epoch, weights) in zip(panels, maps.items(), strict=True):
        image = axes.imshow(
            weights, cmap="RdBu_r", norm=Normalize(-limit, limit), aspect="auto", interpolation="nearest"
        )
        axes.grid(False)
        axes.set_title(f"epoch {epoch}", fontweight="normal", fontsize=9)
        axes.set_xlabel("output unit")
        axes.set_xticks(range(0, columns, max(1, columns // 4)))
        axes.axhline(rows - 1.5, color="white", linewidth=1.5)
    ticks = range(0, rows - 1, max(1, (rows - 1) // 4))
    panels[0].set_yticks([*ticks, rows - 1], [*map(str, ticks), "bias"])
    panels[0].set_ylabel("input unit")
    figure.colorbar(image, ax=list(panels), pad=0.02, label="weight")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return drawn(figure, format)


def _plate(x_mm: Array, y_mm: Array, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.0, 3.35), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal")
    whole = min(np.ptp(x_mm), np.ptp(y_mm)) > 20  # Gauss points end just inside the plate, at 0.53 and 99.47 mm
    axes.set_xlim(*((np.floor(x_mm.min()), np.ceil(x_mm.max())) if whole else (x_mm.min(), x_mm.max())))
    axes.set_ylim(*((np.floor(y_mm.min()), np.ceil(y_mm.max())) if whole else (y_mm.min(), y_mm.max())))
    axes.grid(False)
    axes.set_xlabel("x in mm")
    axes.set_ylabel("y in mm")
    axes.set_title(title)
    return figure, axes


def _power_of_ten(largest: float) -> tuple[float, str]:
    """A factor that makes `largest` a number from 1 to 10, and the words for the axis."""
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return 10.0**-exponent, f" in $10^{{{exponent}}}$" if exponent else ""


def _shade_phases(axes: Axes, evaluations: Array, phases: NDArray[Any], *, named: bool = True) -> None:
    for number, phase in enumerate(dict.fromkeys(phases.tolist())):
        own = evaluations[phases == phase]
        if number % 2:
            axes.axvspan(own.min(), own.max(), color=GRID, alpha=0.45, linewidth=0)
        if named:
            axes.annotate(
                STAGES.get(phase, phase),
                (own.min(), 0.0),
                xytext=(4, 4),
                color=QUIET,
                fontsize=8,
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
            )
    axes.set_xlim(evaluations.min(), max(evaluations.max(), evaluations.min() + 1))
