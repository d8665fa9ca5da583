"""Regions: which points they hold, which they give, and what mistakes say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp

from pinncore.errors import SettingError
from pinncore.geometry import SAMPLERS, At, Ball, Box, Disk, Region, field_grid

SQUARE = Box(x=(-1, 1), y=(0, 3))
HOLED = Box(x=(0, 1), y=(0, 1), t=(0, 2)) - Disk(x=0.5, y=0.5, r=0.2) - Box(x=(0.8, 1.5), y=(0.8, 1))
SOLIDS = {
    "interval": Box(x=(2, 3)),
    "square": SQUARE,
    "four": Box(x=(0, 1), y=(0, 1), z=(-1, 0), t=(0, 10)),
    "disk": Disk(x=1, y=2, r=0.5),
    "ball": Ball(x=0, y=0, z=0, r=2),
    "holed": HOLED,
    "lens": Disk(x=0, y=0, r=1) & Disk(x=1, y=0, r=1),
    "both": Box(x=(0, 1), y=(0, 1)) | Disk(x=1, y=0.5, r=0.3),
    "part": SQUARE.where(lambda x, y: x + y > 1),
    "relational": SQUARE.where(sp.Symbol("x") ** 2 + sp.Symbol("y") ** 2 > 1),
}
SURFACES = {
    "walls": SQUARE.faces("x"),
    "all": SQUARE.boundary,
    "start": HOLED.face(t=0),
    "cylinder": HOLED.boundary_of(Disk(x=0.5, y=0.5, r=0.2)),
    "holed": HOLED.boundary,
    "sphere": Ball(x=0, y=0, z=0, r=2).boundary,
    "interface": SQUARE.boundary_of(Disk(x=0, y=1, r=0.5)),
    "part": SQUARE.boundary.where(lambda y: y > 1),
    "slice": At(x=0.1).within(SQUARE),
    "slice part": At(t=0.5).where(lambda x: x < 0.4).within(HOLED),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", [*SOLIDS, *SURFACES])
def test_points_lie_in_their_region(name: str, sampler: str) -> None:
    region: Region = (SOLIDS | SURFACES)[name]
    points = region.draw(500, sampler, [3, 1])
    coordinates = {name: points[name] for name in region.limits}
    assert region.contains(coordinates).all()
    for axis, (low, high) in region.limits.items():
        assert low - 1e-9 <= coordinates[axis].min() <= coordinates[axis].max() <= high + 1e-9
    count = len(next(iter(points.values())))
    if SAMPLERS[sampler].is_random:
        assert count == 500
    else:
        assert 250 < count <= 500


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("region", [SQUARE, HOLED, HOLED.boundary], ids=["square", "holed", "boundary"])
def test_draws_depend_on_seed_and_round_alone(region: Region, sampler: str) -> None:
    first, again, other = (region.draw(300, sampler, seed) for seed in ([7, 1], [7, 1], [7, 2]))
    for name, values in first.items():
        assert np.array_equal(values, again[name])
    is_same = all(np.array_equal(values, other[name]) for name, values in first.items())
    assert is_same != SAMPLERS[sampler].is_random


def test_intervals_are_given_as_they_are_until_numbers_are_needed() -> None:
    length = sp.Symbol("length", positive=True)
    box = Box(x=(0, length), t=(0, sp.pi))
    walls, end = box.faces("x"), box.face(x=length)
    box.face(t=0)
    assert Box(t=(0, sp.pi)).limits == {"t": (0.0, math.pi)}
    assert box == Box(x=(0, length), t=(0, sp.pi)) != Box(x=(0, 1), t=(0, sp.pi))
    for region in (box, walls, end, At(x=length / 2).within(box), Disk(x=0, t=0, r=length)):
        with pytest.raises(SettingError, match=r"length.*finite number|finite number.*length"):
            _ = region.limits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(), "1 to 4 coordinates"),
        (lambda: Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1), e=(0, 1)), "1 to 4 coordinates"),
        (lambda: Box(x=1), r"Write Box\(x=\(0, 1\)\)"),
        (lambda: Box(x=(1, 1)).limits, "first end must be less"),
        (lambda: Box(x=(1, 0)).draw(3, "sobol", 0), "first end must be less"),
        (lambda: Box(x=(0, math.nan)).limits, "finite number, got nan"),
        (lambda: Box(x=("0", 1)).limits, "finite number, got '0'"),
        (lambda: SQUARE.faces("z"), "must be a coordinate of the domain, got 'z'. It has x, y"),
        (lambda: SQUARE.faces(), "must name a coordinate"),
        (lambda: SQUARE.face(x=0), r"an end of x, -1 or 1, got 0.0. At\(x=0\) is a slice"),
        (lambda: SQUARE.face(x=1, y=0), "must name one coordinate"),
        (lambda: SQUARE.face(t=1), "must be a coordinate"),
        (lambda: SQUARE - Disk(x=0, z=0, r=1), "must be a coordinate of the domain, got 'z'"),
        (lambda: SQUARE | Box(x=(0, 1)), "must be a coordinate of the domain, got 'y'"),
        (lambda: SQUARE - 3, "must be a solid"),
        (lambda: (SQUARE & Box(x=(2, 3))).limits, "must have points"),
        (lambda: Disk(x=0, r=1), "2 or 3 coordinates"),
        (lambda: Disk(x=0, y=0, r=0).limits, "greater than 0"),
        (lambda: Disk(x=0, y=0, r=1).faces("x").limits, "flat ends"),
        (lambda: At(), "must have a coordinate"),
        (lambda: At(x=2).within(SQUARE).limits, r"At\(x\): must be in the domain, -1 to 1, got 2"),
        (lambda: At(z=2).within(SQUARE).limits, "must be a coordinate"),
        (lambda: SQUARE.draw(0, "sobol", 0), "at least 1, got 0"),
        (lambda: SQUARE.draw(True, "sobol", 0), "whole number"),
        (lambda: SQUARE.draw(1, "halton", 0), "must be one of sobol, lhs"),
        (lambda: SQUARE.where(lambda x, q: x > q).draw(5, "sobol", 0), "must be a coordinate of the domain, got 'q'"),
        (lambda: SQUARE.where(lambda x: x).draw(5, "sobol", 0), "truth value for each"),
        (lambda: SQUARE.where(sp.Symbol("x")).draw(5, "sobol", 0), "must be an inequality"),
        (lambda: SQUARE.where(sp.Symbol("a") > 1).draw(5, "sobol", 0), "coordinate of the domain, got 'a'"),
        (lambda: SQUARE.where(3).draw(5, "sobol", 0), "function or an inequality"),
        (
            lambda: SQUARE.faces("x").where(lambda x: x > 2).draw(5, "grid", 0, what="condition hot"),
            "condition hot: must have points",
        ),
        (
            lambda: SQUARE.boundary_of(Disk(x=9, y=9, r=1)).draw(5, "sobol", 0, what="condition hole"),
            "condition hole: must have points",
        ),
        (lambda: SQUARE.where(lambda x: x < -1 + 2e-5).draw(10_000, "sobol", 0), "tighter limits"),
        (lambda: SQUARE.contains({"z": np.zeros(1)}), "must be a coordinate"),
        (lambda: SQUARE.boundary | HOLED.boundary, "of the same domain"),
    ],
)
def test_mistakes_say_rule_and_value(make, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


def test_faces_have_their_coordinate_and_normals_out_of_the_box() -> None:
    points = SQUARE.faces("x").draw(100, "sobol", 0)
    assert set(points["x"]) == {-1.0, 1.0} and (points["x"] == -1).sum() == 50
    assert np.array_equal(points["normal_x"], np.sign(points["x"]))
    assert not points["normal_y"].any()
    start = SQUARE.face(y=0).draw(10, "grid", 0)
    assert not start["y"].any() and (start["normal_y"] == -1).all() and not start["normal_x"].any()
    assert np.allclose(start["x"], np.linspace(-0.9, 0.9, 10))


def test_several_faces_share_points_by_size() -> None:
    points = SQUARE.boundary.draw(100, "uniform", 0)
    at_x = np.isin(points["x"], (-1.0, 1.0))
    assert at_x.sum() == 60 and len(at_x) == 100  # 3 + 3 of 10
    corners = Box(x=(0, 1), y=(0, 1e-6)).boundary.draw(100, "uniform", 0)
    assert (np.isin(corners["x"], (0.0, 1.0))).sum() == 2  # at least one on each


def test_no_dimension_gives_its_points_whatever_the_count() -> None:
    ends = Box(x=(0, 2)).faces("x").draw(50, "sobol", 0)
    assert ends["x"].tolist() == [0.0, 2.0] and ends["normal_x"].tolist() == [-1.0, 1.0]
    point = At(x=0.5, y=1).within(SQUARE).draw(7, "grid", 0)
    assert {name: values.tolist() for name, values in point.items()} == {"x": [0.5], "y": [1.0]}
    assert At(x=1).draw(3, "lhs", 0) == {"x": np.array([1.0])}


def test_the_boundary_of_a_hole_points_into_the_hole_and_leaves_other_coordinates_free() -> None:
    disk = Disk(x=0.5, y=0.5, r=0.2)
    for region in (HOLED.boundary_of(disk), disk.boundary.within(HOLED)):
        points = region.draw(400, "sobol", 1)
        assert np.allclose(np.hypot(points["x"] - 0.5, points["y"] - 0.5), 0.2)
        assert np.allclose(points["normal_x"], (0.5 - points["x"]) / 0.2)
        assert np.allclose(np.hypot(points["normal_x"], points["normal_y"]), 1)
        assert not points["normal_t"].any() and np.ptp(points["t"]) > 1.9
        assert abs(np.mean(points["x"]) - 0.5) < 0.01  # all the way round
    outer = disk.boundary.draw(400, "sobol", 1)
    assert np.allclose(outer["normal_x"], (outer["x"] - 0.5) / 0.2)


def test_boundaries_leave_out_what_holes_cut_off() -> None:
    corner = Box(x=(0.5, 1), y=(0.5, 1))
    ell = Box(x=(0, 1), y=(0, 1)) - corner
    right = ell.face(x=1).draw(200, "uniform", 0)
    assert right["y"].max() < 0.5
    inner = ell.boundary_of(corner).draw(200, "uniform", 0)
    on_x = inner["x"] == 0.5
    assert on_x.sum() == 100 and np.isin(inner["y"][~on_x], 0.5).all()
    assert (inner["normal_x"][on_x] == 1).all() and (inner["normal_y"][~on_x] == 1).all()
    whole = ell.boundary.draw(400, "uniform", 0)
    assert (np.isin(whole["x"], (0, 0.5, 1)) | np.isin(whole["y"], (0, 0.5, 1))).all()
    assert ell.contains({name: whole[name] for name in "xy"}).all()
    assert abs((whole["x"] == 0.0).sum() - 100) <= 2  # the perimeter is 4
    box = Box(x=(0, 1), y=(0, 1))
    assert box.face(x=1).within(ell).draw(50, "uniform", 0)["y"].max() < 0.5


def test_unions_have_no_boundary_inside() -> None:
    two = Box(x=(0, 1), y=(0, 1)) | Box(x=(1, 2), y=(0, 1))
    points = two.boundary.draw(600, "sobol", 0)
    inside = (points["y"] > 1e-9) & (points["y"] < 1 - 1e-9)
    assert set(points["x"][inside]) == {0.0, 2.0}
    assert inside.sum() == pytest.approx(200, abs=4)
    assert set(two.faces("x").draw(10, "sobol", 0)["x"]) == {0.0, 2.0}


def test_joined_boundaries() -> None:
    joined = SQUARE.face(x=-1) | SQUARE.face(y=3)
    points = joined.draw(100, "sobol", 0)
    assert ((points["x"] == -1) | (points["y"] == 3)).all() and (points["x"] == -1).sum() == 60
    assert (joined | joined) == joined


def test_disks_and_spheres_are_covered_evenly() -> None:
    disk = Disk(x=0, y=0, r=1).draw(4000, "sobol", 0)
    assert np.mean(np.hypot(disk["x"], disk["y"]) < 0.5) == pytest.approx(0.25, abs=0.01)
    sphere = Ball(x=0, y=0, z=0, r=1).boundary.draw(4000, "sobol", 0)
    for axis in "xyz":
        assert np.mean(sphere[axis] > 0.5) == pytest.approx(0.25, abs=0.01)


def test_contains_keeps_to_the_region() -> None:
    grid = {"x": np.array([0.0, 0.5, 1.0, 1.1, 0.9]), "y": np.array([0.0, 0.5, 0.9, 0.0, 0.9]), "t": np.ones(5)}
    assert HOLED.contains(grid).tolist() == [True, False, False, False, False]
    at = {"x": np.array([-1.0, 0.0, 1.0, 1.0]), "y": np.array([1.0, 1.0, 3.0, 3.1])}
    assert SQUARE.faces("x").contains(at).tolist() == [True, False, True, False]
    assert At(x=0).within(SQUARE).contains(at).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("region", "count"),
    [
        (Box(x=(0, 1)), 1_000),
        (Box(x=(0, 1), y=(0, 1)), 10_000),
        (Box(x=(-1, 1), t=(0, 9)), 10_000),
        (Box(x=(0, 1), y=(0, 1), t=(0, 1)), 22**3),
        (Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1)), 10_000),
    ],
)
def test_field_grid_has_as_many_points_in_every_coordinate(region: Box, count: int) -> None:
    points = field_grid(region)
    cells = {name: np.unique(values) for name, values in points.items()}
    assert len({len(values) for values in cells.values()}) == 1
    assert all(len(values) == count for values in points.values())
    for name, (low, high) in region.limits.items():
        first = cells[name][0]
        assert first == pytest.approx(low + (high - low) / len(cells[name]) / 2)


def test_field_grid_of_a_holed_region_lies_inside() -> None:
    region = Box(x=(-1, 1), y=(-1, 1)) - Disk(x=0, y=0, r=0.9)
    points = field_grid(region, 2_000)
    assert len(points["x"]) == pytest.approx(2_000, rel=0.05)
    assert region.contains(points).all()


def test_a_domain_is_shown_as_it_is_written() -> None:
    box, disk = Box(x=(0, 1), y=(0, 1)), Disk(x=0.5, y=0.5, r=0.1)
    assert repr(box - disk - disk) == f"{box!r} - {disk!r} - {disk!r}"
    assert repr(box - (disk | disk)) == f"{box!r} - ({disk!r} | {disk!r})"
