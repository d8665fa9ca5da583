"""Engines on the strain problem: channels against nested autograd, both against differences of a NumPy network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pinncore import FieldData, Member, NonlocalStrain, SettingError, Table
from pinncore.activations import ACTIVATIONS
from pinncore.data.points import Points
from pinncore.engines import (
    ENGINES,
    Engine,
    FusedCudaEngine,
    FusedEngine,
    ReferenceEngine,
    TorchEngine,
    choose_engine,
)
from pinncore.layouts import PackedLayout
from pinncore.member import is_padded
from pinncore.networks import Layers, layer_sizes, unflatten
from pinncore.problems import PointSet, Problem
from pinncore.settings import ENGINE_TRAITS, TrainSettings, broken_rule, hints

from ..helpers import CPU, alone, assert_close, build, difference, unpacked

ENGINE = 1e-12  # largest difference over largest value, per array; 7e-14 seen
BOTH_INPUTS = (("x", "y"), ("x", "y", "g", "elocal"))
TESTED = (FusedEngine, TorchEngine)  # against ReferenceEngine; the compiled one has a file of its own
SCOPES = ("consistent", "all", "elocal")


def assert_engines_agree(
    layers: Layers,
    data: FieldData,
    settings: NonlocalStrain,
    *,
    init: str = "keras",
    seed: int = 0,
    activation: str = "tanh",
) -> None:
    """Loss, terms, gradient and outputs, and the channels on 200 other points, of every engine and the reference."""
    reference, y = build(
        [layers], data, [settings], engine=ReferenceEngine, init=init, seed=seed, activation=activation
    )
    expected = reference.evaluate(y)
    (problem,) = reference.problems
    trained, channels = problem.point_sets[0], problem.groups[0].channels
    reach, count = np.abs(trained.inputs).max(axis=0), min(200, len(trained))
    inputs = np.random.default_rng(seed).uniform(-reach, reach, (count, len(reach)))
    points = PointSet("value", inputs, {name: values[:count] for name, values in trained.values.items()})
    columns = problem.group_columns(0, points)
    jets = reference.channels(y[0], 0, channels, points, columns)[0]
    for kind in TESTED:
        engine, x = build([layers], data, [settings], engine=kind, init=init, seed=seed, activation=activation)
        found = engine.evaluate(x)
        assert_close(found.loss, expected.loss, ENGINE, f"{kind.name}: loss")
        assert_close(found.terms, expected.terms, ENGINE, f"{kind.name}: terms")
        gradients = unpacked(engine, found.gradient) + unpacked(reference, expected.gradient)
        assert_close(*gradients, ENGINE, f"{kind.name}: gradient")
        ours_of_all = engine.channels(x[0], 0, channels, points, columns)[0]
        for name, ours, theirs in zip(("u", "u_x", "u_y", "laplacian"), ours_of_all, jets, strict=True):
            assert_close(ours, theirs, ENGINE, f"{kind.name}: {name}")
        assert_close(engine.outputs(x, [0]), reference.outputs(y, [0]), ENGINE, f"{kind.name}: outputs")


@pytest.mark.parametrize(
    ("width", "depth", "inputs", "loss"),
    [
        (8, 8, BOTH_INPUTS[0], "norm"),
        (8, 8, BOTH_INPUTS[1], "mean_square"),
        (16, 16, BOTH_INPUTS[0], "norm"),
        (16, 2, BOTH_INPUTS[0], "norm"),
        (16, 2, BOTH_INPUTS[1], "norm"),
    ],
)
def test_engines_agree_on_all_points(
    strb100: FieldData, width: int, depth: int, inputs: tuple[str, ...], loss: str
) -> None:
    settings = NonlocalStrain(inputs=inputs, loss=loss)
    assert_engines_agree(layer_sizes(len(inputs), width=width, depth=depth), strb100, settings)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("loss", ["norm", "mean_square"])
@pytest.mark.parametrize("inputs", BOTH_INPUTS)
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (5, 1), (4, 2), (12, 3), (8, 8), (16, 16)])
def test_engines_agree(
    coarse: FieldData, width: int, depth: int, inputs: tuple[str, ...], loss: str, scope: str
) -> None:
    factor = 10.0 if scope == "consistent" else 1.0  # millimetres times ten saturate every unit: 3e-12 there
    settings = NonlocalStrain(inputs=inputs, loss=loss, scale_scope=scope, scale_factor=factor, boundary_weight=0.3)
    assert_engines_agree(layer_sizes(len(inputs), width=width, depth=depth), coarse, settings)


@pytest.mark.parametrize("loss", ["norm", "mean_square"])
@pytest.mark.parametrize("inputs", BOTH_INPUTS)
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (12, 3), (8, 8)])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_engines_agree_for_every_activation(
    coarse: FieldData, activation: str, width: int, depth: int, inputs: tuple[str, ...], loss: str
) -> None:
    settings = NonlocalStrain(inputs=inputs, loss=loss, scale_factor=3.0, boundary_weight=0.3)
    assert_engines_agree(layer_sizes(len(inputs), width=width, depth=depth), coarse, settings, activation=activation)


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=st.integers(1, 9),
    depth=st.integers(1, 4),
    inputs=st.sampled_from(BOTH_INPUTS),
    loss=st.sampled_from(["norm", "mean_square"]),
    scale=st.floats(0.2, 5),
    weight=st.floats(0, 10),
    init=st.sampled_from(["torch", "keras", "tf1"]),
    seed=st.integers(0, 10**6),
    count=st.integers(10, 60),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
)
def test_engines_agree_on_any_network_and_points(
    coarse: FieldData,
    width: int,
    depth: int,
    inputs: tuple[str, ...],
    loss: str,
    scale: float,
    weight: float,
    init: str,
    seed: int,
    count: int,
    activation: str,
) -> None:
    chosen = np.random.default_rng(seed).choice(len(coarse.gauss), count, replace=False)
    some = Points(**{name: values[chosen] for name, values in coarse.gauss.columns.items()})
    settings = NonlocalStrain(inputs=inputs, loss=loss, scale_factor=scale, boundary_weight=weight)
    layers = layer_sizes(len(inputs), width=width, depth=depth)
    data = replace(coarse, gauss=some)
    assert_engines_agree(layers, data, settings, init=init, seed=seed, activation=activation)


def error_function(x: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
    """erf in long double: 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!, terms of one sign."""
    term, total = x.copy(), x.copy()
    for n in range(1, 200):
        term = term * 2 * x * x / (2 * n + 1)
        total = total + term
    return 2 / np.sqrt(np.longdouble(np.pi)) * np.exp(-x * x) * total


PLAIN: dict[str, Callable[[NDArray[np.longdouble]], NDArray[np.longdouble]]] = {
    "tanh": np.tanh,
    "sin": np.sin,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "gelu": lambda z: z * (1 + error_function(z / np.sqrt(np.longdouble(2)))) / 2,
}


def plain_loss(
    flat: NDArray[np.longdouble], layers: Layers, problem: Problem, step: float, activation: str
) -> np.longdouble:
    """The weighted loss of one member in NumPy, derivatives by central differences of the network, in long double."""

    def network(inputs: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
        weights = unflatten(flat, layers)
        for w, b in weights[:-1]:
            inputs = PLAIN[activation](inputs @ w + b)
        return (inputs @ weights[-1][0] + weights[-1][1])[:, 0]

    total = np.longdouble(0)
    for points, weight in zip(problem.point_sets, problem.weights, strict=True):
        inputs = points.inputs.astype(np.longdouble)
        right, up = np.zeros(layers[0], np.longdouble), np.zeros(layers[0], np.longdouble)
        right[0] = up[1] = step
        u = network(inputs)
        if points.name == "residual":
            laplacian = (
                network(inputs + right) + network(inputs - right) + network(inputs + up) + network(inputs - up) - 4 * u
            ) / step**2
            (_, g), (_, e) = problem.scales["g"], problem.scales["elocal"]  # to the network's units
            residual = u - g * points.values["g"] * laplacian - e * points.values["elocal"]
        else:
            shift = right if points.name == "lrb" else up
            residual = (network(inputs + shift) - network(inputs - shift)) / (2 * step)
        square = (residual**2).sum()
        total += weight * (square / len(u) if problem.loss_form == "mean_square" else np.sqrt(square))
    return total


@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
@pytest.mark.parametrize(
    ("inputs", "loss", "activation"),
    [
        *((inputs, loss, "tanh") for inputs in BOTH_INPUTS for loss in ("norm", "mean_square")),
        *((BOTH_INPUTS[0], "norm", activation) for activation in ("sin", "silu", "gelu")),
    ],
)
def test_differences_of_a_plain_network(
    coarse: FieldData, kind: type[Engine], loss: str, inputs: tuple[str, ...], activation: str
) -> None:
    """The engines share formulas; this stands on differences alone, so they cannot share a mistake unseen.

    Steps of 1e-3 (inputs) and 1e-5 (parameters) leave errors of 1e-9 in long double: hence 1e-7, and the gradient
    against its largest component.
    """
    layers = layer_sizes(len(inputs), width=4, depth=2)
    settings = NonlocalStrain(inputs=inputs, loss=loss, boundary_weight=0.5, scale_factor=2.0)
    engine, x = build([layers], coarse, [settings], engine=kind, activation=activation)
    found = engine.evaluate(x)
    flat, gradient = (engine.layout.unpack(row, 0).astype(np.longdouble) for row in (x[0], found.gradient[0]))
    problem = engine.problems[0]
    assert_close(found.loss[0], plain_loss(flat, layers, problem, 1e-3, activation), 1e-7, "loss")
    for place in range(0, len(flat), 3):
        moved = np.zeros_like(flat)
        moved[place] = 1e-5
        above, below = (plain_loss(flat + shift, layers, problem, 1e-3, activation) for shift in (moved, -moved))
        slope = (above - below) / 2e-5
        assert abs(gradient[place] - slope) <= 1e-7 * np.abs(gradient).max(), f"parameter {place}"


class Square(Problem):
    """(u - 11)^2 at one point, the slides' first experiment: no derivatives, one term."""

    coordinates = dict.fromkeys("xyge", "1")
    outputs = {"u": "1"}
    domain = Table({"x": [2.0], "y": [3.0], "g": [8.0], "e": [5.0]})

    def equations(self, u: Any) -> dict[str, Any]:
        return {"value": u - 11}

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        return dict.fromkeys("xyge", (0.0, 1.0))


