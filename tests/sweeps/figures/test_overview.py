"""A study in one picture: whole, nothing on top of anything else, for fields of every kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sweeps.figures.fields import KeptField
from sweeps.figures.overview import overview

from .test_fields import U, X, Y, centres, field, is_whole, line, on_grid, x_t

EVALUATIONS = np.arange(1, 60, dtype=float)
CURVES = {trial: (EVALUATIONS, 100.0 * (trial + 1) / EVALUATIONS) for trial in range(4)}


def decades() -> KeptField:
    """A positive field over a plate that spans decades, at numbers with many digits."""
    x, y = on_grid(centres(0, 100, 40), centres(0, 100, 40))
    reference = 1e-4 * np.exp(-np.hypot(x, y) / 20)
    return field([X, Y], [x, y], reference, 1e-6 * np.sin(x))


def without_reference() -> KeptField:
    x, y = on_grid(centres(0, 1, 20), centres(0, 1, 20))
    return KeptField([X, Y], [U], {"x": x, "y": y, "predicted": x * y, "reference": np.full_like(x, np.nan)})


def drawn(kept: KeptField | None, curves: dict[int, tuple[np.ndarray, np.ndarray]] = CURVES) -> Figure:
    return overview(kept, curves, best=2, title="$tudy: trial 2, rel_l2 1.4 %", label="rel_l2 in %")


@pytest.mark.parametrize(
    "kept", [line(), x_t(), decades(), without_reference(), None], ids=lambda kept: str(kept and kept.rows[0][0].kind)
)
def test_everything_is_inside_and_nothing_covers_anything(kept: KeptField | None) -> None:
    figure = drawn(kept)
    assert is_whole(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    for one, other in itertools.combinations(boxes, 2):
        width, height = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width < 1.5 or height < 1.5


def test_maps_have_one_size_and_logarithmic_scales_where_they_show_more() -> None:
    titles = [axes.get_title(loc="left") for axes in drawn(decades()).axes]
    assert titles == ["Predicted, log", "Reference, log", "Error", "4 trainings"]
    sizes = {tuple(axes.get_position().size.round(6)) for axes in drawn(decades()).axes[:3]}
    assert len(sizes) == 1


def test_a_study_without_curves_or_reference_shows_what_there_is() -> None:
    assert [axes.get_title(loc="left") for axes in drawn(without_reference(), {}).axes] == ["Predicted, log"]
    (axes,) = drawn(None).axes
    highlighted = [curve.get_label() for curve in axes.get_lines() if not str(curve.get_label()).startswith("_")]
    assert highlighted == ["the best"]
    assert axes.get_ylabel() == "rel_l2 in %"
