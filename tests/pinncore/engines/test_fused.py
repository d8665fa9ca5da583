"""What engine `fused` promises beyond the contract of every engine: the same bits in any company, on any threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

import pinncore
from pinncore import FieldData, NonlocalStrain, SettingError, TrainSettings
from pinncore.data.points import Points
from pinncore.engines import Engine, FusedEngine, ReferenceEngine
from pinncore.equations.channels import TorchCall
from pinncore.initialisation import initial_parameters
from pinncore.layouts import CompactLayout
from pinncore.networks import layer_sizes, parameter_count

from ..helpers import CPU, assert_close, build, unpacked
from .equations import (
    BURGERS,
    FUNCTIONS,
    KOVASZNAY,
    MODELS,
    PLATE,
    RARE_MODELS,
    WAVE,
    Instance,
    Model,
    random_model,
)

FLOAT64, FLOAT32 = 1e-12, 2e-6  # of the largest value of each array
DTYPES = (torch.float32, torch.float64)
ACTIVATIONS = ("tanh", "sin", "silu", "gelu")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def in_precision(engine: Engine, dtype: torch.dtype) -> Engine:
    return type(engine)(engine.problems, engine.layout, dtype=dtype, device=CPU, activation=engine.activation)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    widths=st.lists(st.integers(1, 37), min_size=1, max_size=4),
    depth=st.integers(1, 6),
    inputs=st.sampled_from([("x", "y"), ("x", "y", "g", "elocal")]),
    loss=st.sampled_from(["norm", "mean_square"]),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 150),
)
def test_any_pack_is_the_reference(
    coarse: FieldData,
    widths: list[int],
    depth: int,
    inputs: tuple[str, ...],
    loss: str,
    seed: int,
    count: int,
) -> None:
    """Any widths together, any number of points, both precisions; float32 against the float64 reference."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(coarse.gauss), count, replace=False)
    data = replace(coarse, gauss=Points(**{name: values[chosen] for name, values in coarse.gauss.columns.items()}))
    settings = [
        NonlocalStrain(inputs=inputs, loss=loss, boundary_weight=float(weight))
        for weight in generator.uniform(0, 2, len(widths))
    ]
    members = [layer_sizes(len(inputs), width=width, depth=depth) for width in widths]
    fused, x = build(members, data, settings, engine=FusedEngine, seed=seed)
    reference, y = build(members, data, settings, engine=ReferenceEngine, seed=seed)
    expected = reference.evaluate(y)
    expected_gradients = unpacked(reference, expected.gradient)
    for dtype, tolerance in ((torch.float64, FLOAT64), (torch.float32, 10 * FLOAT32)):  # the worst of any network
        found = in_precision(fused, dtype).evaluate(x.to(dtype))
        assert_close(found.loss, expected.loss, tolerance, "loss")
        assert_close(found.terms, expected.terms, tolerance, "terms")
        for member, gradient in enumerate(unpacked(fused, found.gradient)):
            assert_close(gradient, expected_gradients[member], tolerance, f"gradient of member {member}")


@pytest.mark.parametrize(
    ("width", "depth", "float32"), [(16, 2, 2e-6), (8, 8, 2e-6), (32, 3, 2e-6), (16, 16, 4e-6), (8, 30, 2e-5)]
)
def test_the_whole_plate(strb100: FieldData, width: int, depth: int, float32: float) -> None:
    """All 6400 points; in float32 every layer adds its rounding."""
    members = [layer_sizes(2, width=width, depth=depth)]
    fused, x = build(members, strb100, engine=FusedEngine)
    reference, y = build(members, strb100, engine=ReferenceEngine)
    expected = reference.evaluate(y)
    for dtype, tolerance in ((torch.float64, FLOAT64), (torch.float32, float32)):
        found = in_precision(fused, dtype).evaluate(x.to(dtype))
        for name in ("loss", "terms"):
            assert_close(getattr(found, name), getattr(expected, name), tolerance, name)
        assert_close(unpacked(fused, found.gradient)[0], unpacked(reference, expected.gradient)[0], tolerance)


def test_training_alone_is_training_in_a_pack(threads: None) -> None:
    """Whole trainings, Adam and L-BFGS, bit for bit: weights, curves, fields."""
    torch.set_num_threads(1)
    widths = (6, 16, 11)
    members = [
        pinncore.Member(
            TrainSettings(
                width=width,
                epochs=30 + 5 * i,
                iterations=40,
                lbfgs_history=6,
                record_every=7,
                engine="fused",
            ),
            NonlocalStrain(boundary_weight=0.1),
            seed=i,
            label=i,
        )
        for i, width in enumerate(widths)
    ]

    def trained(chosen: list[pinncore.Member]) -> dict[int, pinncore.MemberResult]:
        pack = pinncore.Pack(chosen, device="cpu")
        while pack.active:
            pack.step(50)
        return {result.label: result for result in pack.results}

    together = trained(members)
    torch.set_num_threads(2)
    reversed_order = trained(members[::-1])
    for member in members:
        apart = trained([member])[member.label]
        for other in (together[member.label], reversed_order[member.label]):
            assert np.array_equal(apart.parameters, other.parameters)
            assert apart.metrics == other.metrics and apart.stop_reason == other.stop_reason
            assert apart.counts == other.counts
            for name in apart.curves.keys() - {"time_s"}:
                assert np.array_equal(apart.curves[name], other.curves[name]), name
            assert all(np.array_equal(apart.field[name], other.field[name]) for name in apart.field)


