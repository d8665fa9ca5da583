"""The error budget of one trial as bars."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .drawing import BEST, POINTS, QUIET, STYLE, label_rows, panel, plain_ticks, spans_decades

_ROOM: float = 2.5  # factor beyond the longest bar, for its number


@matplotlib.rc_context(STYLE)
def budget_bars(parts: Mapping[str, float | None], *, whole: float, title: str) -> Figure:
    """Draw the whole error and its parts, relative L2 errors by name; None where one is not known."""
    figure, axes = panel(6.4, 0.5 + 0.32 * (len(parts) + 1))
    errors = {"whole error": whole, **parts}
    known = 100 * np.array([error for error in errors.values() if error])
    if is_log := spans_decades(known):
        axes.set_xscale("log")
        plain_ticks(axes.xaxis, known)
    low, high = (known.min() / 2, known.max() * _ROOM) if is_log else (0.0, 1.25 * known.max(initial=1e-12))
    for row, (name, error) in enumerate(errors.items()):
        if error is None:
            axes.text(low, row, " not computed", va="center", color=QUIET, fontsize=8)
            continue
        length = 100 * error
        axes.barh(row, max(length, low) - low, left=low, height=0.55, color=POINTS if name in parts else BEST)
        axes.text(max(length, low), row, f" {length:.3g} %", va="center", fontsize=8)
    axes.set_xlim(low, high)
    axes.set(xlabel="relative L2 error in %", title=title)
    label_rows(axes, list(errors))
    return figure
