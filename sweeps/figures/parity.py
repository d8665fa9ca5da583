"""Differences between two trainings: by array and step, and over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .drawing import BEST, FAINT, QUIET, STYLE, TERM_COLORS, Array, label_rows, legend_above, panel, positive

_LEAST: Final = 1e-2  # units of rounding; what is less is shown so
_MOST: Final = 1e16
_ROW: Final = 0.17  # inches


@matplotlib.rc_context(STYLE | {"hatch.color": QUIET, "hatch.linewidth": 0.6})
def difference_map(units: Array, *, names: Sequence[str], steps: Sequence[int], along: str) -> Figure:
    """Draw differences in units of rounding [names, steps]; where nothing was recorded, NaN, is hatched."""
    figure, axes = panel(9.2, 1.1 + _ROW * len(names))
    shown = np.ma.masked_invalid(np.clip(np.where(np.isposinf(units), _MOST, units), _LEAST, _MOST))
    largest = max(float(shown.max()), 100.0)
    axes.patch.set_hatch("///")  # a blank would look like the least or the most
    image = axes.imshow(shown, cmap="magma_r", norm=LogNorm(_LEAST, largest), aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(steps)), [str(step) for step in steps])
    axes.set_xlabel(along)
    axes.grid(False)
    label_rows(axes, names)
    figure.colorbar(image, ax=axes, pad=0.02, label="units of rounding")
    return figure


@matplotlib.rc_context(STYLE)
def difference_lines(courses: Mapping[str, tuple[Array, Array]], *, limit: float, along: str) -> Figure:
    """Draw the largest difference of each quantity over the steps: name -> steps [points], units of rounding."""
    figure, axes = panel(9.2, 2.8)
    for number, (name, (steps, units)) in enumerate(courses.items()):
        color = TERM_COLORS[number % len(TERM_COLORS)]
        values = positive(np.clip(np.where(np.isposinf(units), _MOST, units), _LEAST, _MOST))
        axes.plot(steps, values, color=color, marker="o", markersize=3, linewidth=1.2, label=name)
    axes.axhline(limit, color=BEST, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(
        1.0, limit, "beyond rounding above", color=BEST, ha="right", va="bottom", transform=axes.get_yaxis_transform()
    )
    axes.axhline(1.0, color=FAINT, linewidth=0.8)
    axes.set(yscale="log", xlabel=along, ylabel="units of rounding")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.1)
    legend_above(axes, 4, at="left")
    return figure
