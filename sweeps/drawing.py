"""What all figures share: one style, bytes out, logarithmic axes with plain numbers."""

from __future__ import annotations

import io
import math
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

Array = NDArray[np.float64]
Format = Literal["svg", "png"]

INK, QUIET, GRID = "#22272e", "#68707c", "#dfe2e6"
BEST, POINTS, FAILED = "#c8321e", "#2f6db3", "#9a6a00"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "pinnsweep",  # the same arrays give the same bytes
}


def drawn(figure: Figure, format: Format) -> bytes:
    """A figure as the bytes of a picture; the same figure gives the same bytes."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
    figure.savefig(stream, format=format, transparent=True, dpi=200, metadata=metadata)
    return stream.getvalue()


def positive(values: Any) -> Array:
    """Values a logarithmic axis can show; the rest become gaps."""
    array = np.asarray(values, dtype=float)
    return np.where(np.isfinite(array) & (array > 0), array, np.nan)


def readable_scale(axes: Axes, values: Any, *, along: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis with plain numbers, where the values are positive and span enough for it to help."""
    array = np.asarray(values, dtype=float)
    seen = array[np.isfinite(array)]
    if len(seen) and seen.min() > 0 and seen.max() > 4 * seen.min():
        axes.set(**{f"{along}scale": "log"})
        plain_ticks(axes.xaxis if along == "x" else axes.yaxis, seen, dense_below=1.3 if along == "x" else 0.8)


def plain_ticks(axis: Axis, values: Array, *, dense_below: float = 0.8) -> None:
    """Ticks of a logarithmic axis at round numbers, written out, as many as its decades leave room for."""
    decades = math.log10(values.max() / values.min())
    subs = (
        (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if decades < dense_below else (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    )
    axis.set_major_locator(LogLocator(10, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
