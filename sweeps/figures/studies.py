"""Figures of the trials of a study: over their settings, over their replicates, their cost, the terms of their loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .drawing import (
    BEST,
    FAILED,
    FAINT,
    INK,
    ON_COLOR,
    PLATE,
    POINTS,
    QUIET,
    STYLE,
    TERM_COLORS,
    Array,
    crowd_color,
    label_rows,
    legend_above,
    panel,
    plain_ticks,
    readable_scale,
    round_numbers,
    safe,
    spans_decades,
)

Scale = Literal["category", "linear", "log"]

_MARKS: Final[dict[str, dict[str, Any]]] = {
    "failed": {"marker": "x", "color": FAILED},
    "pruned": {"marker": "|", "color": QUIET},
}
_ABSENT: Final = -0.13  # height of lines without a value on an axis, which reaches from 0 to 1


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
    label: str = "rel_l2 in %",
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
            style = _MARKS[end] | {"transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.scatter(place_of, np.full(len(ended), 0.98), s=22, linewidths=1.2, label=end, **style)
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
            axes.annotate(
                text, (1.0, row), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                color=FAILED, va="center",
            )  # fmt: skip
    readable_scale(axes, [value for values in trials.values() for value in values], along="x")
    label_rows(axes, [f"trial {number}" for number in trials])
    axes.set_xlabel(label)
    legend_above(axes, at="left")
    return figure


@matplotlib.rc_context(STYLE)
def compromises(values: Array, on_front: NDArray[np.bool_], *, labels: Sequence[str]) -> Figure:
    """Draw every trial by its first two objectives, with the Pareto front highlighted.

    `values`: shape [trials, 2]; `on_front`: shape [trials]; `labels`: the names of the two.
    """
    figure, axes = panel(9.2, 3.6)
    color, crowded = crowd_color(len(values))
    (first, second), (first_of_front, second_of_front) = values[~on_front].T, values[on_front].T
    axes.scatter(first, second, s=20, color=color, alpha=0.7, linewidths=0, rasterized=crowded)
    axes.scatter(first_of_front, second_of_front, s=42, color=BEST, alpha=0.7, linewidths=0, label="Pareto front")
    readable_scale(axes, values[:, 0], along="x")
    readable_scale(axes, values[:, 1])
    axes.set(xlabel=labels[0], ylabel=labels[1])
    legend_above(axes, at="left")
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


@dataclass(frozen=True)
class Scaled:
    """One axis of parallel coordinates: the value of each trial, None where the setting does not exist."""

    name: str
    values: Sequence[Any]
    scale: Scale


@matplotlib.rc_context(STYLE)
def parallel_coordinates(columns: Sequence[Scaled], *, good: int, others: int) -> Figure:
    """Draw every trial as a line across one axis per setting; the last axis is the objective.

    The values of every column are in the order of the trials' ranks. The first trial and the first `good` trials are
    highlighted; the rest, drawn faintly, represents `others` trials.
    """
    figure, axes = panel(max(9.2, 1.05 * len(columns)), 4.2)
    heights = np.stack([_axis(axes, place, column) for place, column in enumerate(columns)], axis=1)
    lines = np.stack([np.broadcast_to(np.arange(len(columns)), heights.shape), heights], axis=2)
    faint = len(lines) - good
    label_of_others = f"{others:,} others" if faint == others else f"{faint:,} of {others:,} others"
    groups = (
        (lines[good:][::-1], FAINT, 0.8, max(0.12, min(0.6, 60 / max(faint, 1))), label_of_others),
        (lines[1:good][::-1], POINTS, 1.1, 0.8, f"the {good} best"),
        (lines[:1], BEST, 2.2, 1.0, "the best"),
    )
    for order, (paths, color, width, alpha, label) in enumerate(groups):
        if len(paths):
            collection = LineCollection(list(paths), colors=color, linewidths=width, alpha=alpha, label=label)
            axes.add_collection(collection).set_zorder(2 + 0.1 * order)
    axes.set_xlim(-0.35, len(columns) - 0.75)
    axes.set_ylim(-0.2 if (heights < 0).any() else -0.04, 1.02)
    axes.set_yticks([])
    axes.set_xticks(range(len(columns)), [_folded(column.name) for column in columns])
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, pad=6)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.01), ncols=3, borderpad=0.1)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


@matplotlib.rc_context(STYLE)
def cost_against_error(seconds: Array, errors: Array, on_front: NDArray[np.bool_], *, label: str, title: str) -> Figure:
    """Draw the error of each trial against its time, with the Pareto front as a line; arrays of shape [trials]."""
    figure, axes = panel(4.8, 3.4)
    color, crowded = crowd_color(len(errors))
    axes.scatter(seconds, errors, s=18, color=color, alpha=0.55, linewidths=0, rasterized=crowded)
    order = np.lexsort((errors[on_front], seconds[on_front]))
    first, second = seconds[on_front][order], errors[on_front][order]
    (line,) = axes.plot(first, second, color=BEST, marker="o", markersize=4.5, linewidth=1.2, label="Pareto front")
    line.set_drawstyle("steps-post")
    readable_scale(axes, seconds, along="x")
    readable_scale(axes, errors)
    axes.set(xlabel="seconds of training", ylabel=label, title=title)
    legend_above(axes)
    return figure


@matplotlib.rc_context(STYLE)
def cost_distribution(seconds: Mapping[str, Array], *, title: str) -> Figure:
    """Draw the distribution of training times in seconds, by the end of the trials (complete, failed, pruned)."""
    figure, axes = panel(4.8, 3.4)
    every = np.concatenate(list(seconds.values()))
    log = spans_decades(every)
    low, high = every.min(), every.max()
    if high - low < 0.02 * high:  # as good as equal: one bar in the middle
        low, high = 0.95 * low, 1.05 * high
    bins = (np.geomspace if log else np.linspace)(low, high, min(31, max(6, len(every) // 3)))
    readable_scale(axes, every, along="x")
    colors = {"complete": POINTS, "failed": FAILED, "pruned": QUIET}
    axes.hist(
        list(seconds.values()), bins=list(bins), stacked=True, color=[colors[end] for end in seconds],
        label=list(seconds), rwidth=0.92, alpha=0.85,
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(False, axis="x")
    axes.set(xlabel="seconds of training", ylabel="trials", title=title)
    if len(seconds) > 1:
        legend_above(axes, 3)
    return figure


@matplotlib.rc_context(STYLE)
def loss_shares(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the terms of the loss at some moments: `shares` maps a moment to the share of each term, 0 to 1."""
    figure, axes = panel(9.2, 0.9 + 0.36 * len(shares))
    terms = list(next(iter(shares.values())))
    left = np.zeros(len(shares))
    for term, color in zip(terms, TERM_COLORS, strict=False):
        widths = 100 * np.array([term_shares[term] for term_shares in shares.values()])
        axes.barh(range(len(shares)), widths, left=left, color=color, height=0.62, label=term)
        for row, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 4:
                text = f"{width:.0f} %"
                axes.text(start + width / 2, row, text, ha="center", va="center", color=ON_COLOR, fontsize=8)
        left += widths
    label_rows(axes, list(shares))
    axes.set_xlim(0, 100)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("share of the loss in %")
    legend_above(axes, len(terms), at="left")
    return figure


