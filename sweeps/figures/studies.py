"""Figures of a whole study: its trials over all settings at once, their cost, and the terms of their loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .drawing import (
    BEST,
    CARD,
    CROWD,
    FAILED,
    FAINT,
    INK,
    ON_COLOR,
    POINTS,
    QUIET,
    STYLE,
    TERM_COLORS,
    Array,
    Format,
    picture_bytes,
    readable_scale,
    round_numbers,
    safe,
    spans_decades,
)
from .trials import Scale, category_name, category_order, spread

_HALO: Final = [withStroke(linewidth=2.5, foreground=CARD)]
_ABSENT: Final = -0.13  # height of lines without a value on an axis, which reaches from 0 to 1


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
    legend = axes.legend(loc="upper right", bbox_to_anchor=(1.0, -0.01), ncols=3, borderpad=0.1)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


@matplotlib.rc_context(STYLE)
def cost_against_error(
    seconds: Array, errors: Array, on_front: NDArray[np.bool_], *, label: str, title: str
) -> Figure:
    """Draw the error of each trial against its time, with the Pareto front as a line; arrays of shape [trials]."""
    figure, axes = panel(4.8, 3.4)
    color, crowded = crowd_color(len(errors))
    axes.scatter(seconds, errors, s=18, color=color, alpha=0.55, linewidths=0, rasterized=crowded)
    order = np.lexsort((errors[on_front], seconds[on_front]))
    first, second = seconds[on_front][order], errors[on_front][order]
    line: Any = {"marker": "o", "markersize": 4.5, "linewidth": 1.2, "drawstyle": "steps-post"}
    axes.plot(first, second, color=BEST, label="Pareto front", **line)
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
    low, high = every.min(), max(every.max(), every.min() * (1 + 1e-9) + 1e-9)
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
def loss_shares(shares: Mapping[str, Mapping[str, float]], *) -> Figure:
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
    legend_above(axes, len(terms))
    return figure


@matplotlib.rc_context(STYLE)
def importances(
    shares: Mapping[str, tuple[float, float, float]], noise: Mapping[str, float], *
) -> Figure:
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
    legend_above(axes, 2)
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
        at: Any = {"ha": "right", "va": "center", "zorder": 4}
        axes.text(place - 0.04, height, text, fontsize=7.5, color=INK, path_effects=_HALO, **at)
    return heights


def _folded(name: str) -> str:
    """Return a name, a long one on two lines."""
    if len(name) <= 12 or "_" not in name:
        return safe(name)
    breaks = [at for at, letter in enumerate(name) if letter == "_"]
    middle = min(breaks, key=lambda at: abs(at - len(name) / 2)) + 1
    return safe(f"{name[:middle]}\n{name[middle:]}")
