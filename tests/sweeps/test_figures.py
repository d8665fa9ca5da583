"""Figures are pictures, always the same for the same arrays, and drawn for odd values too."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from sweeps import drawing, figures, trialfigures

from . import synthetic


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_figures_are_pictures_and_always_the_same(format: drawing.Format, start: bytes) -> None:
    curve = synthetic.curve(1)
    drawn = [figures.training_curves(curve, title="Trial 1", format=format) for _ in range(2)]
    assert drawn[0] == drawn[1] and drawn[0].startswith(start)


def test_figures_leave_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    x_mm, y_mm, local, reference = synthetic.small_points()
    figures.strain_field(x_mm, y_mm, reference, title="a", limits=(0.0, 4e-4))
    figures.strain_error(x_mm, y_mm, local - reference, title="a")
    assert dict(matplotlib.rcParams) == before


def test_figures_of_odd_values_are_drawn() -> None:
    x_mm, y_mm, _, reference = synthetic.small_points()
    figures.strain_error(x_mm, y_mm, 0 * reference, title="exact")
    figures.strain_field(x_mm, y_mm, 0 * reference, title="zero", limits=(0.0, 0.0))
    figures.strain_field(x_mm, y_mm, 0 * reference + 2e-4, title="constant", limits=(0.0, 3e-4))
    trialfigures.error_against(
        "init", ["$x$", "torch", "file:/a/very/long/path.npz"], np.array([0.0, 1.0, 2.0]), scale="category"
    )
    trialfigures.error_against(
        "width", [8, 8], np.array([3.0, 3.1]), scale="linear", best=0, unfinished={"failed": [8]}
    )
    trialfigures.error_against(
        "adam_lr", [1e-3], np.array([3.0]), scale="log", unfinished={"failed": [1e-4], "pruned": [1e-5, 1e-2]}
    )
    figures.weight_maps({0: np.zeros((3, 1))}, title="zeros")
    one_row = {
        name: values[:1] if name not in ("trial", "replicate") else values
        for name, values in synthetic.curve(0).items()
    }
    figures.training_curves(one_row | {"loss_lrb": np.array([np.nan])}, title="one row")
    figures.error_curves({0: (np.array([0.0]), np.array([np.nan]))}, best=None, title="none")


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
    assert trialfigures.guessed_scale(values, kind=kind) == scale
