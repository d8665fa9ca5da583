"""Samplers: evenness, exact counts and shapes of grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinncore.geometry import Box
from pinncore.geometry.region import shares
from pinncore.geometry.samplers import LARGEST_ASPECT, SAMPLERS, Cube, grid_shape

LENGTHS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4)


@given(count=st.integers(1, 20_000), lengths=LENGTHS)
def test_grids_are_the_finest_of_at_most_count(count: int, lengths: list[float]) -> None:
    cells = grid_shape(count, lengths)
    total = math.prod(cells)
    assert 1 <= total <= count and min(cells) >= 1
    assert all(total // n * (n + 1) > count for n in cells)  # no further layer has room
    longest = max(lengths)
    sides = [max(length, longest / LARGEST_ASPECT) / n for length, n in zip(lengths, cells, strict=True)]
    several = [side for side, n in zip(sides, cells, strict=True) if n > 3]
    assert not several or max(several) / min(several) < 2  # about cubes


@pytest.mark.parametrize(
    ("count", "lengths", "shape"),
    [
        (4096, (1, 1), (64, 64)),
        (4096, (2, 1), (91, 45)),
        (1000, (1,), (1000,)),
        (1000, (1, 1, 1), (10, 10, 10)),
        (5, (1000, 1), (5, 1)),
        (4000, (1000, 1), (200, 20)),
    ],
)
def test_shape_of_grids(count: int, lengths: tuple[float, ...], shape: tuple[int, ...]) -> None:
    assert grid_shape(count, lengths) == shape


def test_gauss_points_integrate_cubics_in_every_direction_exactly() -> None:
    points = Box(x=(0, 1), y=(0, 2)).draw(64, "gauss", 0)
    assert len(points["x"]) == 60  # 3 x 5 cells
    assert np.mean(points["x"] ** 3 * points["y"] ** 2) == pytest.approx(1 / 4 * 8 / 6, rel=1e-14)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_points_are_spread_as_they_should(name: str, dimension: int) -> None:
    cube = Cube((1.0,) * dimension, (True,) * dimension)
    points = SAMPLERS[name].draw(4096, cube, np.random.default_rng(5))
    assert points.shape[1] == dimension and (points >= 0).all() and (points <= 1).all()
    below = math.acos(1 - 2 / 8) / math.pi if name == "refined" else 1 / 8
    for values in points.T:
        assert np.mean(values < 1 / 8) == pytest.approx(below, abs=0.03)
        assert np.mean(values < 1 / 2) == pytest.approx(1 / 2, abs=0.03)


def test_refined_leaves_round_directions_even() -> None:
    points = SAMPLERS["refined"].draw(1024, Cube((1.0, 1.0), (False, True)), np.random.default_rng(0))
    assert np.mean(points[:, 0] < 1 / 8) == pytest.approx(1 / 8, abs=0.01)
    assert np.mean(points[:, 1] < 1 / 8) == pytest.approx(math.acos(3 / 4) / math.pi, abs=0.01)


def test_low_discrepancy_fills_better_than_chance() -> None:
    empty = {}
    for name in ("sobol", "lhs", "uniform"):
        points = Box(x=(0, 1), y=(0, 1)).draw(1024, name, 1)
        cells = (points["x"] * 32).astype(int) * 32 + (points["y"] * 32).astype(int)
        empty[name] = 1024 - len(set(cells.tolist()))
    assert empty["sobol"] == 0 and empty["uniform"] > 300
    assert len(set((Box(x=(0, 1)).draw(1000, "lhs", 1)["x"] * 1000).astype(int))) == 1000


@given(count=st.integers(1, 1000), sizes=st.lists(st.floats(0, 100), min_size=1, max_size=8).filter(any))
def test_shares_add_up(count: int, sizes: list[float]) -> None:
    given_ = shares(count, sizes)
    positive = sum(size > 0 for size in sizes)
    assert sum(given_) == max(count, positive)
    assert all((part > 0) == (size > 0) for part, size in zip(given_, sizes, strict=True))
    if count >= 10 * len(sizes):
        for part, size in zip(given_, sizes, strict=True):
            assert abs(part - count * size / sum(sizes)) < len(sizes) + 1
