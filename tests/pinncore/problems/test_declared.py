"""What follows from the class of a problem: points, scales, terms, weights, references, hard conditions."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import pytest
import sympy as sp

from pinncore.equations.conditions import Condition, normal_derivative
from pinncore.errors import ProblemError, SettingError
from pinncore.geometry import At, Box, Table
from pinncore.problems import Problem
from pinncore.settings import hints


class Flow(Problem):
    """Advection and diffusion."""

    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "m/s"}
    speed: float = 2.0
    wall_weight: float = 3.0
    form: Literal["soft", "hard"] = "soft"
    domain = Box(x=(-1, 3), t=(0, 0.5))

    def equations(self, u: Any, x: Any, t: Any) -> Any:
        return {"flow": u.diff(t) + self.speed * u.diff(x)}

    def conditions(self, u: Any, x: Any, t: Any) -> Any:
        walls = Condition("walls", normal_derivative(u) - x, on=self.domain.faces("x"), weight=self.wall_weight)
        start = Condition("start", u - sp.cos(x), on=self.domain.face(t=0), points=17)
        return [walls] if self.form == "hard" else [walls, start]

    def transform(self, u: Any, x: Any, t: Any) -> Any:
        return sp.cos(x) + t * u if self.form == "hard" else None

    def reference(self, x: Any, t: Any) -> Any:
        return sp.cos(x - self.speed * t)


class Pair(Problem):
    """Two outputs over one coordinate, with a reference by a function."""

    coordinates = {"s": "1"}
    outputs = {"u": "m", "v": "K"}
    domain = Box(s=(0, 2))

    def equations(self, u: Any, v: Any) -> Any:
        return {"one": u.diff("s") - v, "two": v.diff("s") + u}

    def conditions(self, u: Any, v: Any) -> Any:
        return [Condition("u0", u, on=At(s=0)), Condition("v0", v - 1, on=self.domain.face(s=0))]

    def reference(self) -> Any:
        return lambda s: {"u": np.sin(s), "v": np.cos(s)}


def test_the_network_sees_every_coordinate_from_minus_s_to_s() -> None:
    problem = Flow(scale_factor=3.0)
    assert problem.scales == {"x": (1.0, 1.5), "t": (0.25, 12.0)}
    assert problem.seeds.tolist() == [1.5, 12.0]
    for points in (*problem.point_sets, problem.field_points):
        assert np.abs(points.inputs).max() <= 3.0
        for axis, name in enumerate("xt"):
            centre, factor = problem.scales[name]
            np.testing.assert_allclose(points.inputs[:, axis], factor * (points.values[name] - centre), rtol=1e-15)


def test_points_are_settings() -> None:
    problem = Flow(points=100, condition_points=10)
    assert [(points.name, len(points)) for points in problem.point_sets] == [
        ("inside", 100),
        ("walls", 10),
        ("start", 17),
    ]
    again, other = Flow(points=100, condition_points=10), Flow(points=100, condition_points=10, points_seed=1)
    assert again.data_sha256 == problem.data_sha256
    assert (
        len({problem.data_sha256, other.data_sha256, problem.at_round(1).data_sha256, problem.at_round(2).data_sha256})
        == 4
    )
    assert problem.at_round(0).data_sha256 == problem.data_sha256


@pytest.mark.parametrize("sampler", ["sobol", "lhs", "uniform", "grid", "gauss", "refined"])
@pytest.mark.parametrize("count", [400, 2_500, 10_000])
def test_no_error_is_measured_at_a_point_of_the_training(sampler: Literal["sobol", "grid"], count: int) -> None:
    class Square(Flow):
        domain = Box(x=(0, 1), t=(0, 1))

    problem = Square(points=count, points_sampler=sampler)
    trained = {tuple(row) for points in problem.point_sets for row in points.inputs.tolist()}
    assert len(problem.point_sets[0]) >= 0.9 * count
    assert 9_000 < len(problem.field_points) < 11_000
    others = [problem.field_points.inputs, *(points.inputs for _, points in problem.held_out)]
    for inputs in others:
        assert not trained & set(map(tuple, inputs.tolist()))


def test_points_of_a_table() -> None:
    problem = Flow(points_sampler="table", points_table="points.npz")
    opened = problem.reading(lambda path, role, options: Table({"x": [0.0, 1.0], "t": [0.1, 0.2]})._opened)
    assert opened.point_sets[0].values["x"].tolist() == [0.0, 1.0]
    with pytest.raises(SettingError, match="points_table"):
        _ = Flow(points_sampler="table").point_sets


def test_terms_and_weights() -> None:
    assert Flow().terms == ("flow", "walls", "start")
    assert Flow(wall_weight=7.0).weights == (1.0, 7.0, 1.0)
    assert Flow(form="hard").terms == ("flow", "walls")
    assert Flow.term_names() == ("flow", "walls", "start")


def test_settings_are_those_of_the_class_and_of_its_points() -> None:
    names = list(hints(Flow))
    assert names[:3] == ["loss", "scale_factor", "batch"]
    assert {"speed", "wall_weight", "form", "points", "points_sampler", "resample_every"} < set(names)
    assert Flow.float_settings() == ("scale_factor", "speed", "wall_weight")


def test_one_expression_serves_all_values_of_a_float_setting() -> None:
    slow, fast = Flow(speed=1.0), Flow(speed=5.0)
    assert slow.groups is fast.groups
    assert slow.group_parameters(0).tolist() == [1.0]
    assert fast.group_parameters(0).tolist() == [5.0]
    assert Flow(form="hard").groups is not slow.groups


def test_equations_share_their_points_where_the_loss_is_a_mean_square() -> None:
    assert [group.terms for group in Pair().groups] == [("one", "two"), ("u0",), ("v0",)]
    assert [group.terms for group in Pair(loss="norm").groups] == [("one",), ("two",), ("u0",), ("v0",)]
    assert [len(points) for points in Pair(loss="norm").point_sets] == [4096, 4096, 1, 1]


def test_hard_conditions_hold_whatever_the_network_says() -> None:
    problem = Flow(form="hard")
    start = problem.at("start", {"x": np.linspace(-1, 3, 9), "t": np.zeros(9)})
    raw = np.random.default_rng(0).normal(size=(1, 9))
    np.testing.assert_allclose(problem.to_physical(raw, start)[0], np.cos(start.values["x"]), rtol=1e-15)


def test_references_are_expressions_functions_and_tables() -> None:
    flow = Flow(speed=0.5)
    assert flow.solution is not None
    x, t = (flow.field_points.values[name] for name in "xt")
    np.testing.assert_allclose(flow.solution[0], np.cos(x - 0.5 * t), rtol=1e-14)

    pair = Pair()
    assert pair.solution is not None
    np.testing.assert_allclose(pair.solution[1], np.cos(pair.field_points.values["s"]), rtol=1e-15)

    class Known(Pair):
        def reference(self) -> Any:
            return Table({"s": [0.5, 1.5], "u": [1.0, 2.0], "v": [3.0, 4.0]})

    assert Known().solution is not None
    assert Known().solution.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert Known().field_points.values["s"].tolist() == [0.5, 1.5]


def test_a_reference_that_takes_time_is_kept() -> None:
    kept: dict[str, Any] = {}
    calls = []

    class Slow(Pair):
        """Counts its calls."""

        level: float = 1.0

        def equations(self, u: Any, v: Any) -> Any:
            return {"one": u.diff("s") - self.level * v, "two": v.diff("s") + u}

        def reference(self) -> Any:
            calls.append(self.level)
            return lambda s: calls.append("computed") or {"u": s, "v": self.level + s}

    def store(key: str, compute: Any) -> Any:
        return kept[key] if key in kept else kept.setdefault(key, compute())

    for level in (1.0, 2.0, 1.0):
        assert Slow(level=level).storing(store).solution is not None
    assert (calls.count("computed"), len(kept)) == (2, 2)


def test_errors_of_several_outputs() -> None:
    problem = Pair()
    assert problem.solution is not None
    raw = problem.solution * np.array([[1.01], [1.03]])
    assert problem.errors(raw) == {"u": pytest.approx(0.01, rel=1e-9), "v": pytest.approx(0.03, rel=1e-9)}
    assert problem.error(raw) == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2), rel=1e-9)
    assert [metric.name for metric in Pair.metrics] == [
        "rel_l2",
        "rel_l2_u",
        "rel_l2_v",
        "max_error",
        "heldout_residual",
        "trained_residual",
        "spread",
        "over_constant",
    ]
    field = problem.field(raw)
    assert list(field) == ["s", "predicted_u", "reference_u", "predicted_v", "reference_v"]
    assert [column.name for column in Pair.field_columns()] == list(field)
    np.testing.assert_array_equal(field["predicted_v"], raw[1])


class Pde:
    """An equation of another library: a dictionary of expressions in symbols and functions of its own."""

    def __init__(self, c: Any) -> None:
        x, t = sp.Symbol("x"), sp.Symbol("t")
        u, speed = sp.Function("u")("x", "t"), sp.Function(c)("x", "t") if isinstance(c, str) else c
        self.equations = {"wave": u.diff(t, 2) - (speed**2 * u.diff(x)).diff(x)}


@pytest.mark.parametrize("by_name", [True, False])
def test_objects_with_equations_are_taken_as_they_are(by_name: bool) -> None:
    class Theirs(Flow):
        def equations(self, u: Any, x: Any, t: Any) -> Any:
            return Pde("speed" if by_name else self.speed)

    class Ours(Flow):
        def equations(self, u: Any, x: Any, t: Any) -> Any:
            return {"wave": u.diff(t, 2) - self.speed**2 * u.diff(x, 2)}

    assert Theirs().groups[0].channels == Ours().groups[0].channels
    assert Theirs().groups[0].residuals == Ours().groups[0].residuals


def test_a_domain_may_depend_on_settings() -> None:
    class Long(Flow):
        length: float = 2.0

        @property
        def domain(self) -> Any:
            return Box(x=(0, self.length), t=(0, 1))

    problem = Long(length=5.0)
    assert problem.scales["x"] == (2.5, pytest.approx(0.4))
    assert sorted(set(problem.point_sets[1].values["x"])) == [0.0, 5.0]
    assert dataclasses.replace(problem, length=1.0).groups is problem.groups


def test_a_problem_needs_a_domain() -> None:
    class Nowhere(Problem):
        coordinates = {"x": "m"}
        outputs = {"u": "m"}

        def equations(self, u: Any) -> Any:
            return {"one": u}

    with pytest.raises(ProblemError, match="needs a domain"):
        _ = Nowhere().point_sets


def test_an_attribute_with_the_name_of_a_setting_is_its_default() -> None:
    class Few(Flow):
        points = 50
        points_sampler = "lhs"
        loss = "norm"
        speed = 4.0

    problem = Few()
    assert (problem.points, problem.points_sampler, problem.loss_form, problem.speed) == (50, "lhs", "norm", 4.0)
    assert Few(points=60).points == 60
    assert set(hints(Few)) == set(hints(Flow))
    assert hints(Few)["points"] == hints(Flow)["points"]
    with pytest.raises(SettingError, match="points"):
        Few(points=0)


def test_the_residual_is_held_out_where_the_equation_needs_no_table() -> None:
    class Measured(Flow):
        known = {"level": "m"}

        def conditions(self, u: Any, level: Any) -> Any:
            probe = Table({"x": [0.5, 1.5], "t": [0.1, 0.2], "level": [1.0, 2.0]})
            return [Condition("probe", u - level, on=probe)]

    class Driven(Measured):
        def equations(self, u: Any, x: Any, t: Any, level: Any) -> Any:
            return {"flow": u.diff(t) + self.speed * u.diff(x) - level}

    assert [len(points) for _, points in Measured().held_out] == [2048]
    assert Driven().held_out == ()


@pytest.mark.parametrize("count", [200, 1_000, 1_040])
def test_in_one_coordinate_too(count: int) -> None:
    problem = Pair(points=count, points_sampler="grid")
    trained = set(problem.point_sets[0].values["s"])
    assert len(trained) == count
    assert not trained & set(problem.field_points.values["s"])
