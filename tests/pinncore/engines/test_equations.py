"""Any equation: engines against nested autograd of the equation as it is written, and that against differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch

from pinncore import Member, Problem, SettingError, TorchCall, TrainSettings
from pinncore.activations import ACTIVATIONS
from pinncore.engines import Engine, ReferenceEngine, TorchEngine
from pinncore.engines.compiled_engine import CompiledTorchEngine, check_compiler
from pinncore.equations.torch_code import torch_function
from pinncore.member import engine_of
from pinncore.problems import PointSet

from ..helpers import CPU, assert_close
from .every_kind import (
    ALL,
    Burgers,
    Clipped,
    FourInputs,
    Kovasznay,
    Mixed,
    VariableWave,
    assert_engines_agree,
    build_engine,
    compare,
    variants,
)

ENGINE = 1e-12
TESTED: tuple[type[Engine], ...] = (TorchEngine,)  # against ReferenceEngine


@pytest.mark.parametrize("loss", ["norm", "mean_square"])
@pytest.mark.parametrize("problem", ALL)
@pytest.mark.parametrize("kind", TESTED)
def test_engines_agree(kind: type[Engine], problem: type[Problem], loss: str) -> None:
    assert_engines_agree(kind, ReferenceEngine, variants(problem, loss=loss), ENGINE)


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("problem", [VariableWave, Kovasznay, Mixed])
@pytest.mark.parametrize("kind", TESTED)
def test_engines_agree_for_every_activation(
    kind: type[Engine], problem: type[Problem], activation: str, depth: int
) -> None:
    assert_engines_agree(kind, ReferenceEngine, variants(problem), ENGINE, activation=activation, depth=depth, seed=7)


@pytest.mark.parametrize("problem", [Burgers, Kovasznay, Clipped])
@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
def test_some_members_and_some_points(kind: type[Engine], problem: type[Problem]) -> None:
    """They are the members alone, on point sets of these points only."""
    problems = variants(problem)
    rows, generator = [2, 0], np.random.default_rng(1)
    picks = [
        [generator.choice(len(points), 7, replace=False) if g != 1 else None for g, points in enumerate(p.point_sets)]
        for p in (problems[row] for row in rows)
    ]
    assert_engines_agree(kind, ReferenceEngine, problems, ENGINE, rows=rows, picks=picks)
    assert_engines_agree(kind, ReferenceEngine, problems, ENGINE, rows=[1])
    for position, row in enumerate(rows):
        fewer = replace(problems[row])
        vars(fewer)["point_sets"] = tuple(
            points if chosen is None else _picked(points, chosen)
            for points, chosen in zip(problems[row].point_sets, picks[position], strict=True)
        )
        engine, x = build_engine(kind, problems)
        alone, _ = build_engine(kind, [fewer], widths=[(5, 8, 3)[row]])
        y = alone.layout.pack([engine.layout.unpack(x[row], row)], dtype=torch.float64, device=CPU)
        found, expected = engine.evaluate(x[rows], rows, picks), alone.evaluate(y)
        assert_close(found.terms[position], expected.terms[0], ENGINE, "terms")
        assert_close(found.loss[position], expected.loss[0], ENGINE, "loss")
        gradients = engine.layout.unpack(found.gradient[position], row), alone.layout.unpack(expected.gradient[0], 0)
        assert_close(*gradients, ENGINE, "gradient")


def _picked(points: PointSet, chosen: Any) -> PointSet:
    return PointSet(points.name, points.inputs[chosen], {name: v[chosen] for name, v in points.values.items()})


@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
def test_renewed_points_are_those_of_a_new_engine(kind: type[Engine]) -> None:
    problems = variants(VariableWave)
    engine, x = build_engine(kind, problems)
    engine.evaluate(x[[1]], [1])
    engine.outputs(x[[1]], [1])
    before = engine.evaluate(x).loss
    other = VariableWave(points=90, condition_points=20, scale_factor=1.4, speed=0.7, points_seed=5)
    engine.renew(1, other)
    fresh, _ = build_engine(kind, [problems[0], other, problems[2]])
    found = engine.evaluate(x)
    compare(engine, found, fresh, fresh.evaluate(x), range(3), 0.0)
    assert found.loss[1] != before[1] and found.loss[0] == before[0]
    compare(engine, engine.evaluate(x[[1]], [1]), fresh, fresh.evaluate(x[[1]], [1]), [1], 0.0)
    assert torch.equal(engine.outputs(x[[1]], [1]), fresh.outputs(x[[1]], [1]))
    kept = engine.keep([1])
    assert_close(kept.evaluate(x[[1]]).gradient, engine.evaluate(x[[1]], [1]).gradient, 1e-15)


@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
@pytest.mark.parametrize("problem", [Burgers, Kovasznay])
def test_the_gradient_is_that_of_differences(kind: type[Engine], problem: type[Problem]) -> None:
    """A step of 1e-6 leaves 1e-9 of truncation and rounding."""
    engine, x = build_engine(kind, variants(problem)[:1], widths=[4])
    gradient = engine.evaluate(x).gradient[0]
    for place in range(0, int(engine.layout.positions(0).max()), 5):
        step = torch.zeros_like(x)
        step[0, place] = 1e-6
        slope = (engine.evaluate(x + step).loss - engine.evaluate(x - step).loss) / 2e-6
        assert abs(float(slope - gradient[place])) < 1e-7 * float(gradient.abs().max()), place


@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
def test_slopes_are_those_of_differences_of_the_outputs(kind: type[Engine]) -> None:
    (problem, *_) = variants(Kovasznay)
    engine, x = build_engine(kind, [problem])
    points = problem.point_sets[0]
    slopes = engine.slopes(x[0], 0, points)
    assert slopes.shape == (3, len(points), 2)
    first = problem.groups[0].channels
    values = engine.channels(x[0], 0, first, points, problem.group_columns(0, points))
    physical = slopes * problem.seeds
    assert first.firsts == (0, 1)
    assert_close(values[:, 1:3].transpose(1, 2), physical, 1e-12, "first derivatives")


def test_a_residual_without_a_network_derivative_takes_the_values_alone() -> None:
    group = Burgers().groups[1]
    assert group.channels.count == 1


def test_float32_is_float64_to_its_rounding() -> None:
    problems = variants(Kovasznay)
    engine, x = build_engine(TorchEngine, problems)
    single, _ = build_engine(TorchEngine, problems, dtype=torch.float32)
    found, expected = single.evaluate(x.float()), engine.evaluate(x)
    assert found.gradient.dtype == torch.float32
    assert_close(found.gradient, expected.gradient, 1e-5)


class Summed(Clipped):
    def equations(self, u: Any, x: Any, t: Any) -> Any:
        return {"summed": TorchCall(torch.sum, (u,))}


def test_a_torch_function_must_keep_the_shape() -> None:
    engine, x = build_engine(TorchEngine, [Summed(points=9)])
    with pytest.raises(SettingError, match=r"must return a tensor of the shape of its arguments, \[1, 9\]"):
        engine.evaluate(x)


def test_auto_is_torch_where_no_kernel_can_be_compiled_and_says_why() -> None:
    plain, clipped = (Member(TrainSettings(), problem()) for problem in (Burgers, Clipped))
    assert engine_of(plain, "cpu") == ("fused", None)
    assert engine_of(plain, "cuda")[0] == "torch"  # 16 units in float64
    for train in (TrainSettings(dtype="float32"), TrainSettings(width=8)):
        assert engine_of(Member(train, plain.problem), "cuda") == ("fused", None)
    with pytest.raises(SettingError, match="width 16 is more than 8, the most that the GPU kernel takes in float64"):
        engine_of(Member(TrainSettings(engine="fused"), plain.problem), "cuda")
    name, reason = engine_of(clipped, "cpu")
    assert name == "torch" and reason is not None and "clipped is a torch function" in reason
    with pytest.raises(SettingError, match="clipped") as caught:
        engine_of(Member(TrainSettings(engine="fused"), clipped.problem), "cpu")
    assert caught.value.field == "engine" and "engine: torch" in caught.value.way_out
    assert engine_of(Member(TrainSettings(engine="reference"), clipped.problem), "cpu") == ("reference", None)


def test_compiled_code_agrees_with_the_reference() -> None:
    """Forms with columns, several outputs; the second pack is of other sizes than the code was compiled for."""
    try:
        check_compiler()
    except SettingError as problem:
        pytest.skip(str(problem))
    for problem, options in ((VariableWave, {}), (VariableWave, {"widths": (9, 2, 4)})):
        assert_engines_agree(CompiledTorchEngine, ReferenceEngine, variants(problem), ENGINE, **options)


@pytest.mark.slow
@pytest.mark.parametrize("problem", [Kovasznay, Mixed, FourInputs, Clipped])
def test_compiled_code_agrees_with_the_reference_on_every_equation(problem: type[Problem]) -> None:
    try:
        check_compiler()
    except SettingError as missing:
        pytest.skip(str(missing))
    assert_engines_agree(CompiledTorchEngine, ReferenceEngine, variants(problem), ENGINE)


X, Y = sp.symbols("x y", real=True)


@pytest.mark.parametrize(
    "expression",
    [
        X**3 - Y / 3 + sp.pi,
        (X + 2) ** sp.Rational(-1, 2) + (X + 2) ** 2.5 + 2**Y + (X + 2) ** Y,
        sp.exp(-X) * sp.log(Y + 3) / sp.cosh(X) + sp.atan2(Y + 2, X),
        sp.Piecewise((X, X > 0), (sp.sin(Y), Y > 0.5), (1, True)) + sp.Max(X, Y, 0) - sp.Min(X, sp.Rational(1, 10)),
        sp.Heaviside(X) + sp.sign(Y) * sp.Abs(X) + sp.erf(X) + sp.sqrt(Y + 4) + X**-3,
        sp.Integer(1) + sp.sin(2),
    ],
)
def test_an_expression_in_torch_is_what_numpy_says(expression: Any) -> None:
    x, y = np.random.default_rng(3).uniform(-1, 1, (2, 40))
    expected = np.broadcast_to(sp.lambdify((X, Y), expression, modules=["scipy", "numpy"])(x, y), x.shape)
    (found,) = torch_function((X, Y), (expression,))(torch.tensor(x), torch.tensor(y))
    assert_close(torch.as_tensor(found, dtype=torch.float64).expand(40), expected, 1e-14)


@pytest.mark.parametrize("expression", [sp.gamma(X), sp.Function("f")(X), sp.Symbol("unknown")])
def test_what_torch_cannot_evaluate_is_named(expression: Any) -> None:
    with pytest.raises(SettingError, match="that torch cannot evaluate"):
        torch_function((X, Y), (expression,))


def test_conditions_of_pieces_are_no_columns() -> None:
    """Kernels compare numbers; they know no columns of truth values."""
    (group,) = Mixed().groups
    assert all(isinstance(column, sp.Expr) for column in (*group.columns, *group.parameters))
    assert group.residuals[0].atoms(sp.Piecewise)
