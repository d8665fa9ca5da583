"""A field is drawn whatever its coordinates and outputs are: lines, maps and slices, whole and in true proportion."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pinncore.problems import Column
from sweeps.figures import drawing, maps
from sweeps.figures.fields import KeptField
from sweeps.figures.surfaces import Grid, Triangles, reach, surface_of

Array = NDArray[np.float64]
X, Y, Z, T = Column("x", "x", "m"), Column("y", "y", "m"), Column("z", "z", "m"), Column("t", "t", "s")
U, V, P = Column("u", "u", "m/s"), Column("v", "v", "m/s"), Column("p", "p", "kg/(m*s^2)")


def centres(low: float, high: float, cells: int) -> Array:
    return low + (high - low) * (np.arange(cells) + 0.5) / cells


def on_grid(*axes: Array) -> list[Array]:
    return [places.ravel() for places in np.meshgrid(*axes, indexing="ij")]


def field(coordinates: list[Column], places: list[Array], reference: Array, error: Array) -> KeptField:
    columns = {column.name: values for column, values in zip(coordinates, places, strict=True)}
    return KeptField(coordinates, [U], {**columns, "predicted": reference + error, "reference": reference})


def names(kept: KeptField) -> list[list[str]]:
    return [[kept.name(picture) for picture in row] for row in kept.rows]


def is_whole(figure: Figure) -> bool:
    """Return whether everything that is drawn lies inside the picture, as far as a pixel."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    box = figure.get_tightbbox(canvas.get_renderer())
    width, height = figure.get_size_inches()
    slack = 1.5 / figure.dpi
    return bool(box.x0 > -slack and box.y0 > -slack and box.x1 < width + slack and box.y1 < height + slack)


def line() -> KeptField:
    (x,) = on_grid(centres(0, 1, 1000))
    return field([X], [x], np.sin(2 * np.pi * x), 2e-5 * np.cos(x))


def x_t() -> KeptField:
    x, t = on_grid(centres(-1, 1, 60), centres(0, 0.01, 60))
    return field([X, T], [x, t], -np.sin(np.pi * x) * np.exp(-100 * t), 1e-3 * x)


def volume() -> KeptField:
    x, y, t = on_grid(centres(0, 1, 12), centres(0, 2, 12), centres(0, 3, 12))
    return field([X, Y, T], [x, y, t], np.sin(x) + y * t - 1, 1e-3 * x)


def space_and_time() -> KeptField:
    places = on_grid(*(centres(0, 1, 6),) * 4)
    return field([X, Y, Z, T], places, sum(places, np.zeros(6**4)) - 1.0, 1e-3 * places[0])


def system() -> KeptField:
    x, y = on_grid(centres(-0.5, 1, 30), centres(-0.5, 1.5, 30))
    values = {"u": np.cos(y), "v": np.exp(x) * np.sin(y), "p": 1e4 * x}
    columns = {f"{kind}_{name}": each for name, each in values.items() for kind in ("predicted", "reference")}
    return KeptField([X, Y], [U, V, P], {"x": x, "y": y, **columns})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (line, [["lines"]]),
        (x_t, [["predicted", "reference", "error"]]),
        (volume, [[f"{kind}-{axes}" for kind in ("predicted", "reference", "error")] for axes in ("xy", "xt", "yt")]),
        (
            space_and_time,
            [[f"{kind}-{axes}" for kind in ("predicted", "reference", "error")] for axes in ("xy", "zt")],
        ),
        (system, [[f"{kind}-{name}" for kind in ("predicted", "reference", "error")] for name in "uvp"]),
    ],
)
def test_every_output_and_slice_has_a_row_of_pictures(make: Callable[[], KeptField], expected: list[list[str]]) -> None:
    kept = make()
    assert names(kept) == expected
    for small in (True, False):
        for row in kept.rows:
            for picture in row:
                figure = kept.figure(picture, small=small)
                assert is_whole(figure), kept.name(picture)
                labels = {axes.get_xlabel() for axes in figure.axes} | {axes.get_ylabel() for axes in figure.axes}
                assert any("in s" in label or "in m" in label for label in labels)
    column = [row[0] for row in kept.rows]
    assert is_whole(kept.figure(*column, of=", trial 3 replicate 2"))


def test_without_a_reference_only_predictions_are_drawn() -> None:
    for make, expected in ((line, [["lines"]]), (x_t, [["predicted"]])):
        kept = make()
        columns = {column.name: values for column, values in zip(kept.coordinates, kept.places, strict=True)}
        output = kept.outputs[0]
        blind = KeptField(
            kept.coordinates, [U], {**columns, "predicted": output.predicted, "reference": output.predicted * np.nan}
        )
        assert names(blind) == expected
        assert len(blind.figure(blind.rows[0][0]).axes) == 1


def test_lines_show_both_fields_and_their_difference_in_its_own_unit() -> None:
    top, below = line().figure(line().rows[0][0]).axes
    assert {each.get_label() for each in top.lines} == {"predicted", "reference"}
    assert top.get_ylabel() == "u in m/s" and below.get_ylabel() == "error in $10^{-5}$ m/s"
    assert below.get_xlabel() == "x in m"
    assert below.get_xlim() == pytest.approx((0, 1)), "middles of cells, drawn to the border"
    shown = np.asarray(below.lines[-1].get_ydata())
    assert shown == pytest.approx(2 * np.cos(line().places[0]))


