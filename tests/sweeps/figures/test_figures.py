"""Figures are pictures, always the same for the same arrays, and drawn for odd values too."""

from __future__ import annotations

import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from sweeps.figures import budget, courses, drawing, maps, parity
from sweeps.figures import studies as studyfigures

from .. import synthetic


def plane(first: NDArray[np.float64], second: NDArray[np.float64]) -> maps.Plane:
    """Points with the axes of a plate."""
    return maps.Plane(first, second, ("x in mm", "y in mm"))


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_figures_are_pictures_and_always_the_same(format: drawing.Format, start: bytes) -> None:
    curve = synthetic.curve(1)
    pictures = [drawing.picture_bytes(courses.training_curves(curve, title="Trial 1"), format) for _ in range(2)]
    assert pictures[0] == pictures[1] and pictures[0].startswith(start)


def test_figures_leave_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    x_mm, y_mm, local, reference = synthetic.small_points()
    maps.figure_of(
        maps.field_map(plane(x_mm, y_mm), reference, title="a", limits=(0.0, 4e-4), unit="1"),
        maps.error_map(plane(x_mm, y_mm), local - reference, title="a", unit="1"),
    )
    assert dict(matplotlib.rcParams) == before


def test_figures_of_odd_values_are_drawn() -> None:
    x_mm, y_mm, _, reference = synthetic.small_points()
    at = plane(x_mm, y_mm)
    maps.figure_of(maps.error_map(at, 0 * reference, title="exact", unit="K"))
    maps.figure_of(maps.field_map(at, 0 * reference, title="zero", limits=(0.0, 0.0), unit="1"))
    maps.figure_of(maps.field_map(at, 0 * reference + 2e-4, title="constant", limits=(0.0, 3e-4), unit="1"))
    studyfigures.error_against(
        "init", ["$x$", "torch", "file:/a/very/long/path.npz"], np.array([0.0, 1.0, 2.0]), scale="category"
    )
    studyfigures.error_against(
        "width", [8, 8], np.array([3.0, 3.1]), scale="linear", best=0, unfinished={"failed": [8]}
    )
    studyfigures.error_against(
        "adam_lr", [1e-3], np.array([3.0]), scale="log", unfinished={"failed": [1e-4], "pruned": [1e-5, 1e-2]}
    )
    courses.weight_maps({"epoch 0": np.zeros((3, 1))}, title="zeros")
    for parts in ({"a": None, "b": None}, {"a": 1e-9, "b": 0.5}, {"a": 0.0, "b": None}):
        for whole in (0.0, 0.01):
            budget.budget_bars(parts, whole=whole, title="Trial 1")
    one_row = {
        name: values[:1] if name not in ("trial", "replicate") else values
        for name, values in synthetic.curve(0).items()
    }
    courses.training_curves(one_row | {"loss_lrb": np.array([np.nan])}, title="one row")
    courses.error_curves({0: (np.array([0.0]), np.array([np.nan]))}, best=None, title="none")


def test_figures_of_a_whole_study_are_drawn_for_odd_values() -> None:
    columns = [
        studyfigures.Scaled("max_evaluations", [None, 500, 900], "log"),
        studyfigures.Scaled("a$b", ["torch", None, None], "category"),
        studyfigures.Scaled("same", [2.0, 2.0, 2.0], "linear"),
        studyfigures.Scaled("absent", [None, None, None], "category"),
        studyfigures.Scaled("rel_l2 in %", [0.0, 1.0, 2.0], "linear"),
    ]
    for good in (1, 3):
        studyfigures.parallel_coordinates(columns, good=good, others=3 - good)
    once, front = np.array([2.0]), np.array([True])
    studyfigures.cost_against_error(once, 0 * once, front, label="loss", title="one")
    studyfigures.cost_distribution({"complete": once}, title="one")
    studyfigures.cost_distribution({"complete": np.geomspace(1, 1e4, 40), "failed": once}, title="many")
    studyfigures.loss_shares({"start": {"residual": 1.0, "lrb": 0.0}})
    studyfigures.importances({"$x$": (0.0, 0.0, 0.0), "y": (1.0, 0.9, 1.0)}, {"$x$": 0.0, "y": 3.0})


