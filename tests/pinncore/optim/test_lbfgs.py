"""Packed L-BFGS is `torch.optim.LBFGS`, member by member: on StrB100 to 20 iterations, on Rosenbrock to the end."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from pinncore import FieldData
from pinncore.engines import Engine, ReferenceEngine
from pinncore.networks import layer_sizes
from pinncore.optim import LBFGSSettings, PackedLBFGS, StopReason
from pinncore.optim.rows import dots

from ..helpers import alone, assert_close, build
from .torch_lbfgs import Objective, Path, rounded_plainly, torch_path

WIDTHS = (4, 8, 12, 16)
HISTORIES = (3, 5, 10, 5000)
GRID = [(width, history) for history in HISTORIES for width in WIDTHS]  # 16 members, each with weights of its own
ITERATIONS = 20
ITERATES = 1e-8  # the bar; 5e-12 seen with first step 1, 2e-9 with 0.001
FORMS = ("two_loop", "compact", "dense")
METHODS = ("bfgs", "ssbfgs", "ssbroyden")


def packed_paths(objective: Objective, starts: Tensor, settings: Sequence[LBFGSSettings]) -> list[Path]:
    """All members at once; `objective` takes the whole stack and says nothing of padding."""
    optimiser = PackedLBFGS(settings, starts)
    points: list[list[Tensor]] = [[] for _ in settings]
    evaluations: list[list[int]] = [[] for _ in settings]
    while rows := [row for row, reason in enumerate(optimiser.stopped) if reason is None]:
        asked = starts.clone()
        asked[rows] = optimiser.points(rows)
        values, gradients = objective(asked)
        for row in optimiser.tell(rows, values[rows].tolist(), gradients[rows]):
            points[row].append(optimiser.x[row].clone())
            evaluations[row].append(optimiser.evaluations[row])
    return [
        Path([point.numpy() for point in points[row]], evaluations[row], optimiser.stopped[row])
        for row in range(len(settings))
    ]


def of_engine(engine: Engine) -> Objective:
    """An engine's loss and gradient."""

    def objective(x: Tensor) -> tuple[Tensor, Tensor]:
        loss, _, gradient = engine.evaluate(x)
        return loss, gradient

    return objective


class Strb100Paths:
    """torch's path of each member of the grid, computed when first asked for."""

    def __init__(self, data: FieldData) -> None:
        self.engine, self.starts = build([layer_sizes(2, width=width, depth=2) for width, _ in GRID], data)
        self.of = cache(self._of)

    def settings(self, member: int, *, lr: float = 1.0, form: str = "auto") -> LBFGSSettings:
        return LBFGSSettings(ITERATIONS, GRID[member][1], lr, memory=form)  # type: ignore[arg-type]

    def _of(self, member: int, *, lr: float = 1.0) -> Path:
        engine, start = alone(self.engine, self.starts, member)
        return torch_path(of_engine(engine), start[0], self.settings(member, lr=lr))

    def assert_equal(self, members: Sequence[int], *, lr: float = 1.0, forms: Sequence[str] = ("auto",)) -> None:
        """Train `members` as one pack, their memories in turn of the forms named, and compare each with torch alone."""
        engine, starts = self.engine.keep(members), self.starts[list(members)]
        settings = [self.settings(member, lr=lr, form=forms[row % len(forms)]) for row, member in enumerate(members)]
        paths = packed_paths(of_engine(engine), starts, settings)
        for row, (member, path) in enumerate(zip(members, paths, strict=True)):
            expected = self.of(member, lr=lr)
            width, history = GRID[member]
            name = f"width {width}, history {history}"
            assert path.evaluations == expected.evaluations, f"{name}: evaluations up to each iteration"
            assert path.stop is expected.stop is StopReason.ITERATIONS_DONE
            for step, (point, reference) in enumerate(zip(path.points, expected.points, strict=True)):
                own = engine.layout.unpack(torch.as_tensor(point), row)
                assert_close(own, reference, ITERATES, f"{name}, iterate {step + 1}")


@pytest.fixture(scope="session")
def on_strb100(strb100: FieldData) -> Strb100Paths:
    return Strb100Paths(strb100)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow), 16])
def test_iterates_on_strb100(on_strb100: Strb100Paths, size: int) -> None:
    for first in range(0, len(GRID), size):
        on_strb100.assert_equal(range(first, first + size))


