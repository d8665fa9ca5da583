"""Maps show the field and nothing else: whole up to the border, without bands, and its low part on a log scale too."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pinncore.mesh import mesh_of
from pinncore.problems import Column
from sweeps.figures import maps, studies
from sweeps.figures.drawing import picture_bytes
from sweeps.figures.fields import KeptField, Picture
from sweeps.figures.surfaces import joined
from tests.pinncore.test_mesh import gauss_points, on_elements, plate

Array = NDArray[np.float64]


def pixels(figure: Figure) -> Array:
    """Return the pixels [height, width, 3] of the plane in a picture, without its border."""
    image = matplotlib.image.imread(io.BytesIO(picture_bytes(figure, "png", transparent=False)))[..., :3]
    box = figure.axes[0].get_window_extent().extents * 200 / figure.dpi
    left, bottom, right, top = box.round().astype(int)
    inside = image[len(image) - top : len(image) - bottom, left:right]
    return inside[6:-6, 6:-6]


def plane(x: Array, y: Array) -> maps.Plane:
    return maps.Plane(x, y, ("x in mm", "y in mm"))


def test_the_residual_reaches_the_border() -> None:
    x, y = gauss_points(plate(8, 8))
    inner = np.random.default_rng(0).uniform(8, 92, (200, 2))
    drawn = maps.residual_map(plane(*inner.T), np.full(200, 0.3), within=plane(x, y), title="residual", label="")
    figure = maps.figure_of(drawn)
    assert np.ptp(pixels(figure), axis=(0, 1)).max() < 0.02, "one value, so one colour everywhere"


def test_a_field_that_does_not_change_has_no_bands() -> None:
    x, y = gauss_points(plate(20, 20))
    shown = pixels(maps.figure_of(maps.error_map(plane(x, y), x - 50, title="error", unit="1")))
    assert np.ptp(shown, axis=0).max() < 0.04, "along y, the field is constant"
    blue = shown[len(shown) // 2, :, 2]
    assert np.abs(np.diff(blue)).max() < 0.04, "along x, it changes without steps"


def kept(predicted: Array, reference: Array) -> KeptField:
    x, y, *_ = on_elements()
    coordinates = [Column("x", "x_mm", "mm"), Column("y", "y_mm", "mm")]
    return KeptField(
        coordinates, [Column("u", "u")], {"x_mm": x, "y_mm": y, "predicted": predicted, "reference": reference}
    )


def names(field: KeptField) -> list[list[str]]:
    """Return the names of the pictures, row by row."""
    return [[field.name(picture) for picture in row] for row in field.rows]


def test_a_field_over_decades_has_log_scales_too() -> None:
    *_, reference = on_elements()
    linear, log = ["predicted", "reference", "error"], ["predicted-log", "reference-log", "relative-error"]
    field = kept(reference * 1.01 - 3e-6, reference)  # some predictions are negative
    assert names(field) == [linear, log]
    assert all(field.figure(each, small=True).axes[0].get_title("left") for row in field.rows for each in row)
    holed = kept(reference * 1.01, np.where(np.arange(reference.size) < 9, 0.0, reference))
    assert names(holed) == [linear, log] and picture_bytes(holed.figure(Picture("relative-error", is_log=True)))
    assert names(kept(reference, reference)) == [linear, log[:2]], "no relative error to show"
    assert names(kept(reference, reference * np.nan)) == [linear[:1], log[:1]]
    assert names(kept(reference, reference - reference.mean())) == [linear], "it changes its sign"
    assert names(kept(reference, reference + 1.0)) == [linear], "it hardly changes"


def test_the_low_part_of_a_field_is_told_apart_on_a_log_scale() -> None:
    x, y = gauss_points(plate(10, 10))
    values = 10.0 ** (-6 + x / 50)  # two decades
    limits = (0.0, float(values.max()))
    straight = pixels(maps.figure_of(maps.field_map(plane(x, y), values, title="a", unit="1", limits=limits)))
    log = pixels(maps.figure_of(maps.log_map(plane(x, y), values, title="a", unit="1", of=values)))
    low = slice(0, straight.shape[1] // 3)
    colours = [np.median(shown, axis=0)[low] for shown in (straight, log)]
    changes = [np.abs(colour[-1] - colour[0]).sum() for colour in colours]
    assert changes[1] > 5 * changes[0]


def test_the_border_is_drawn_in_one_piece() -> None:
    mesh = mesh_of(*gauss_points(np.delete(plate(5, 5), 12, axis=0)))
    assert mesh is not None
    lines = joined(mesh.outline)
    assert sorted(map(len, lines)) == [5, 21] and all((line[0] == line[-1]).all() for line in lines)


def test_no_line_runs_through_a_tick_label() -> None:
    columns = [studies.Scaled(name, [1.0, 2.0, 3.0], "linear") for name in ("a", "b")]
    (axes,) = studies.parallel_coordinates(columns, good=1, others=2).axes
    plates = [text.get_bbox_patch() for text in axes.texts]
    assert plates and all(each is not None and each.get_alpha() is None for each in plates)
    x, y = gauss_points(plate(4, 4))
    marked = maps.Plane(x, y, ("x", "y"), [((0, 0), (30, 0))])
    figure = maps.figure_of(maps.error_map(marked, x, title="error", unit="1"))
    (mark,) = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    assert mark.get_clip_on(), "the notch lies inside, above the ticks"


@pytest.mark.parametrize("errors", [[1.0, 2.0, np.inf], [3.0, np.inf, np.inf]])
def test_words_on_failed_replicates_stand_beside_the_points(errors: list[float]) -> None:
    figure = studies.replicate_spread({0: errors}, [2.0], label="rel_l2", middle="median")
    picture_bytes(figure)
    (words,) = figure.axes[0].texts
    assert words.get_window_extent().x0 >= figure.axes[0].get_window_extent().x1
