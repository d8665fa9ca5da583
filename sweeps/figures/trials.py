"""Figures of many trials side by side: against a setting, their replicates, their compromises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .drawing import (
    BEST,
    CROWD,
    FAILED,
    INK,
    POINTS,
    QUIET,
    STYLE,
    Array,
    Format,
    picture_bytes,
    plain_ticks,
    readable_scale,
    safe,
)

Scale = Literal["category", "linear", "log"]

_MARKS: Final = {"failed": ("x", FAILED), "pruned": ("|", QUIET)}


@dataclass(frozen=True)
class Band:
    """The quartiles of the trials between two values of a setting."""

    low: float
    high: float
    lower: float
    median: float
    upper: float


@matplotlib.rc_context(STYLE)
def error_against(
    name: str,
    values: Sequence[Any],
    errors: Array,
    *,
    scale: Scale,
    best: int | None = None,
    bands: Sequence[Band] = (),
    unfinished: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    label: str = "rel_l2 in %"
) -> Figure:
    """Draw the error of every trial against one setting.

    `values` and `errors` have one entry per trial, `best` is the index of the best. `unfinished` holds the values of
    trials without an error, by their end (failed, pruned); they are marked at the upper edge. Categories are side by
    side, their trials spread out a little. Bars are medians, shaded from the lower to the upper quartile: of each
    category, or of the `bands` of a range.
    """
    figure, axes = panel(3.6, 2.6)
    others = [value for ended in unfinished.values() for value in ended]
    axes.margins(y=0.12 if others else 0.05)
    if scale == "category":
        names = sorted({*values, *others}, key=category_order)
        place = {value: number for number, value in enumerate(names)}
        at, *others_at = (
            np.array([place[value] for value in ended], dtype=float) + spread(len(ended))
            for ended in (values, *unfinished.values())
        )
        axes.set_xticks(range(len(names)), [category_name(value) for value in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.grid(False, axis="x")
        for value, number in place.items():
            errors_there = [error for other, error in zip(values, errors, strict=True) if other == value]
            if errors_there:
                _band(axes, Band(number - 0.3, number + 0.3, *map(float, np.quantile(errors_there, [0.25, 0.5, 0.75]))))
    else:
        at, *others_at = (np.array(ended, dtype=float) for ended in (values, *unfinished.values()))
        axes.set_xscale(scale)
        if scale == "log":
            plain_ticks(axes.xaxis, np.concatenate([at, *others_at]), dense_below=0.5, sparse_above=1.7)
        for band in bands:
            _band(axes, band)
        if scale == "linear" and all(float(value).is_integer() for value in values):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    crowd = min(1.0, (200 / max(len(errors), 1)) ** 0.5)
    color, crowded = crowd_color(len(errors))
    size, alpha = max(5.0, 20 * crowd), max(0.4, 0.65 * crowd)
    axes.scatter(at, errors, s=size, color=color, alpha=alpha, linewidths=0, rasterized=crowded)
    if best is not None:
        axes.scatter(at[best], errors[best], s=70, facecolors="none", edgecolors=BEST, linewidths=1.8, zorder=4)
    for (end, ended), place_of in zip(unfinished.items(), others_at, strict=True):
        if len(ended):
            marker, color = _MARKS[end]
            at_top: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            heights = np.full(len(ended), 0.98)
            axes.scatter(place_of, heights, s=22, marker=marker, color=color, linewidths=1.2, label=end, **at_top)
    if others:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), handletextpad=0.1, borderpad=0.1, ncols=2)
    readable_scale(axes, errors)
    axes.set(ylabel=label, title=name)
    return figure


@matplotlib.rc_context(STYLE)
def replicate_spread(
    trials: Mapping[int, Sequence[float]], middles: Sequence[float], *, label: str, middle: str
) -> Figure:
    """Draw the replicates of each trial as points on a line, the first trial on top, with a bar at the trial's value.

    `trials` maps a trial to the values of its replicates, not finite where one failed; `middles` are the values of the
    trials themselves, named `middle` in the legend.
    """
    figure, axes = panel(9.2, 1.0 + 0.3 * len(trials))
    for row, (values, value) in enumerate(zip(trials.values(), middles, strict=True)):
        color = BEST if row == 0 else POINTS
        array = np.asarray(values, dtype=float)
        finite = array[np.isfinite(array)]
        axes.plot([finite.min(), finite.max()], [row, row], color=color, linewidth=1, alpha=0.35)
        axes.scatter(finite, np.full(len(finite), row), s=24, color=color, alpha=0.65, linewidths=0)
        axes.plot([value, value], [row - 0.32, row + 0.32], color=INK, linewidth=2, label=None if row else middle)
        if failed := len(array) - len(finite):
            text = f"{failed} failed"
            axes.annotate(text, (1.0, row), xycoords=("axes fraction", "data"), color=FAILED, ha="right", va="center")
    readable_scale(axes, [value for values in trials.values() for value in values], along="x")
    label_rows(axes, [f"trial {number}" for number in trials])
    axes.set_xlabel(label)
    legend_above(axes)
    return figure


@matplotlib.rc_context(STYLE)
def compromises(values: Array, on_front: NDArray[np.bool_], *, labels: Sequence[str]) -> Figure:
    """Draw every trial by its first two objectives, with the Pareto front highlighted.

    `values`: shape [trials, 2]; `on_front`: shape [trials]; `labels`: the names of the two.
    """
    figure, axes = panel(9.2, 3.6)
    color, crowded = crowd_color(len(values))
    axes.scatter(*values[~on_front].T, s=20, color=color, alpha=0.7, linewidths=0, rasterized=crowded)
    axes.scatter(*values[on_front].T, s=42, color=BEST, alpha=0.7, linewidths=0, label="Pareto front")
    readable_scale(axes, values[:, 0], along="x")
    readable_scale(axes, values[:, 1])
    axes.set(xlabel=labels[0], ylabel=labels[1])
    legend_above(axes)
    return figure


def guessed_scale(values: Sequence[Any], *, kind: str = "") -> Scale:
    """Return the scale on which a setting is drawn; `kind` is its kind in the space (choice, int, loguniform, ...)."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if kind == "choice" or len(numbers) < len(values) or not numbers:
        return "category"
    if kind.startswith("log"):
        return "log"
    if all(float(number).is_integer() for number in numbers) and max(numbers) - min(numbers) < 10:
        return "category"
    return "log" if kind == "" and min(numbers) > 0 and max(numbers) / min(numbers) > 50 else "linear"


def _band(axes: Axes, band: Band) -> None:
    axes.fill_between([band.low, band.high], band.lower, band.upper, color=POINTS, alpha=0.13, linewidth=0)
    axes.plot([band.low, band.high], [band.median] * 2, color=INK, linewidth=1.4, zorder=3)


def spread(count: int) -> Array:
    """Return offsets in -0.22..0.22, shape [count], that keep neighbours apart and are always the same."""
    golden = (math.sqrt(5) - 1) / 2
    return np.asarray(0.44 * (np.arange(1, count + 1) * golden % 1.0) - 0.22, dtype=np.float64)


def category_order(value: Any) -> tuple[bool, float, str]:
    """Return the sort key of a category: numbers by their value come first, then everything else as text."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (not number, float(value) if number else 0.0, str(value))


def category_name(value: Any) -> str:
    """Return the label of a category on an axis: its last 13 characters where it is longer than 14."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return safe(text if len(text) <= 14 else "…" + text[-13:])