@pytest.mark.parametrize("forms", [("two_loop",), ("compact",), ("compact", "two_loop", "dense")])
def test_iterates_in_every_form(on_strb100: Strb100Paths, forms: Sequence[str]) -> None:
    """Each history at another width; dense where nothing is evicted, so with the longest history only."""
    nothing_evicted = [i for i, (_, history) in enumerate(GRID) if history > ITERATIONS]
    on_strb100.assert_equal(nothing_evicted if "dense" in forms else range(0, len(GRID), 5), forms=forms)


def test_iterates_with_a_short_first_step(on_strb100: Strb100Paths) -> None:
    """The published first step of 0.001: three times as many evaluations, so the search walks out and zooms in."""
    members = [GRID.index(pair) for pair in ((8, 3), (12, 5000))]
    on_strb100.assert_equal(members, lr=0.001)
    assert on_strb100.of(members[0], lr=0.001).evaluations[-1] > 2.5 * ITERATIONS


def test_an_independent_gradient_gives_the_same_iterates(on_strb100: Strb100Paths) -> None:
    """torch's optimiser on nested autograd: neither our optimiser nor our derivatives."""
    member = GRID.index((8, 5))
    engine, start = alone(on_strb100.engine, on_strb100.starts, member, kind=ReferenceEngine)
    reference = torch_path(of_engine(engine), start[0], on_strb100.settings(member))
    expected = on_strb100.of(member)
    assert expected.evaluations == reference.evaluations
    assert_close(expected.last, reference.last, ITERATES)  # 2e-12 seen


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values [rows] and gradients [rows, size] of sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""
    head, tail = x[:, :-1], x[:, 1:]
    valley = tail - head * head
    value = (100 * valley * valley + (1 - head) * (1 - head)).sum(dim=1)
    gradient = torch.zeros_like(x)
    gradient[:, :-1] = -400 * head * valley - 2 * (1 - head)
    gradient[:, 1:] += 200 * valley
    return value, gradient


def rosenbrock_starts(members: int = 5) -> Tensor:
    """The classical start in 20 dimensions, and others."""
    generator = np.random.default_rng(20)
    others = 2 * generator.standard_normal((members - 1, 20))
    return torch.as_tensor(np.vstack([np.tile([-1.2, 1.0], 10), others]))


@pytest.mark.parametrize("tolerance_change", [1e-9, 1e-6 * np.finfo(float).eps])
@pytest.mark.parametrize("history", [3, 50])
def test_rosenbrock_to_the_end(history: int, tolerance_change: float) -> None:
    """Bit for bit to the last iteration, where torch's operations are rounded as the batched ones are."""
    settings = LBFGSSettings(iterations=10_000, history=history, tolerance_change=tolerance_change)
    starts = rosenbrock_starts()
    paths = packed_paths(rosenbrock, starts, [settings] * len(starts))
    with rounded_plainly(by_rows=True):
        expected = [torch_path(rosenbrock, start, settings) for start in starts]
    assert all(len(path.points) > 60 for path in expected), "a history of 50 must evict too"
    for row, (path, reference) in enumerate(zip(paths, expected, strict=True)):
        assert path.stop is reference.stop, f"start {row}"
        assert path.evaluations == reference.evaluations, f"start {row}"
        assert_close(path.points, reference.points, 0.0, f"start {row}")


@pytest.mark.parametrize("history", [3, 50])
def test_rosenbrock_beside_untouched_torch(history: int) -> None:
    """torch as it is: the same 30 iterations, the same decisions over 50, the same minimum.

    Rounding grows a million-fold in 30 iterations, so later paths part; at the end they meet again. The minimum is
    known to sqrt(tolerance_grad / curvature), in the flattest direction 0.4: hence 1e-6.
    """
    settings = LBFGSSettings(iterations=10_000, history=history, tolerance_change=0.0)
    starts = rosenbrock_starts()
    paths = packed_paths(rosenbrock, starts, [settings] * len(starts))
    for row, path in enumerate(paths):
        reference = torch_path(rosenbrock, starts[row], settings)
        assert path.evaluations[:50] == reference.evaluations[:50], f"start {row}"
        assert_close(path.points[:30], reference.points[:30], 1e-8, f"start {row}")
        assert_close(path.last, reference.last, 1e-6, f"start {row}, minimum")


