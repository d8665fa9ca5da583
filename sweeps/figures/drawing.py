"""What all figures share: one style, bytes out, logarithmic axes with plain numbers, colours for dark pages."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

Array = NDArray[np.float64]
Format = Literal["svg", "png"]

INK, QUIET, GRID = "#22272e", "#68707c", "#dfe2e6"
BEST, POINTS, FAILED = "#c8321e", "#2f6db3", "#9a6a00"
CROWD = "#4b86cc"  # points that are rasterised, legible on light and dark pages
FAINT, CARD, ON_COLOR = "#98a2ae", "#fefefe", "#fdfdfd"  # what recedes, the background, text on coloured areas
TERM_COLORS = ("#2f6db3", "#d9822b", "#3c8c5a", "#8456a8", "#8a6d3b", "#4b9fa8")

PLATE: Any = {"facecolor": CARD, "edgecolor": "none", "pad": 1.2}  # below text, so that no line runs through it
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

_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_IN_THE_DARK: Final = {
    INK: "#e7eaee",
    QUIET: "#a3adb9",
    GRID: "#3a424c",
    BEST: "#ff7a63",
    POINTS: "#6fa8e6",
    FAILED: "#e0b04a",
    FAINT: "#7d8894",
    CARD: "#1d2127",
    ON_COLOR: "#14171b",
    "#d9822b": "#f0a45c",
    "#3c8c5a": "#6cc08b",
    "#8456a8": "#b98add",
    "#8a6d3b": "#c9a86c",
    "#4b9fa8": "#74c7d0",
}


def panel(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


@matplotlib.rc_context(STYLE)
def picture_bytes(figure: Figure, format: Format = "svg", *, transparent: bool = True) -> bytes:
    """Return a figure as the bytes of a picture, on white unless `transparent`; equal figures give equal bytes."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
    dots = 150 if format == "svg" else 200  # an inch; in SVG, of what is rasterised
    figure.savefig(stream, format=format, transparent=transparent, dpi=dots, metadata=metadata)
    return stream.getvalue()


def for_dark_pages(svg: bytes) -> bytes:
    """Return an SVG of this package in colours for dark pages; rasterised parts keep their colours."""
    text = svg.decode()
    for light, dark in _IN_THE_DARK.items():
        text = text.replace(light, dark)
    return text.encode()


def positive(values: Any) -> Array:
    """Return the values that a logarithmic axis can show; the others become NaN, drawn as gaps."""
    array = np.asarray(values, dtype=float)
    return np.where(np.isfinite(array) & (array > 0), array, np.nan)


def readable_scale(axes: Axes, values: Any, *, along: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic with plain numbers, where the values are positive and far enough apart."""
    array = np.asarray(values, dtype=float)
    finite = array[np.isfinite(array)]
    if spans_decades(finite):
        axes.set(**{f"{along}scale": "log"})
        plain_ticks(axes.xaxis if along == "x" else axes.yaxis, finite, dense_below=1.3 if along == "x" else 1.0)


def legend_above(axes: Axes, columns: int = 1, *, at: Literal["left", "right"] = "right") -> None:
    """Put the legend above the axes; `at` the left it is in sight where a phone shows a part of a wide picture."""
    if at == "left":
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderpad=0.1)
    else:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderpad=0.1)


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Make the vertical axis one of rows, the first on top, with a label each."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def crowd_color(count: int) -> tuple[str, bool]:
    """Return the colour of so many points, and whether they are too many to be drawn one by one in SVG."""
    return (CROWD, True) if count > 500 else (POINTS, False)


def spread_indices(count: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` things, evenly spread, the first and the last one included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def spans_decades(values: Array) -> bool:
    """Return whether finite values are positive and far enough apart for a logarithmic axis."""
    return bool(len(values) and values.min() > 0 and values.max() > 4 * values.min())


def plain_ticks(axis: Axis, values: Array, *, dense_below: float = 1.0, sparse_above: float = 2.2) -> None:
    """Put ticks at round numbers of a logarithmic axis, written out, as many as its decades leave room for."""
    axis.set_major_locator(LogLocator(10, subs=_subs(values, dense_below, sparse_above)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def round_numbers(low: float, high: float, *, log: bool) -> Array:
    """Return round numbers between two limits, for an axis that matplotlib does not draw."""
    if log:
        ticks = np.asarray(LogLocator(10, subs=_subs(np.array([low, high]), 1.0, 2.2)).tick_values(low, high))
    else:
        ticks = np.asarray(MaxNLocator(5).tick_values(low, high))
    slack = 1e-9 * (high - low)
    return ticks[(ticks >= low - slack) & (ticks <= high + slack)]


def safe(text: str) -> str:
    """Return text with $ escaped, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def plain_unit(unit: str) -> str:
    """Return a unit as people write it: m^2 as m², nothing for a number without a unit."""
    raised = re.sub(r"(\^|\*\*)(-?[0-9]+)", lambda power: power[2].translate(_RAISED), unit)
    return "" if unit == "1" else safe(raised.replace("*", "\N{MIDDLE DOT}"))


def axis_label(name: str, unit: str) -> str:
    """Return the words beside an axis."""
    return safe(name) + (f" in {plain_unit(unit)}" if plain_unit(unit) else "")


def unit_label(power: str, unit: str) -> str:
    """Return the words beside a colour scale: power of ten and unit."""
    words = " ".join(word for word in (power, plain_unit(unit)) if word)
    return f"in {words}" if words else ""


def power_of_ten(largest: float) -> tuple[float, str]:
    """Return a factor that makes `largest` a readable number, and the power of ten that it takes out."""
    exponent = math.floor(math.log10(largest)) if 0 < largest < math.inf else 0
    return (1.0, "") if -2 < exponent < 3 else (10.0**-exponent, f"$10^{{{exponent}}}$")


def fitted_title(axes: Axes, title: str, *, most: int) -> None:
    """Write a title in letters so small that each line fits, where it has `most` letters of the usual size."""
    usual, lines = STYLE["axes.titlesize"], title.split("\n")
    size = usual * min(1.0, max(0.75, most / max(1, *map(len, lines))))
    longest = round(most * usual / size)
    cut = (line if len(line) <= longest else line[: longest - 1] + "…" for line in lines)
    axes.set_title(safe("\n".join(cut)), fontsize=size)


def _subs(values: Array, dense_below: float, sparse_above: float) -> tuple[float, ...]:
    decades = math.log10(values.max() / values.min())
    if decades < dense_below:
        return (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    return (1.0, 2.0, 5.0) if decades < sparse_above else (1.0,)