@matplotlib.rc_context(STYLE)
def importances(shares: Mapping[str, tuple[float, float, float]], noise: Mapping[str, float]) -> Figure:
    """Draw the importance of each setting as a bar, the first on top, with its range and the level of chance.

    `shares`: share, low and high of each setting, 0 to 1; `noise`: the share below which a setting without effect
    stays. Bars that chance explains are pale.
    """
    figure, axes = panel(9.2, 1.0 + 0.34 * len(shares))
    end = min(105.0, 105 * max(*noise.values(), *(max(bar) for bar in shares.values())))
    for row, (name, (share, low, high)) in enumerate(shares.items()):
        by_chance, chance = share <= noise[name], [100 * noise[name]] * 2
        axes.barh(row, 100 * share, height=0.6, color=FAINT if by_chance else POINTS, alpha=0.55 if by_chance else 0.9)
        labels = [None, None] if row else ["90 % of halves", "reached by chance"]
        axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1.2, label=labels[0])
        ends, dashes = [row - 0.38, row + 0.38], (0, (2, 1.2))
        axes.plot(chance, ends, color=BEST, linewidth=1.4, linestyle=dashes, label=labels[1])
        if chance[0] > end:
            axes.plot(end, row, color=BEST, marker=">", markersize=5, clip_on=False)
    label_rows(axes, [safe(name) for name in shares])
    axes.set_xlim(0, end)
    axes.set_xlabel("share of the importance in %")
    legend_above(axes, 2, at="left")
    return figure


def _axis(axes: Axes, place: int, column: Scaled) -> Array:
    """Draw one axis with its values, and return the height of every trial on it, shape [trials]."""
    axes.plot([place, place], [0, 1], color=QUIET, linewidth=0.9, zorder=3)
    present = [value for value in column.values if value is not None]
    heights = np.full(len(column.values), _ABSENT)
    is_present = np.array([value is not None for value in column.values], dtype=bool)
    ticks: dict[float, str] = {} if is_present.all() else {_ABSENT: "none"}
    if column.scale == "category":
        names = sorted(set(present), key=category_order)
        height_of = {value: (number + 0.5) / len(names) for number, value in enumerate(names)}
        heights[is_present] = [height_of[value] for value in present]
        heights[is_present] += spread(len(present)) * min(0.12, 0.7 / max(len(names), 1))
        ticks |= {height: category_name(value) for value, height in height_of.items()}
    elif present:
        numbers = np.array(present, dtype=float)
        log = column.scale == "log"
        low, high = float(numbers.min()), float(numbers.max())
        if low == high:
            heights[is_present] = 0.5
            ticks[0.5] = f"{low:.4g}"
        else:
            tick_values = round_numbers(low, high, log=log)
            on_axis = np.log if log else np.asarray
            start, end = on_axis(low), on_axis(high)
            heights[is_present] = (on_axis(numbers) - start) / (end - start)
            ticks |= {float((on_axis(tick) - start) / (end - start)): f"{tick:g}" for tick in tick_values}
    for height, text in ticks.items():
        axes.plot([place - 0.02, place], [height, height], color=QUIET, linewidth=0.9, zorder=3)
        axes.text(place - 0.045, height, text, ha="right", va="center", fontsize=7.5, color=INK, zorder=4, bbox=PLATE)
    return heights


def _folded(name: str) -> str:
    """Return a name, a long one on two lines."""
    if len(name) <= 12 or "_" not in name:
        return safe(name)
    breaks = [at for at, letter in enumerate(name) if letter == "_"]
    middle = min(breaks, key=lambda at: abs(at - len(name) / 2)) + 1
    return safe(f"{name[:middle]}\n{name[middle:]}")