@pytest.mark.parametrize("limit", [1, 2, 17, 40])
@pytest.mark.parametrize("lr", [1.0, 0.001])
def test_a_limit_of_evaluations_cuts_where_torch_cuts(limit: int, lr: float) -> None:
    """Inside a line search too, where the best point so far is taken."""
    settings = LBFGSSettings(iterations=1000, history=5, lr=lr, max_evaluations=limit)
    starts = rosenbrock_starts()
    for row, path in enumerate(packed_paths(rosenbrock, starts, [settings] * len(starts))):
        with rounded_plainly(by_rows=True):
            reference = torch_path(rosenbrock, starts[row], settings)
        assert path.evaluations == reference.evaluations, f"start {row}"
        assert path.stop is reference.stop is StopReason.EVALUATIONS_DONE
        assert_close(path.points, reference.points, 0.0, f"start {row}")


def every_kind(lr: float = 1.0) -> list[LBFGSSettings]:
    """Every form of L-BFGS, with and without evictions, every other method, both curvature tests."""
    forms = [(form, history) for form in FORMS[:2] for history in (2, 3, 50)] + [("dense", 5000)]
    members = [LBFGSSettings(history=history, lr=lr, memory=form) for form, history in forms]  # type: ignore[arg-type]
    members += [LBFGSSettings(lr=lr, method=method) for method in METHODS]  # type: ignore[arg-type]
    return [replace(each, curvature="relative") if row % 3 == 0 else each for row, each in enumerate(members)]


@pytest.mark.parametrize("lr", [0.001, 1.0, 30.0])
def test_a_state_continues_from_any_evaluation(lr: float) -> None:
    """Saved at every tick, read back through JSON, and told the next 15 values: bit for bit what the original does."""
    members = every_kind(lr)
    starts = rosenbrock_starts(len(members))
    rows = list(range(len(members)))

    def advance(optimiser: PackedLBFGS) -> None:
        values, gradients = rosenbrock(optimiser.points(rows))
        optimiser.tell(rows, values.tolist(), gradients)

    def inside(optimiser: PackedLBFGS) -> list[Tensor]:
        return [vectors.clone() for vectors in (optimiser.x, optimiser.gradient, optimiser.direction, optimiser.slots)]

    optimiser = PackedLBFGS(members, starts)
    saved, vectors = [], []
    for _ in range(60):
        saved.append(copy.deepcopy([optimiser.state(row) for row in rows]))
        vectors.append(inside(optimiser))
        advance(optimiser)
    assert not any(optimiser.stopped)
    # the form comes with the state, whatever `auto` would choose today
    forgotten = [replace(member, memory="auto") for member in members]
    for tick in range(45):
        resumed = PackedLBFGS(forgotten, torch.zeros_like(starts))
        for row, (values, tensors) in enumerate(saved[tick]):
            resumed.load(row, json.loads(json.dumps(values)), tensors)
        assert resumed.forms == optimiser.forms
        assert all(map(torch.equal, inside(resumed), vectors[tick])), f"at tick {tick}"
        for _ in range(15):
            advance(resumed)
        assert all(map(torch.equal, inside(resumed), vectors[tick + 15])), f"from tick {tick}"
        for row, (values, tensors) in enumerate(saved[tick + 15]):
            found_values, found = resumed.state(row)
            assert json.dumps(found_values) == json.dumps(values), f"member {row}, from tick {tick}"
            assert found.keys() == tensors.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items()), f"member {row}"