@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
def test_gradients_of_a_4_1_1_network_stand_in_the_ratio_of_its_inputs(kind: type[Engine]) -> None:
    """Weights [x, y, g, e] = [2, 3, 8, 5] and bias: 2 : 3 : 8 : 5 : 1, as the published gradients do."""
    layout = kind.arrange([(4, 1, 1)])
    engine = kind([Square()], layout, dtype=torch.float64, device=CPU)
    x = layout.pack([np.array([0.1, -0.2, 0.05, 0.03, 0.2, 0.7, 0.1])], dtype=torch.float64, device=CPU)
    gradient = engine.evaluate(x).gradient[0]
    assert abs(gradient[4]) > 1e-3
    assert_close(gradient[:5] / gradient[4], [2, 3, 8, 5, 1], 1e-14)
    published = np.array([-8.28680e-04, -1.24302e-03, -3.31471e-03, -2.07170e-03, -4.14340e-04])
    assert_close(published / published[4], [2, 3, 8, 5, 1], 5e-6)  # the third one is a float32 rounding off


WIDTHS = (3, 8, 16, 5)


@pytest.mark.parametrize(
    ("kind", "inputs", "activation"),
    [
        *((kind, inputs, "tanh") for kind in (*TESTED, ReferenceEngine) for inputs in BOTH_INPUTS),
        *((kind, BOTH_INPUTS[0], activation) for kind in TESTED for activation in ("sin", "silu", "gelu")),
    ],
)
def test_a_padded_member_is_the_member_alone(
    coarse: FieldData, kind: type[Engine], inputs: tuple[str, ...], activation: str
) -> None:
    """Different widths, scales, weights and losses in one pack; padded wider than the widest of them."""
    settings = [
        NonlocalStrain(inputs=inputs, scale_factor=1.0 + i, boundary_weight=0.1 * i, loss=loss)
        for i, loss in enumerate(("norm", "mean_square", "norm", "norm"))
    ]
    members = [layer_sizes(len(inputs), width=width, depth=3) for width in WIDTHS]
    padded = layer_sizes(len(inputs), width=20, depth=3)
    engine, x = build(members, coarse, settings, engine=kind, padded=padded, activation=activation)
    found = engine.evaluate(x)
    for member, own in enumerate(unpacked(engine, found.gradient)):
        single, start = alone(engine, x, member)
        expected = single.evaluate(start)
        assert_close(own, unpacked(single, expected.gradient)[0], ENGINE, f"gradient of member {member}")
        assert_close(found.terms[member], expected.terms[0], ENGINE, f"terms of member {member}")
        assert_close(found.loss[member], expected.loss[0], ENGINE, f"loss of member {member}")
        outside = np.setdiff1d(np.arange(engine.layout.size), engine.layout.positions(member))
        assert len(outside)
        assert not found.gradient[member, outside].any(), "a padded parameter has a gradient"


