"""The elements are found again from their Gauss points, and other points are drawn on triangles."""

from __future__ import annotations

import numpy as np
import pytest

from pinncore.mesh import Array, mesh_of
from tests.sweeps import synthetic


def gauss_points(corners: Array, *, around: bool = False) -> tuple[Array, Array]:
    """Return the 2 x 2 Gauss points of quadrilaterals, shape [elements, 4, 2], row by row or counter-clockwise."""
    places = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if around else [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    shape = np.array(
        [[(1 + xi * s) * (1 + eta * t) / 4 for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
         for xi, eta in np.array(places) / np.sqrt(3)]
    )  # fmt: skip
    points = np.einsum("gc,ecd->egd", shape, corners).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def plate(rows: int, columns: int, *, skew: float = 0.0) -> Array:
    """Return the corners of adjacent elements on [0, 100] x [0, 100], of uneven size; with `skew`, not rectangular."""
    x, y = np.meshgrid(100 * np.linspace(0, 1, columns + 1) ** 1.3, 100 * np.linspace(0, 1, rows + 1))
    nodes = np.stack([x + skew * np.sin(y / 9), y + skew * np.cos(x / 11)], axis=2)
    corners = [nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]]
    return np.stack(corners, axis=2).reshape(-1, 4, 2)


def on_elements() -> synthetic.Points:
    """Return the field of `synthetic.small_points` at the Gauss points of 6 x 6 elements."""
    x_mm, y_mm = gauss_points(plate(6, 6))
    reference = 3.6e-4 * np.exp(-((np.hypot(x_mm - 31.0, 0.6 * y_mm) / 16.0) ** 1.4)) + 2e-6
    return x_mm, y_mm, 1.4 * reference, reference


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("skew", [0.0, 1.5])
def test_the_elements_of_gauss_points_are_found(skew: float, around: bool) -> None:
    corners = plate(5, 7, skew=skew)
    mesh = mesh_of(*gauss_points(corners, around=around))
    assert mesh is not None and mesh.elements == 35
    assert mesh.outline.shape == (2 * (5 + 7), 2, 2)
    nodes = np.stack([mesh.x, mesh.y], axis=1)[140:]
    assert len(nodes) == 6 * 8
    missing = np.linalg.norm(corners.reshape(-1, 1, 2) - nodes, axis=2).min(axis=1)
    assert missing.max() < 1e-9, "nodes are where the corners of the elements meet"


def test_values_at_points_are_kept_and_linear_fields_extrapolated() -> None:
    x_mm, y_mm = gauss_points(plate(5, 7, skew=1.5))
    mesh = mesh_of(x_mm, y_mm)
    assert mesh is not None
    values = mesh.at_vertices(3 + 2 * x_mm - y_mm)
    assert values[: len(x_mm)].tolist() == (3 + 2 * x_mm - y_mm).tolist()
    assert np.allclose(values, 3 + 2 * mesh.x - mesh.y, atol=1e-9)


def test_triangles_fill_the_plate_once() -> None:
    mesh = mesh_of(*gauss_points(plate(4, 4)))
    assert mesh is not None
    first, second, third = (np.stack([mesh.x, mesh.y], axis=1)[mesh.triangles[:, at]] for at in range(3))
    across, along = second - first, third - first
    areas = (across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0]) / 2
    assert areas.min() > 0 and areas.sum() == pytest.approx(100 * 100)


def test_a_hole_in_the_mesh_stays_one() -> None:
    corners = np.delete(plate(5, 5), 12, axis=0)
    mesh = mesh_of(*gauss_points(corners))
    assert mesh is not None and mesh.elements == 24 and len(mesh.outline) == 20 + 4


def test_other_points_are_joined_by_triangles_that_bridge_no_gap() -> None:
    x_mm, y_mm, *_ = synthetic.small_points()
    mesh = mesh_of(x_mm, y_mm)
    assert mesh is not None and mesh.elements == 0 and len(mesh.triangles) == 2 * 19 * 19
    far = (x_mm < 20) | (x_mm > 80)
    parts = mesh_of(x_mm[far], y_mm[far])
    assert parts is not None and len(parts.triangles) == 2 * 2 * 3 * 19
    assert mesh.at_vertices(x_mm) is x_mm


def test_shuffled_gauss_points_are_those_of_no_element() -> None:
    x_mm, y_mm = gauss_points(plate(5, 5))
    order = np.random.default_rng(0).permutation(len(x_mm))
    mesh = mesh_of(x_mm[order], y_mm[order])
    assert mesh is not None and mesh.elements == 0


def test_points_on_a_line_span_no_plane() -> None:
    assert mesh_of(np.arange(16.0), np.arange(16.0)) is None
    assert mesh_of(np.array([1.0]), np.array([2.0])) is None