def test_a_slice_is_at_the_plane_of_the_grid_nearest_to_the_middle() -> None:
    kept = volume()
    assert [view.place for view in kept.views] == ["t = 1.38 s", "y = 0.917 m", "x = 0.458 m"]
    for view in kept.views:
        assert len(view.points) == 12 * 12
    cut = kept.views[0].points
    assert np.ptp(kept.places[2][cut]) == 0 and len(set(kept.places[0][cut])) == 12
    assert [view.place for view in space_and_time().views] == ["z = 0.417 m, t = 0.417 s", "x = 0.417 m, y = 0.417 m"]


def test_scattered_points_near_the_middle_are_a_slice() -> None:
    places = list(np.random.default_rng(0).uniform(0, 1, (3, 3000)))
    kept = field([X, Y, T], places, places[0], 0.1 * places[1])
    (view, *_) = kept.views
    assert 100 < len(view.points) < 600 and view.place.startswith("t from 0.4")
    assert np.abs(places[2][view.points] - 0.5).max() < 0.1


def test_slices_of_one_output_share_a_colour_scale() -> None:
    kept = volume()
    ends = {kept.figure(row[0]).axes[0].images[0].get_clim() for row in kept.rows}
    assert len(ends) == 1


def test_lengths_are_in_proportion_where_the_unit_is_the_same() -> None:
    for kept, aspect in ((x_t(), "auto"), (system(), 1.0)):
        assert kept.figure(kept.rows[0][0]).axes[0].get_aspect() == aspect


def test_a_grid_is_drawn_to_its_border_and_exactly() -> None:
    x, y = on_grid(centres(0, 1, 20), centres(0, 2, 10))
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    surface = surface_of(x, y)
    assert isinstance(surface, Grid) and surface.describe(200) == "200 points of a grid of 20 x 10"
    assert surface.limits == (pytest.approx((0, 1)), pytest.approx((0, 2)))
    drawn = maps.field_map(maps.Plane(x, y, ("x", "y")), 3 * x - y, title="", unit="1", limits=(-3.0, 4.0))
    (image,) = maps.figure_of(drawn).axes[0].images
    pixels = np.asarray(image.get_array())
    middle = (np.arange(len(pixels)) + 0.5) / len(pixels)
    assert np.abs(pixels - (3 * middle - 2 * middle[:, None])).max() < 1e-9, "a linear field stays linear"


def test_a_grid_of_middles_reaches_further_than_one_of_corners() -> None:
    assert reach(centres(-1, 1, 10)) == pytest.approx((-1, 1))
    assert reach(centres(0, np.pi, 100)) == pytest.approx((0, np.pi))
    assert reach(np.linspace(-1, 1, 256)) == (-1, 1)
    assert reach(np.array([0.528, 20.528, 40.528])) == (0.528, 40.528)
    assert reach(np.array([0.0, 0.1, 1.0])) == (0, 1)


def test_a_grid_with_holes_is_drawn_where_its_points_are() -> None:
    x, y = on_grid(centres(-1, 1, 40), centres(-1, 1, 40))
    ring = (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.4)
    surface = surface_of(x[ring], y[ring])
    assert isinstance(surface, Grid) and surface.describe(int(ring.sum())).endswith("points of a grid")
    axes = maps.figure_of(
        maps.field_map(maps.Plane(x[ring], y[ring], ("x", "y")), x[ring], title="", unit="1", limits=(-1.0, 1.0))
    ).axes[0]
    shown = ~np.ma.getmaskarray(axes.images[0].get_array())
    (left, right), (bottom, top) = surface.limits
    area = shown.mean() * (right - left) * (top - bottom)
    assert area == pytest.approx(np.pi * (1 - 0.4**2), rel=0.03)
    assert len(surface.outline) == 2
    radii = sorted(float(np.hypot(*line.T).mean()) for line in surface.outline)
    assert radii == pytest.approx([0.4, 1.0], abs=0.04)


def test_scattered_points_are_joined_by_triangles_whatever_their_units() -> None:
    x, t = np.random.default_rng(1).uniform(0, 1, (2, 500))
    one, other = surface_of(x, t), surface_of(x, 1000 * t, same_unit=False)
    assert isinstance(one, Triangles) and isinstance(other, Triangles)
    assert one.describe(500) == other.describe(500) == "500 points, joined by triangles"
    assert other.limits[1] == pytest.approx([1000 * end for end in one.limits[1]])
    lengths = [sum(len(line) for line in surface.outline) for surface in (one, other)]
    assert abs(lengths[0] - lengths[1]) <= 6, "the same triangles but for the shares of the ranges"


def test_a_field_far_from_zero_fills_its_colour_scale() -> None:
    x, y = on_grid(centres(0, 1, 20), centres(0, 1, 20))
    warm = field([X, Y], [x, y], 293 + x, 1e-3 * y)
    assert warm.outputs[0].limits == pytest.approx((293.025, 293.975))
    damaged = field([X, Y], [x, y], 0.01 + x, 1e-3 * y)
    assert damaged.outputs[0].limits[0] == 0.0


@pytest.mark.parametrize(
    ("unit", "written"),
    [("1", ""), ("m/s", " in m/s"), ("mm^2", " in mm²"), ("kg/(m*s^-2)", " in kg/(m·s⁻²)"), ("$", r" in \$")],
)
def test_units_are_written_as_people_do(unit: str, written: str) -> None:
    assert drawing.axis_label("u", unit) == f"u{written}"


def test_long_names_fit_in_a_title() -> None:
    for name in ("u", "turbulent_kinetic_energy", "a" * 200):
        figure, axes = drawing.panel(2.4, 1.95)
        with plt.rc_context(drawing.STYLE):
            drawing.fitted_title(axes, f"{name} predicted", most=20)
        assert is_whole(figure), name
