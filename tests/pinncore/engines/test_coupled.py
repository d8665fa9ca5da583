"""A loss that couples its points, r' M r / 2, in every engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pinncore import (
    FieldData,
    Member,
    MemberResult,
    NonlocalStrain,
    Pack,
    TrainSettings,
    read_checkpoint,
    write_checkpoint,
)
from pinncore.engines import Engine, FusedEngine, ReferenceEngine, TorchEngine
from pinncore.engines.compiled_engine import CompiledTorchEngine

from ..fem.meshes import plate
from .every_kind import build_engine, compare

ENGINES: tuple[type[Engine], ...] = (TorchEngine, FusedEngine)


@pytest.fixture(scope="module")
def data() -> FieldData:
    return plate()


def problem(data: FieldData, **settings: Any) -> NonlocalStrain:
    return NonlocalStrain(formulation="fe", **settings).with_tables(data)


def different(data: FieldData) -> list[NonlocalStrain]:
    """Problems whose matrices and solutions differ."""
    scaled = [problem(data, scale_factor=s, scale_scope="all") for s in (2.0, 5.0)]
    return [problem(data, scale_factor=3.0), *scaled]


@pytest.mark.parametrize("kind", ENGINES)
def test_engines_agree(kind: type[Engine], data: FieldData) -> None:
    reference, x = build_engine(ReferenceEngine, different(data))
    engine, packed = build_engine(kind, different(data))
    expected = reference.evaluate(x)
    compare(engine, engine.evaluate(packed), reference, expected, range(3), 1e-12)
    some = engine.evaluate(packed[[2, 0]], [2, 0])
    assert torch.equal(some.loss, engine.evaluate(packed).loss[[2, 0]])
    kept = engine.keep([2])
    assert torch.equal(kept.evaluate(packed[[2]]).gradient, some.gradient[:1])


@pytest.mark.slow
def test_the_compiled_engine_agrees(data: FieldData) -> None:
    reference, x = build_engine(ReferenceEngine, different(data))
    engine, packed = build_engine(CompiledTorchEngine, different(data))
    compare(engine, engine.evaluate(packed), reference, reference.evaluate(x), range(3), 1e-12)


def test_the_loss_is_that_of_the_finite_element_equations(data: FieldData) -> None:
    """R' K^-1 R / 2 with R = K u - F, computed as it is written."""
    p = problem(data)
    engine, x = build_engine(ReferenceEngine, [p])
    elements = p.finite_elements
    values = engine.channels(x[0], 0, p.groups[0].channels, p.nodes, np.zeros((1, len(p.nodes))))[0, 0].numpy()
    matrix, area = elements.matrix.toarray(), elements.quads.weights.sum()
    forcing = elements.quads.values.T @ (elements.quads.weights * data.gauss.elocal * p.output_factor) / area
    residual = matrix @ values - forcing
    energy = residual @ np.linalg.solve(matrix, residual) / 2
    assert float(engine.evaluate(x).loss) == pytest.approx(energy, rel=1e-11)


def trained(members: list[Member]) -> list[MemberResult]:
    pack = Pack(members, device="cpu")
    while pack.active:
        pack.step(7)
    return sorted(pack.results, key=lambda result: result.label)


SHORT = TrainSettings(width=6, epochs=15, iterations=25, second_stage="ssbroyden", adam_lr=0.01, record_every=5)


def members(data: FieldData) -> list[Member]:
    widths = (6, 4, 8)
    return [
        Member(dataclasses.replace(SHORT, width=w), each, seed=i, label=i)
        for i, (w, each) in enumerate(zip(widths, different(data), strict=True))
    ]


def parameters(results: list[MemberResult]) -> list[NDArray[np.float64]]:
    return [result.parameters for result in results]


def test_a_member_alone_is_itself_in_a_pack_and_after_a_kill(data: FieldData, tmp_path: Path) -> None:
    together = trained(members(data))
    alone = [trained([member])[0] for member in members(data)]
    for one, other in zip(parameters(together), parameters(alone), strict=True):
        np.testing.assert_array_equal(one, other)
    pack = Pack(members(data), device="cpu")
    pack.step(23)
    write_checkpoint(tmp_path / "checkpoint", pack.state())
    states, _ = read_checkpoint(tmp_path / "checkpoint")
    resumed = Pack(members(data), device="cpu")
    resumed.restore(states)
    while resumed.active:
        resumed.step(11)
    for one, other in zip(together, sorted(resumed.results, key=lambda r: r.label), strict=True):
        np.testing.assert_array_equal(one.parameters, other.parameters)
        assert one.metrics == other.metrics


def test_threads_change_nothing(data: FieldData) -> None:
    engine, x = build_engine(FusedEngine, different(data))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(engine.evaluate(x).gradient)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
