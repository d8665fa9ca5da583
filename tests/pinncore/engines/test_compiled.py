"""The compiled engine: what the reference says, at sizes it was not compiled for too, and a clear word without g++."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pinncore import FieldData, NonlocalStrain, SettingError
from pinncore.activations import ACTIVATIONS
from pinncore.engines import ReferenceEngine
from pinncore.engines.compiled_engine import CompiledTorchEngine, check_compiler
from pinncore.networks import layer_sizes

from ..helpers import CPU, assert_close, build, unpacked

ENGINE = 1e-12  # largest difference over largest value, per array; 1e-15 seen
BOTH_INPUTS = (("x", "y"), ("x", "y", "g", "elocal"))


def assert_is_the_reference(
    data: FieldData, widths: tuple[int, ...], depth: int, inputs: tuple[str, ...], *, activation: str = "tanh"
) -> None:
    """A padded pack whose members differ in width, scale and loss; skipped where nothing can be compiled."""
    try:
        check_compiler()
    except SettingError as problem:
        pytest.skip(str(problem))
    settings = [
        NonlocalStrain(inputs=inputs, scale_factor=1.0 + i, boundary_weight=0.3, loss=("norm", "mean_square")[i % 2])
        for i in range(len(widths))
    ]
    members = [layer_sizes(len(inputs), width=width, depth=depth) for width in widths]
    engine, x = build(members, data, settings, engine=CompiledTorchEngine, init="keras", activation=activation)
    reference, _ = build(members, data, settings, engine=ReferenceEngine, init="keras", activation=activation)
    found, expected = engine.evaluate(x), reference.evaluate(x)
    for name in ("loss", "terms"):
        assert_close(getattr(found, name), getattr(expected, name), ENGINE, name)
    gradients = zip(unpacked(engine, found.gradient), unpacked(reference, expected.gradient), strict=True)
    for member, (own, other) in enumerate(gradients):
        assert_close(own, other, ENGINE, f"gradient of member {member}")
        outside = torch.ones(engine.layout.size, dtype=torch.bool)
        outside[engine.layout.positions(member)] = False
        assert not found.gradient[member, outside].any(), "a padded parameter has a gradient"


@pytest.mark.slow
def test_agrees_with_the_reference(coarse: FieldData) -> None:
    """The second pack is of other sizes than the code was compiled for."""
    assert_is_the_reference(coarse, (4, 6, 5), 2, BOTH_INPUTS[0])
    assert_is_the_reference(coarse, (3, 9, 2, 7), 2, BOTH_INPUTS[0])


@pytest.mark.slow
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_agrees_with_the_reference_for_every_activation(coarse: FieldData, activation: str) -> None:
    """Each case is compiled: a quarter of a minute."""
    assert_is_the_reference(coarse, (4, 6), 1, BOTH_INPUTS[1], activation=activation)
    assert_is_the_reference(coarse, (5,), 3, BOTH_INPUTS[0], activation=activation)


@pytest.mark.slow
def test_float32_in_chunks_is_float64_to_its_rounding(strb100: FieldData) -> None:
    engine, x = build([(2, 16, 16, 1), (2, 16, 16, 1)], strb100)
    single = CompiledTorchEngine(engine.problems, engine.layout, dtype=torch.float32, device=CPU)
    found, expected = single.evaluate(x.float()), engine.evaluate(x)
    assert found.gradient.dtype == torch.float32
    assert_close(found.gradient, expected.gradient, 1e-5)


def test_a_missing_compiler_is_named(coarse: FieldData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++ -O2")
    with pytest.raises(SettingError, match=r"a CPU, but the compiler /nowhere/g\+\+ is missing") as caught:
        build([(2, 4, 1)], coarse, engine=CompiledTorchEngine)
    assert (caught.value.field, caught.value.value) == ("engine", "torch_compiled")
    assert "use engine: torch." in caught.value.way_out
    monkeypatch.delenv("CXX")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(SettingError, match=r"Python's header .*Python\.h is missing"):
        build([(2, 4, 1)], coarse, engine=CompiledTorchEngine)
