"""What engine `fused` promises beyond the contract of every engine: the same bits in any company, on any threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

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
from pinncore.initialisation import initial_parameters
from pinncore.layouts import CompactLayout
from pinncore.networks import layer_sizes, parameter_count
from pinncore.problems import Jet

from ..helpers import CPU, assert_close, build, unpacked

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
    activation=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 150),
)
def test_any_pack_is_the_reference(
    coarse: FieldData,
    widths: list[int],
    depth: int,
    inputs: tuple[str, ...],
    loss: str,
    activation: str,
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
    fused, x = build(members, data, settings, engine=FusedEngine, seed=seed, activation=activation)
    reference, y = build(members, data, settings, engine=ReferenceEngine, seed=seed, activation=activation)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bits_do_not_depend_on_company_or_threads(
    strb100: FieldData, threads: None, dtype: torch.dtype, activation: str
) -> None:
    widths = (5, 16, 32, 8, 16)
    members = [layer_sizes(2, width=width, depth=3) for width in widths]
    settings = [NonlocalStrain(boundary_weight=0.1 * i, scale_factor=1.0 + i) for i in range(len(widths))]
    engine, x = build(members, strb100, settings, engine=FusedEngine, activation=activation)
    engine, x = in_precision(engine, dtype), x.to(dtype)
    torch.set_num_threads(1)
    whole = engine.evaluate(x)
    for count in (2, 3, 7):
        torch.set_num_threads(count)
        assert all(torch.equal(a, b) for a, b in zip(engine.evaluate(x), whole, strict=True))
    torch.set_num_threads(1)
    rows = [3, 0, 4]
    kept = engine.keep(rows)
    for one, other in zip(kept.evaluate(x[rows]), whole, strict=True):
        assert torch.equal(one, other[rows])
    for row, layers in enumerate(members):
        single = engine.like([engine.problems[row]], engine.arrange([layers]))
        own = parameter_count(layers)
        start = torch.zeros(1, single.layout.size, dtype=dtype)
        start[0, :own] = x[row, :own]
        alone = single.evaluate(start)
        assert torch.equal(alone.loss[0], whole.loss[row]) and torch.equal(alone.terms[0], whole.terms[row])
        assert torch.equal(alone.gradient[0, :own], whole.gradient[row, :own])
        assert torch.equal(single.outputs(start, [0])[0], engine.outputs(x, range(len(members)))[row])
    assert not whole.gradient[0, parameter_count(members[0]) :].any()


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


class Burgers(NonlocalStrain):
    """Products of the output with its slopes: a residual that no coefficients describe."""

    def residual(self, term: str, u: Jet, data: Mapping[str, Tensor]) -> Tensor:
        if term == "residual":
            return u.value * u.x + u.y.exp() - data["g"] * u.laplacian**2
        return super().residual(term, u, data)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_residual_that_is_not_affine(strb100: FieldData, threads: None, dtype: torch.dtype) -> None:
    problems = [Burgers(boundary_weight=w).with_tables(strb100) for w in (0.1, 1.0)]
    members = [layer_sizes(2, width=9, depth=2), layer_sizes(2, width=16, depth=2)]
    flats = [initial_parameters("torch", layers, seed=i) for i, layers in enumerate(members)]
    found = []
    for kind, precision in ((FusedEngine, dtype), (ReferenceEngine, torch.float64)):
        layout = kind.arrange(members)
        engine = kind(problems, layout, dtype=precision, device=CPU)
        evaluation = engine.evaluate(layout.pack(flats, dtype=precision, device=CPU))
        found.append((evaluation, unpacked(engine, evaluation.gradient)))
    (fused, gradients), (reference, expected) = found
    tolerance = FLOAT64 if dtype == torch.float64 else 1e-5  # exp and squares amplify rounding
    assert_close(fused.loss, reference.loss, tolerance, "loss")
    for one, other in zip(gradients, expected, strict=True):
        assert_close(one, other, tolerance, "gradient")
    engine = FusedEngine(problems, FusedEngine.arrange(members), dtype=dtype, device=CPU)
    x = engine.layout.pack(flats, dtype=dtype, device=CPU)
    whole, single = engine.evaluate(x), engine.keep([1]).evaluate(x[[1]])
    torch.set_num_threads(2)
    assert torch.equal(single.gradient[0], whole.gradient[1]) and torch.equal(engine.evaluate(x).loss, whole.loss)


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