def test_what_is_not_finite_stays_with_its_member(coarse: FieldData) -> None:
    members = [layer_sizes(2, width=4, depth=2)] * 3
    engine, x = build(members, coarse, engine=FusedEngine)
    clean = engine.evaluate(x)
    spoilt = x.clone()
    spoilt[1, 5] = float("nan")
    found = engine.evaluate(spoilt)
    assert torch.isnan(found.loss[1]) and torch.isnan(found.gradient[1]).any()
    for row in (0, 2):
        assert torch.equal(found.gradient[row], clean.gradient[row])


def test_only_a_cpu(coarse: FieldData) -> None:
    layers = layer_sizes(2, width=4, depth=1)
    with pytest.raises(SettingError, match="CPU"):
        FusedEngine(
            [NonlocalStrain().with_tables(coarse)],
            CompactLayout((layers,)),
            dtype=torch.float64,
            device=torch.device("meta"),
        )


def pack_of(
    problems: list[Any],
    widths: list[int],
    *,
    kind: type[Engine] = FusedEngine,
    dtype: torch.dtype = torch.float64,
    activation: str = "tanh",
    depth: int = 2,
) -> tuple[Engine, Tensor]:
    """An engine for stand-ins of problems, and start weights."""
    inputs, outputs = len(problems[0].seeds), len(problems[0].groups[0].channel_symbols)
    layout = kind.arrange([layer_sizes(inputs, width=width, depth=depth, outputs=outputs) for width in widths])
    flats = [initial_parameters("torch", layers, seed=i) for i, layers in enumerate(layout.members)]
    engine = kind(problems, layout, dtype=dtype, device=CPU, activation=activation)
    return engine, layout.pack(flats, dtype=dtype, device=CPU)


def instances(model: Model, count: int, **options: Any) -> list[Instance]:
    """Members that differ in settings, weights, scales and points."""
    return [Instance(model, seed, dict.fromkeys(model.settings, 0.3 + 0.2 * seed), **options) for seed in range(count)]


def assert_is_reference(model: Model, *, activation: str = "tanh", loss_form: str = "mean_square") -> None:
    """Loss, terms, gradient, outputs and channels of three members, in both precisions, are the reference's."""
    problems, widths = instances(model, 3, loss_form=loss_form), [16, 5, 9]
    reference, y = pack_of(problems, widths, kind=ReferenceEngine, activation=activation)
    expected = reference.evaluate(y)
    for dtype, tolerance in ((torch.float64, FLOAT64), (torch.float32, 1e-4)):  # second derivatives cancel
        engine, x = pack_of(problems, widths, dtype=dtype, activation=activation)
        found = engine.evaluate(x)
        assert_close(found.loss, expected.loss, tolerance, "loss")
        assert_close(found.terms, expected.terms, tolerance, "terms")
        pairs = zip(unpacked(engine, found.gradient), unpacked(reference, expected.gradient), strict=True)
        for row, (one, other) in enumerate(pairs):
            assert_close(one, other, tolerance, f"gradient of member {row}")
        for row, problem in enumerate(problems):
            assert_close(engine.outputs(x[[row]], [row]), reference.outputs(y[[row]], [row]), tolerance, "outputs")
            for index, (group, points) in enumerate(zip(problem.groups, problem.point_sets, strict=True)):
                arguments = (row, group.channels, points, problem.group_columns(index, points))
                ours, theirs = engine.channels(x[row], *arguments), reference.channels(y[row], *arguments)
                for channel in range(group.channels.count):
                    assert_close(ours[:, channel], theirs[:, channel], tolerance, f"channel {channel}")


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_any_equation_is_the_reference(model: Model) -> None:
    assert_is_reference(model)


@pytest.mark.slow
@pytest.mark.parametrize("model", RARE_MODELS.values(), ids=RARE_MODELS)
def test_rare_channels_are_the_reference(model: Model) -> None:
    assert_is_reference(model)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("model", [BURGERS, WAVE, KOVASZNAY], ids=["burgers", "wave", "kovasznay"])
def test_any_equation_with_every_activation(model: Model, activation: str) -> None:
    assert_is_reference(model, activation=activation)


def test_norms_of_any_equation() -> None:
    assert_is_reference(PLATE, loss_form="norm")


