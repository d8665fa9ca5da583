"""Quantities over one coordinate: prediction and reference as lines with the error below, residuals as points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import BEST, FAINT, INK, POINTS, STYLE, Array, fitted_title, legend_above, power_of_ten, unit_label
from .surfaces import reach

_WIDTH: Final = 4.6  # inches; text of 9 pt is legible where a phone shows it
_HEIGHT: Final = 2.2  # of a prediction alone
_ERROR: Final = 1.2  # added for the error below
_MARKED: Final = 60  # points, up to which each is marked


@dataclass(frozen=True)
class Lines:
    """Prediction [points] of an output over a coordinate `at` [points], with the reference where it is known."""

    at: Array
    predicted: Array
    reference: Array | None
    along: str  # label of the coordinate
    name: str
    unit: str
    title: str


@matplotlib.rc_context(STYLE)
def line_figure(*drawn: Lines) -> Figure:
    """Draw prediction and reference of each output, and the error below it."""
    heights = [ratio for lines in drawn for ratio in heights_of(lines)]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    every = iter(np.ravel(figure.subplots(len(heights), height_ratios=heights)))
    for lines in drawn:
        draw([next(every) for _ in heights_of(lines)], lines)
    return figure


def heights_of(lines: Lines) -> list[float]:
    """Return the heights in inches of the axes that an output needs: its values and, with a reference, its error."""
    return [_HEIGHT] if lines.reference is None else [_HEIGHT, _ERROR]


def draw(axes: Sequence[Axes], lines: Lines) -> None:
    """Draw prediction and reference of an output, and the error below it, on as many axes as `heights_of` says."""
    order = np.argsort(lines.at, kind="stable")
    at, predicted = lines.at[order], lines.predicted[order]
    reference = None if lines.reference is None else lines.reference[order]
    shown = [predicted] if reference is None else [predicted, reference]
    factor, power = power_of_ten(max(float(np.abs(values).max()) for values in shown))
    top = axes[0]
    if reference is not None:
        top.plot(at, factor * reference, color=FAINT, linewidth=3.2, label="reference", solid_capstyle="round")
    top.plot(at, factor * predicted, color=POINTS, linewidth=1.3, label="predicted", **_marks(at))
    _label(top, f"{lines.name} {unit_label(power, lines.unit)}".strip(), at)
    fitted_title(top, lines.title, most=26)
    if reference is None:
        top.set_xlabel(lines.along)
        return
    legend_above(top, 2)
    top.tick_params(axis="x", labelbottom=False)
    below, error = axes[1], predicted - reference
    factor, power = power_of_ten(float(np.abs(error).max()))
    below.axhline(0.0, color=INK, linewidth=0.7)
    below.plot(at, factor * error, color=BEST, linewidth=1.1, **_marks(at))
    _label(below, f"error {unit_label(power, lines.unit)}".strip(), at)
    below.set_xlabel(lines.along)


@matplotlib.rc_context(STYLE)
def residual_line(at: Array, residual: Array, *, along: str, title: str, label: str) -> Figure:
    """Draw a residual [points] over a coordinate [points]; `label` says what it is measured in."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes, order = figure.subplots(), np.argsort(at, kind="stable")
    axes.axhline(0.0, color=INK, linewidth=0.7)
    axes.plot(at[order], residual[order], color=BEST, linewidth=1.0, **_marks(at))
    _label(axes, label, at)
    axes.set_xlabel(along)
    fitted_title(axes, title, most=40)
    return figure


def _marks(at: Array) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3.0} if len(at) <= _MARKED else {}


def _label(axes: Axes, label: str, at: Array) -> None:
    axes.set_ylabel(label)
    if np.ptp(at) > 0:
        axes.set_xlim(*reach(np.unique(at)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
