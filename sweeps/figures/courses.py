"""Figures of single trials: functions from arrays to figures, without any global state.

Backgrounds are transparent; `drawing.for_dark_pages` recolours a picture for dark ones. Text in SVG is drawn as
outlines, so that a picture loads nothing and looks the same everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pinncore.settings import OPTIMISERS

from .drawing import (
    BEST,
    GRID,
    INK,
    PLATE,
    POINTS,
    QUIET,
    STYLE,
    TERM_COLORS,
    Array,
    legend_above,
    panel,
    positive,
    readable_scale,
    spread_indices,
)

CURVE_POINTS: Final = 100  # of each curve in a crowd


@matplotlib.rc_context(STYLE)
def training_curves(curve: Mapping[str, Any], *, title: str) -> Figure:
    """Draw the loss with its terms, and below it the error, over the evaluations of one trial; the stages are named.

    `curve`: the columns of one trial in the table of curves, arrays of shape [rows]. The error is left out where there
    is no reference field.
    """
    evaluations = np.asarray(curve["evaluations"], dtype=float)
    error = 100 * positive(curve["rel_l2"])
    has_error = bool(np.isfinite(error).any())
    figure = Figure(figsize=(9.2, 4.7 if has_error else 3.2), layout="constrained")
    panels = figure.subplots(1 + has_error, 1, sharex=True, height_ratios=(3, 2)[: 1 + has_error], squeeze=False)[:, 0]
    terms = [name for name in curve if name.startswith("loss_")]
    for name, color in zip(terms, TERM_COLORS, strict=False):
        panels[0].plot(evaluations, positive(curve[name]), color=color, linewidth=1.2, label=name[len("loss_") :])
    panels[0].plot(evaluations, positive(curve["loss"]), color=INK, linewidth=1.8, label="loss")
    panels[0].set_yscale("log")
    panels[0].margins(y=0.12)  # room for the names of the stages
    panels[0].set_ylabel("loss and its terms")
    panels[0].set_title(title, pad=18)  # points, for the legend below it
    legend_above(panels[0], len(terms) + 1, at="left")
    if has_error:
        panels[1].plot(evaluations, error, color=BEST, linewidth=1.5)
        panels[1].set_ylabel("rel_l2 in %")
        readable_scale(panels[1], error)
    panels[-1].set_xlabel("evaluations of loss and gradient")
    for axes in panels:
        _shade_phases(axes, evaluations, np.asarray(curve["phase"]), named=axes is panels[0])
    return figure


@matplotlib.rc_context(STYLE)
def error_curves(curves: Mapping[Hashable, tuple[Array, Array]], *, best: Hashable, title: str) -> Figure:
    """Draw the error of trainings over their evaluations, `best` highlighted.

    `curves` maps each training to (evaluations, rel_l2), arrays of shape [rows].
    """
    figure, axes = panel(9.2, 3.5)
    draw_curves(axes, in_per_cent(curves), best=best, label="rel_l2 in %")
    axes.set_title(title)
    return figure


def in_per_cent(curves: Mapping[Hashable, tuple[Array, Array]]) -> dict[Hashable, tuple[Array, Array]]:
    """Return curves of (evaluations, fraction) with the fraction in per cent."""
    return {training: (evaluations, 100 * values) for training, (evaluations, values) in curves.items()}


def draw_curves(
    axes: Axes, curves: Mapping[Hashable, tuple[Array, Array]], *, best: Hashable, label: str, named: str = "the best"
) -> None:
    """Draw a quantity, with its `label`, of trainings over their evaluations; `best` is highlighted and `named`."""
    alpha = max(0.25, min(0.7, 16 / max(len(curves), 1)))
    for trial, (evaluations, values) in curves.items():
        if trial != best:
            indices = spread_indices(len(values), CURVE_POINTS)
            axes.plot(evaluations[indices], positive(values[indices]), color=POINTS, linewidth=0.9, alpha=alpha)
    if best in curves:
        evaluations, values = curves[best]
        axes.plot(evaluations, positive(values), color=BEST, linewidth=2, label=named)
        legend_above(axes)
    readable_scale(axes, np.concatenate([values for _, values in curves.values()]))
    axes.set(xlabel="evaluations of loss and gradient", ylabel=label)


@matplotlib.rc_context(STYLE)
def weight_maps(maps: Mapping[str, Array], *, title: str) -> Figure:
    """Draw the weights of one layer at several epochs side by side, on one colour scale symmetric about 0.

    `maps`: title -> array of shape [inputs + 1, outputs], with the biases in the last row.
    """
    limit = max(float(np.nanmax(np.abs(weights))) for weights in maps.values()) or 1.0
    rows, columns = next(iter(maps.values())).shape
    height = min(3.2, max(1.5, 1.0 + (0.1 if columns == 1 else 0.17) * rows))
    figure = Figure(figsize=(9.2, height), layout="constrained")
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (name, weights) in zip(panels, maps.items(), strict=True):
        scale = Normalize(-limit, limit)
        image = axes.imshow(weights, cmap="RdBu_r", norm=scale, aspect="auto", interpolation="nearest")
        axes.grid(False)
        axes.set_title(name, fontweight="normal", fontsize=9)
        axes.set_xlabel("output unit")
        axes.set_xticks(range(0, columns, max(1, columns // 4)))
        axes.axhline(rows - 1.5, color="white", linewidth=1.5)
    ticks = range(0, rows - 1, max(1, (rows - 1) // 4))
    panels[0].set_yticks([*ticks, rows - 1], [*map(str, ticks), "bias"])
    panels[0].set_ylabel("input unit")
    figure.colorbar(image, ax=list(panels), pad=0.02, label="weight")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def _shade_phases(axes: Axes, evaluations: Array, phases: NDArray[Any], *, named: bool = True) -> None:
    for number, phase in enumerate(dict.fromkeys(phases.tolist())):
        at_phase = evaluations[phases == phase]
        if number % 2:
            axes.axvspan(at_phase.min(), at_phase.max(), color=GRID, alpha=0.45, linewidth=0)
        if named:
            axes.annotate(
                OPTIMISERS.get(phase, phase), (at_phase.max(), 1.0), xycoords=("data", "axes fraction"),
                xytext=(-5, -5), textcoords="offset points", ha="right", va="top", color=QUIET, fontsize=8,
                zorder=4, bbox=PLATE | {"alpha": 0.75},
            )  # fmt: skip
    axes.set_xlim(evaluations.min(), max(evaluations.max(), evaluations.min() + 1))