@pytest.mark.parametrize("activation", ["tanh", "sin"])
@pytest.mark.parametrize("kind", [*TESTED, ReferenceEngine])
def test_keep_is_the_pack_of_those_members(coarse: FieldData, kind: type[Engine], activation: str) -> None:
    members = [layer_sizes(2, width=width, depth=2) for width in WIDTHS]
    settings = [NonlocalStrain(boundary_weight=float(i)) for i in range(len(WIDTHS))]
    engine, x = build(members, coarse, settings, engine=kind, activation=activation)
    rows = [3, 1]
    kept, whole = engine.keep(rows).evaluate(x[rows]), engine.evaluate(x)
    for name in ("loss", "terms", "gradient"):
        assert_close(getattr(kept, name), getattr(whole, name)[rows], ENGINE, name)
    assert_close(engine.keep(rows).outputs(x[[1]], [1]), engine.outputs(x[[1]], [1]), ENGINE)


def test_a_residual_of_zero_has_the_zero_subgradient(coarse: FieldData) -> None:
    """All weights zero: u = 0, so both boundary norms are zero, where the norm has no gradient."""
    for kind in (*TESTED, ReferenceEngine):
        engine, x = build([(2, 4, 1)], coarse, engine=kind)
        found = engine.evaluate(torch.zeros_like(x))
        assert found.terms[0, 1:].tolist() == [0.0, 0.0]
        assert torch.isfinite(found.gradient).all()


