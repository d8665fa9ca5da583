"""The GPU kernels' own text, run on the CPU, against nested autograd; their barriers; bits that do not change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pinncore import FieldData, NonlocalStrain, Problem
from pinncore.activations import ACTIVATIONS
from pinncore.cuda.limits import ITEM_BYTES, Shape, reason_against
from pinncore.cuda.machine import HostMachine, host_library
from pinncore.cuda.sources import LossKernel, equation_of, step_source
from pinncore.engines import ReferenceEngine
from pinncore.optim import FirstOrderSettings, PackedFirstOrder
from pinncore.problems import PROBLEMS, problem_class

from ..engines.every_kind import (
    ALL,
    Burgers,
    Clipped,
    FourInputs,
    Kovasznay,
    Mixed,
    VariableWave,
    assert_engines_agree,
    variants,
)
from ..helpers import CPU, assert_close, every
from .host import MACHINE, NEEDS_COMPILER, HostEngine, build

pytestmark = NEEDS_COMPILER

FLOAT64, FLOAT32 = 1e-13, 2e-6
WIDTHS = [(2, 8), (2, 7), (2, 5)]  # of one compiled width


@pytest.fixture(scope="module")
def few(strb100: FieldData) -> FieldData:
    """49 Gauss points and seven nodes of each boundary."""
    return every(strb100, gauss=131, nodes=12)


def shipped(name: str, tables: FieldData | None = None) -> Problem:
    """A shipped problem at few points."""
    if name == "nonlocal_strain":
        assert tables is not None
        return NonlocalStrain().with_tables(tables)
    return problem_class(name)(points=49, condition_points=11)


def agrees(problems: Sequence[Problem], shapes: Sequence[tuple[int, int]], **options: Any) -> None:
    """Losses, terms and gradients are those of nested autograd in float64 at the same parameters."""
    engine, x = build(problems, shapes, **options)
    bound = FLOAT64 if x.dtype == torch.float64 else FLOAT32
    found = engine.evaluate(x)
    for row, problem in enumerate(problems):
        layout = ReferenceEngine.arrange([engine.layout.members[row]])
        reference = ReferenceEngine(
            [problem], layout, dtype=torch.float64, device=CPU, activation=options.get("activation", "tanh")
        )
        y = layout.pack([engine.layout.unpack(x[row], row)], dtype=torch.float64, device=CPU)
        expected = reference.evaluate(y)
        assert_close(found.loss[row].double(), expected.loss[0], bound, "loss")
        assert_close(found.terms[row].double(), expected.terms[0], bound, "terms")
        gradients = engine.layout.unpack(found.gradient[row], row), layout.unpack(expected.gradient[0], 0)
        assert_close(*gradients, bound, "gradient")


@pytest.mark.parametrize("problem", [kind for kind in ALL if kind is not Clipped])
def test_every_kind_of_equation(problem: type[Problem]) -> None:
    agrees(variants(problem, loss="norm"), WIDTHS)


def test_outputs_channels_and_residuals() -> None:
    assert_engines_agree(HostEngine, ReferenceEngine, variants(Burgers), FLOAT64)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("problem", [VariableWave, Kovasznay, Mixed, FourInputs])
def test_every_activation(problem: type[Problem], activation: str) -> None:
    agrees(variants(problem)[:1], [(3, 7)], activation=activation)


@pytest.mark.parametrize("name", PROBLEMS)
def test_shipped_problems(name: str, few: FieldData) -> None:
    problem = shipped(name, few)
    agrees([problem] * 3, WIDTHS)
    agrees([problem] * 3, WIDTHS, dtype=torch.float32)


def test_the_finite_element_loss() -> None:
    agrees([NonlocalStrain(formulation="fe")] * 2, [(2, 8), (2, 5)])


@pytest.mark.parametrize("shape", [(1, 4), (8, 8), (2, 16), (3, 20), (2, 24)])
def test_shapes(shape: tuple[int, int], few: FieldData) -> None:
    problem = shipped("nonlocal_strain", few)
    for activation in ("tanh", "sin"):
        agrees([problem], [shape], dtype=torch.float32, activation=activation)
        agrees([problem], [shape], activation=activation)


def test_a_pack_of_sixteen_widths_and_points_in_several_blocks() -> None:
    problem = problem_class("burgers")(points=333, condition_points=11)
    agrees([problem], [(2, 8)])
    agrees([shipped("burgers")] * 16, [(2, 1 + k % 8) for k in range(16)])


@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_bits_do_not_depend_on_the_pack_or_the_tape(activation: str) -> None:
    problem, shapes = shipped("kovasznay"), [(3, 5), (3, 8), (3, 12), (3, 6), (3, 8)]
    options: dict[str, Any] = {"dtype": torch.float32, "activation": activation}
    engine, x = build([problem] * 5, shapes, **options)
    found, again = engine.evaluate(x), engine.evaluate(x)
    assert all(torch.equal(*pair) for pair in zip(found, again, strict=True))
    small = HostMachine()
    small.shared_per_processor = 0  # so that every tape is in device memory
    for machine in (MACHINE, small):
        for row, shape in enumerate(shapes):
            alone, _ = build([problem], [shape], machine=machine, **options)
            size = alone.layout.size
            other = alone.evaluate(x[row : row + 1, :size])
            assert torch.equal(other.loss, found.loss[[row]]) and torch.equal(other.terms, found.terms[[row]])
            assert torch.equal(other.gradient[0], found.gradient[row, :size])
            assert alone.errors(x[row : row + 1, :size], [0]) == engine.errors(x[[row]], [row])


@pytest.mark.parametrize("barrier", [*range(9), *range(20, 25)])
def test_every_barrier_is_needed(barrier: int, strb100: FieldData) -> None:
    """Without it threads read what others have not written yet, or have overwritten."""
    problem = NonlocalStrain().with_tables(every(strb100, gauss=48, nodes=12))  # 134 points: warps of unequal work
    equations = {equation_of(group, 2) for group in problem.groups}
    changed = False
    for activation in ("tanh", "sin"):
        engine, x = build([problem], [(3, 20)], activation=activation, dtype=torch.float32)
        sources = [LossKernel(equation, activation, "float32", 20).source for equation in equations]
        libraries = [host_library(source, contracts=True) for source in sources]
        libraries.append(host_library(step_source("float32"), contracts=False))
        expected = trained(engine, x)
        for is_backward in (False, True):
            try:
                for library in libraries:
                    library.leave_out(barrier, is_backward)
                found = trained(engine, x)
            finally:
                for library in libraries:
                    library.leave_out(-1, False)
            changed |= not torch.equal(expected, found)
    assert changed


def trained(engine: HostEngine, x: Tensor) -> Tensor:
    """Two epochs of Adam, the gradient and its norm."""
    first = PackedFirstOrder([FirstOrderSettings()] * len(x), x)
    found = engine.evaluate(x)
    stretch = engine.stage.run(x, first, 2, [], [math.nan], [1e6])
    return torch.cat([stretch.x.flatten(), found.gradient.flatten(), torch.tensor(engine.norms(found.gradient))])


def test_errors_are_those_of_the_problem(few: FieldData) -> None:
    for problem in (shipped("nonlocal_strain", few), shipped("kovasznay"), shipped("screened_poisson")):
        engine, x = build([problem] * 2, [(2, 8), (2, 5)])
        outputs = engine.outputs(x, [0, 1]).numpy()
        expected = [problem.error(output) for output in outputs]
        assert engine.errors(x, [0, 1]) == pytest.approx(expected, rel=1e-12)
    unknown = variants(Kovasznay)[:2]
    engine, x = build(unknown, [(2, 8), (2, 5)])
    assert engine.errors(x, [0, 1]) == [None, None]


def test_what_the_kernel_does_not_take() -> None:
    sizes = (2, 1, 4)
    assert reason_against(20, 8, sizes, "float32", "tanh") is None
    assert "width 25 is more than 24" in str(reason_against(25, 2, sizes, "float32", "tanh"))
    assert "width 9 is more than 8" in str(reason_against(9, 2, sizes, "float64", "tanh"))
    assert "100 layers of 24 units" in str(reason_against(24, 100, sizes, "float32", "tanh"))


def test_memory_of_a_block() -> None:
    """By hand: 2 x 4 with one output, two inputs and the channels of a Laplacian."""
    weights = (2 * 4 + 4) + (16 + 4) + 8  # the outputs' five are filled up to fours
    warp = 2 * 4 * 32 * 4 + 32 * (4 + 2) + weights
    assert Shape(4, 2, 1, 4, ITEM_BYTES["float32"]).shared_bytes(2) == 4 * (weights + 2 * warp)
    assert Shape(4, 2, 1, 4, ITEM_BYTES["float64"]).tape_bytes(3) == 8 * 2 * 3 * 4 * 32 * 4