@pytest.mark.slow
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=random_model())
def test_random_expressions_are_the_reference(model: Model) -> None:
    """Polynomials, sin, exp and products of the outputs and their derivatives to second order."""
    problems = instances(model, 2)
    reference, y = pack_of(problems, [6, 3], kind=ReferenceEngine)
    engine, x = pack_of(problems, [6, 3])
    found, expected = engine.evaluate(x), reference.evaluate(y)
    assert_close(found.loss, expected.loss, FLOAT64, "loss")
    for one, other in zip(unpacked(engine, found.gradient), unpacked(reference, expected.gradient), strict=True):
        assert_close(one, other, FLOAT64, "gradient")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("model", "activation"),
    [(BURGERS, "tanh"), (KOVASZNAY, "tanh"), *((FUNCTIONS, name) for name in ACTIVATIONS[1:])],
    ids=["burgers", "kovasznay", *ACTIVATIONS[1:]],
)
def test_bits_do_not_depend_on_company_or_threads(
    threads: None, model: Model, activation: str, dtype: torch.dtype
) -> None:
    """Alone, in any pack, chosen rows, any number of threads, drawn points: the same bits."""
    torch.set_num_threads(1)
    problems, widths = instances(model, 4), [5, 16, 32, 8]
    engine, x = pack_of(problems, widths, dtype=dtype, activation=activation, depth=3)
    generator = np.random.default_rng(3)
    picks = [[generator.choice(len(points), 37) for points in problem.point_sets] for problem in problems]
    picks = [[None if group == 1 else pick for group, pick in enumerate(each)] for each in picks]  # one takes all
    for drawn in (None, picks):
        torch.set_num_threads(1)
        whole = engine.evaluate(x, picks=drawn)
        for count in (2, 7):
            torch.set_num_threads(count)
            assert all(torch.equal(a, b) for a, b in zip(engine.evaluate(x, picks=drawn), whole, strict=True))
        rows = [3, 1]
        some = engine.evaluate(x[rows], rows, drawn and [drawn[row] for row in rows])
        kept = engine.keep(rows).evaluate(x[rows], None, drawn and [drawn[row] for row in rows])
        for a, b, c in zip(some, kept, whole, strict=True):
            assert torch.equal(a, c[rows]) and torch.equal(b, c[rows])
        for row in range(len(problems)):
            single = engine.like([problems[row]], engine.arrange([engine.layout.members[row]]))
            size = single.layout.size
            alone = single.evaluate(x[[row], :size].contiguous(), None, drawn and [drawn[row]])
            assert torch.equal(alone.loss[0], whole.loss[row]) and torch.equal(alone.terms[0], whole.terms[row])
            assert torch.equal(alone.gradient[0], whole.gradient[row, :size])
            assert not whole.gradient[row, parameter_count(engine.layout.members[row]) :].any()
            channels, points = problems[row].groups[0].channels, problems[row].point_sets[0]
            columns = problems[row].group_columns(0, points)
            one = single.channels(x[row, :size], 0, channels, points, columns)
            assert torch.equal(one, engine.channels(x[row], row, channels, points, columns))


def test_drawn_points_are_those_points() -> None:
    problems, widths = instances(KOVASZNAY, 2), [7, 12]
    engine, x = pack_of(problems, widths)
    generator = np.random.default_rng(1)
    picks = [[generator.choice(len(points), 41) for points in problem.point_sets] for problem in problems]
    found = engine.evaluate(x, picks=picks)
    drawn = [problem.with_points(each) for problem, each in zip(problems, picks, strict=True)]
    expected = pack_of(drawn, widths)[0].evaluate(x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(found.loss, engine.evaluate(x).loss)


def test_points_can_be_renewed() -> None:
    problems, widths = instances(WAVE, 2), [7, 12]
    engine, x = pack_of(problems, widths)
    before = engine.evaluate(x)
    shifted = problems[1].with_points([np.roll(np.arange(len(p)), 1) % 50 for p in problems[1].point_sets])
    engine.renew(1, shifted)
    found = engine.evaluate(x)
    expected = pack_of([problems[0], shifted], widths)[0].evaluate(x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(found.loss[0], before.loss[0]) and found.loss[1] != before.loss[1]


def test_members_share_the_equation_but_for_numbers() -> None:
    problems = instances(BURGERS, 2)
    other = copy.copy(problems[1])
    first = other.groups[0]
    vars(other)["groups"] = (replace(first, residuals=(2 * first.residuals[0],)), *other.groups[1:])
    with pytest.raises(SettingError, match="must share the equation"):
        pack_of([problems[0], other], [4, 4])


def test_a_torch_function_names_the_way_out() -> None:
    problem = copy.copy(instances(BURGERS, 1)[0])
    group = problem.groups[1]
    call = TorchCall(torch.sin, (group.channel_symbols[0][0],))
    vars(problem)["groups"] = (problem.groups[0], replace(group, residuals=(call,)))
    with pytest.raises(SettingError, match=r"torch function.*Use engine: torch"):
        pack_of([problem], [4])
