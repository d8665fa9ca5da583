"""A loss that couples its points, r' M r / 2, in every engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pinncore import (
    FieldData,
    Member,
    NonlocalStrain,
    TrainSettings,
)
from pinncore.engines import Engine, FusedEngine, ReferenceEngine, TorchEngine
from pinncore.engines.compiled_engine import CompiledTorchEngine

from ..fem.meshes import plate
from ..test_packs import assert_same, finish, killed_and_resumed, pack_of
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


SHORT = TrainSettings(width=6, epochs=15, iterations=25, second_stage="ssbroyden", adam_lr=0.01, record_every=5)


def members(data: FieldData) -> list[Member]:
    widths = (6, 4, 8)
    return [
        Member(dataclasses.replace(SHORT, width=w), each, seed=i, label=i)
        for i, (w, each) in enumerate(zip(widths, different(data), strict=True))
    ]


def test_a_member_alone_is_itself_in_a_pack_and_after_a_kill(data: FieldData, tmp_path: Path) -> None:
    together = finish(pack_of(members(data)))
    for member in members(data):
        alone = finish(pack_of([member]))[member.label]
        np.testing.assert_array_equal(alone.parameters, together[member.label].parameters)
    for label, result in killed_and_resumed(members(data), tmp_path, 23, 11).items():
        assert_same(result, together[label])


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