def test_equal_times_are_one_bar_on_an_axis_of_plain_numbers() -> None:
    figure = studyfigures.cost_distribution({"complete": np.full(6, 21.75) + 1e-9 * np.arange(6)}, title="equal")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (bar,) = [patch for patch in axes.patches if patch.get_height()]
    assert bar.get_height() == 6 and bar.get_x() < 21.75 < bar.get_x() + bar.get_width()
    assert axes.xaxis.get_major_formatter().get_offset() == ""


def test_the_legend_of_a_wide_picture_is_where_a_phone_begins() -> None:
    """A phone shows the left third of a picture of 9.2 inches."""
    curve = {name: values for name, values in synthetic.curve(0).items() if name not in ("trial", "replicate")}
    figures = (
        courses.training_curves(curve, title="one"),
        studyfigures.loss_shares({"start": {"residual": 0.9, "lrb": 0.1}}),
        studyfigures.importances({"x": (0.1, 0.0, 0.2), "y": (0.9, 0.8, 1.0)}, {"x": 0.2, "y": 0.3}),
        studyfigures.replicate_spread({0: [1.0, 2.0]}, [1.5], label="rel_l2", middle="median"),
        studyfigures.compromises(np.ones((3, 2)), np.array([True, False, False]), labels=["a", "b"]),
        studyfigures.parallel_coordinates([studyfigures.Scaled("a", [1, 2, 3], "linear")] * 2, good=2, others=1),
    )
    for figure in figures:
        figure.draw_without_rendering()
        axes = figure.axes[0]
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        assert box.x0 < 0.33 * figure.bbox.width
        title = axes._left_title  # type: ignore[attr-defined]
        assert not title.get_text() or not box.overlaps(title.get_window_extent())


def test_what_was_not_recorded_is_hatched_on_light_and_dark_pages() -> None:
    """Blank cells look like the smallest difference on light pages and like the largest one on dark ones."""
    units = np.array([[0.1, 1e9], [0.1, np.nan]])
    svg = drawing.picture_bytes(parity.difference_map(units, names=["W1", "u"], steps=[0, 1], along="step"))
    for picture in (svg, drawing.for_dark_pages(svg)):
        assert b"<pattern" in picture
    assert re.findall(rb"<pattern.*?</pattern>", svg, flags=re.DOTALL) != re.findall(
        rb"<pattern.*?</pattern>", drawing.for_dark_pages(svg), flags=re.DOTALL
    )


def test_the_plate_is_drawn_on_any_points() -> None:
    x_mm, y_mm, _, reference = synthetic.small_points()
    line = np.arange(3.0)
    maps.figure_of(maps.field_map(plane(line, line), line, title="on a line", limits=(0.0, 1.0), unit="1"))
    plate = plane(np.array([0.0, 100.0, 100.0, 0.0]), np.array([0.0, 0.0, 100.0, 100.0]))
    marked = replace(plane(x_mm, y_mm), marks=[((0, 0), (30, 0))])
    maps.figure_of(maps.residual_map(marked, reference, within=plate, title="residual", label="residual"))


def test_pictures_for_dark_pages_differ_in_their_colours_alone() -> None:
    figure = studyfigures.error_against("width", [8, 16], np.array([3.0, 9.0]), scale="category", best=0)
    svg = drawing.picture_bytes(figure)
    dark = drawing.for_dark_pages(svg)
    assert len(dark) == len(svg)
    colours = [set(re.findall(rb"#[0-9a-f]{6}", picture)) for picture in (svg, dark)]
    assert colours[0] and not colours[0] & colours[1]


def test_round_numbers_lie_between_the_ends() -> None:
    assert drawing.round_numbers(0.0012, 0.019, log=True).tolist() == [0.002, 0.005, 0.01]
    assert drawing.round_numbers(0.0, 1.0, log=False).tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("values", "kind", "scale"),
    [
        ([8, 16, 24], "choice", "category"),
        (["torch", "tf1"], "choice", "category"),
        ([True, False], "", "category"),
        ([2, 3, 8], "int", "category"),
        ([2, 30, 80], "int", "linear"),
        ([1e-4, 1e-2], "loguniform", "log"),
        ([10, 5000], "logint", "log"),
        ([0.1, 0.9], "uniform", "linear"),
        ([1e-4, 1e-2], "", "log"),
    ],
)
def test_the_scale_of_a_setting_follows_its_dimension(values: list[object], kind: str, scale: str) -> None:
    assert studyfigures.guessed_scale(values, kind=kind) == scale