class Quartics:
    """f = sum of w_i (x_i^4/4 + x_i^2/2 + x_i x_{i+1}/2) over a member's own x: the same bits alone and in a stack.

    Elementwise but for sums in the fixed order; rows are filled up with zeros to `size`.
    """

    def __init__(self, sizes: Sequence[int], size: int, seeds: Sequence[int], dtype: torch.dtype) -> None:
        self.weights, self.starts = torch.zeros(2, len(sizes), size, dtype=dtype)
        for row, (own, seed) in enumerate(zip(sizes, seeds, strict=True)):
            generator = np.random.default_rng(seed)
            self.weights[row, :own] = torch.as_tensor(10 ** generator.uniform(-1, 2, own))
            self.starts[row, :own] = torch.as_tensor(generator.standard_normal(own))
        self.positions = [np.arange(own) for own in sizes]

    def __call__(self, x: Tensor, rows: list[int]) -> tuple[list[float], Tensor]:
        w = self.weights[rows]
        neighbours = torch.zeros_like(x)
        neighbours[:, 1:] = x[:, :-1] * (w[:, 1:] != 0)
        neighbours[:, :-1] += x[:, 1:]
        gradient = w * (x * x * x + x) + 0.1 * neighbours
        return dots(x, w * (0.25 * x * x * x + 0.5 * x) + 0.05 * neighbours), gradient

    def path(self, settings: Sequence[LBFGSSettings], most: int = 60) -> list[list[Tensor]]:
        """Each member's own vector at every tick until it stops."""
        optimiser = PackedLBFGS(settings, self.starts, self.positions)
        found: list[list[Tensor]] = [[] for _ in settings]
        for _ in range(most):
            rows = [row for row, reason in enumerate(optimiser.stopped) if reason is None]
            optimiser.tell(rows, *self(optimiser.points(rows), rows)) if rows else None
            for row in rows:
                own = len(self.positions[row])
                inside = (optimiser.x, optimiser.gradient, optimiser.direction, optimiser.slots[0], optimiser.slots[1])
                found[row].append(torch.stack([vectors[row, :own].clone() for vectors in inside]))
                assert not any(vectors[row, own:].any() for vectors in inside), "padding stays exactly zero"
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_a_pack_as_alone_bit_for_bit(dtype: torch.dtype) -> None:
    """All forms and methods in one pack, of different sizes and histories; alone without a trailing zero."""
    settings = every_kind()
    sizes = [5 + 13 * (row % 4) for row in range(len(settings))]
    seeds = range(len(settings))
    packed = Quartics(sizes, 64, seeds, dtype).path(settings)
    for row, each in enumerate(settings):
        single = Quartics(sizes[row : row + 1], sizes[row], seeds[row : row + 1], dtype).path([each])[0]
        assert len(single) == len(packed[row]) > 8, each
        assert all(map(torch.equal, single, packed[row])), each


def test_batched_memories_take_the_same_path() -> None:
    """What runs on a GPU, here on the CPU: equal to rounding over 12 iterations."""
    settings = [replace(each, iterations=12, history=max(each.history, 12)) for each in every_kind()]
    starts = rosenbrock_starts(len(settings))
    paths = []
    for batched in (False, True):
        optimiser = PackedLBFGS(settings, starts, batched=batched)
        while rows := [row for row, reason in enumerate(optimiser.stopped) if reason is None]:
            values, gradients = rosenbrock(optimiser.points(rows))
            optimiser.tell(rows, values.tolist(), gradients)
        assert all(reason is StopReason.ITERATIONS_DONE for reason in optimiser.stopped)
        paths.append(optimiser.x)
    assert_close(paths[1], paths[0], 1e-9)  # 3e-12 seen


def test_members_stop_for_reasons_of_their_own() -> None:
    """A convex quadratic: at the optimum, two iterations, none, a loose test, to the end, and without a number."""
    curvature = torch.linspace(1.0, 9.0, 6, dtype=torch.float64)

    def quadratic(x: Tensor) -> tuple[Tensor, Tensor]:
        return (curvature * x * x).sum(dim=1) / 2, curvature * x

    starts = torch.ones(6, 6, dtype=torch.float64)
    starts[0] = 0.0
    starts[5, 0] = torch.nan
    settings = [
        LBFGSSettings(),
        LBFGSSettings(iterations=2),
        LBFGSSettings(iterations=0),
        LBFGSSettings(tolerance_change=1e3),
        LBFGSSettings(tolerance_change=0.0),
        LBFGSSettings(),
    ]
    paths = packed_paths(quadratic, starts, settings)
    assert [path.stop for path in paths] == [
        StopReason.GRADIENT_TOLERANCE,
        StopReason.ITERATIONS_DONE,
        StopReason.ITERATIONS_DONE,
        StopReason.NO_DESCENT,
        StopReason.GRADIENT_TOLERANCE,
        StopReason.NOT_FINITE,
    ]
    assert [len(path.points) for path in paths[:4]] == [0, 2, 0, 0]
    assert np.abs(paths[4].last).max() < 1e-7


def test_every_stop_reason_has_advice() -> None:
    for reason in StopReason:
        assert reason.advice.endswith(".")
        assert reason.failed == (reason in (StopReason.NOT_FINITE, StopReason.DIVERGED))