def test_float32_is_float64_to_its_rounding(strb100: FieldData) -> None:
    engine, x = build([(2, 16, 16, 1)], strb100)
    single = TorchEngine(engine.problems, engine.layout, dtype=torch.float32, device=CPU)
    found, expected = single.evaluate(x.float()), engine.evaluate(x)
    assert found.gradient.dtype == torch.float32
    assert 0 < difference(found.gradient, expected.gradient) < 1e-5  # 6400 terms of 6e-8 each, partly cancelling


def test_members_of_a_pack_share_points(coarse: FieldData, strb100: FieldData) -> None:
    layout = PackedLayout(((2, 4, 1), (2, 4, 1)))
    problems = [NonlocalStrain().with_tables(coarse), NonlocalStrain().with_tables(strb100)]
    with pytest.raises(SettingError, match="share the problem"):
        TorchEngine(problems, layout, dtype=torch.float64, device=CPU)


def test_choice_of_engine() -> None:
    names = ("auto", "fused", "torch", "reference")
    assert [choose_engine(name, CPU).name for name in names] == ["fused", "fused", "torch", "reference"]
    assert choose_engine("auto", torch.device("cuda")) is FusedCudaEngine


def test_padding_is_known_without_the_engines() -> None:
    """Engines of batched products, whose matrices are those of the widest member."""
    assert {name: traits.pads for name, traits in ENGINE_TRAITS.items()} == {
        name: issubclass(kind, TorchEngine) for name, kind in ENGINES.items()
    }
    assert broken_rule("auto", hints(TrainSettings)["engine"]) is None
    assert all(broken_rule(name, hints(TrainSettings)["engine"]) is None for name in ENGINES)
    small, large = (Member(TrainSettings(width=width), NonlocalStrain()) for width in (8, 40))
    assert [is_padded(member, "cuda") for member in (small, large)] == [False, True]
    assert not is_padded(large, "cpu")


def test_layers_of_different_chunks(strb100: FieldData) -> None:
    """Chunks depend on the padded width alone; sums over other chunks differ by rounding only."""
    members = [layer_sizes(2, width=6, depth=2)]
    found = []
    for width in (6, 40, 200):
        engine, x = build(members, strb100, padded=layer_sizes(2, width=width, depth=2))
        found.append(engine.layout.unpack(engine.evaluate(x).gradient[0], 0))
    for first, second in itertools.pairwise(found):
        assert_close(first, second, ENGINE)
