"""A study in one picture: the field of its best trial beside the courses of all trials."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import lines, maps
from .courses import draw_curves
from .drawing import STYLE, Array, safe
from .fields import KeptField, Picture

# Inches. The places of all axes are given, since a layout that matplotlib finds makes maps of unequal size.
_SIDE: Final = 1.6  # of a map, and the height of the curves beside it
_TALL: Final = 2.5  # the same beside lines, which have the error below them
_BELOW, _ABOVE, _LEFT, _RIGHT = 0.47, 0.58, 0.65, 0.12
_SCALE: Final = 0.92  # width of a colour scale with its numbers
_LINES: Final = 3.2  # width of the picture over one coordinate
_CURVES: Final = 2.6
_BETWEEN: Final = 0.16  # height between lines and their error
_GAP: Final = 0.5  # between the last colour scale and the curves


@matplotlib.rc_context(STYLE)
def overview(
    field: KeptField | None,
    curves: Mapping[Hashable, tuple[Array, Array]],
    *,
    best: Hashable,
    title: str,
    label: str,
) -> Figure:
    """Draw prediction, reference and error of the first output, and beside them the curves of all trainings.

    `field` is that of the training `best`, or None where it cannot be drawn. `curves` maps each training to
    (evaluations, values), arrays of shape [rows]; `label` says what the values are.
    """
    shown = [] if field is None else _pictures(field)
    is_lines = bool(shown) and shown[0].kind == "lines"
    side = _TALL if is_lines else _SIDE
    of_field = _LINES if is_lines else len(shown) * (_SIDE + _SCALE)
    of_curves = (_CURVES if shown else 2 * _CURVES) if curves else 0.0
    between = (_LEFT if is_lines else _GAP) if shown and curves else 0.0
    figure = Figure(figsize=(_LEFT + of_field + between + of_curves + _RIGHT, _BELOW + side + _ABOVE))
    figure.text(
        0.1 / figure.get_figwidth(), 1 - 0.07 / figure.get_figheight(), safe(title), va="top", fontweight="bold"
    )
    if is_lines and field is not None:
        drawn = field.lines(shown[0])
        lines.draw(_stacked(figure, side, lines.heights_of(drawn)), drawn)
    elif field is not None:
        for number, picture in enumerate(shown):
            axes = _axes(figure, _LEFT + number * (_SIDE + _SCALE), _SIDE, height=side)
            maps.draw(axes, field.map(picture), small=True)
            if number:
                axes.set_ylabel("")
                axes.tick_params(labelleft=False)
    if curves:
        axes = _axes(figure, _LEFT + of_field + between, of_curves, height=side)
        draw_curves(axes, curves, best=best, label=label)
        axes.set_title(f"{len(curves)} trainings" if len(curves) > 1 else "Training")
    return figure


def _pictures(field: KeptField) -> list[Picture]:
    """Return the pictures of the first output; on logarithmic scales, where these show more of it."""
    log = {picture.kind: picture for row in field.rows[1:] for picture in row if picture.is_log and not picture.output}
    return [log.get(picture.kind, picture) for picture in field.rows[0]]


def _stacked(figure: Figure, side: float, heights: list[float]) -> list[Axes]:
    """Return axes below each other, at the left, whose heights fill `side` in these proportions."""
    share = (side - _BETWEEN * (len(heights) - 1)) / sum(heights)
    tops = [side - sum(heights[:number]) * share - number * _BETWEEN for number in range(len(heights))]
    return [
        _axes(figure, _LEFT, _LINES, height=share * height, above=top - share * height)
        for top, height in zip(tops, heights, strict=True)
    ]


def _axes(figure: Figure, left: float, width: float, *, height: float, above: float = 0.0) -> Axes:
    """Return axes at a place in inches; `above` counts from the lower end of the maps."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, (_BELOW + above) / down, width / across, height / down))
