"""Memories: three forms of one matrix, compiled and batched, the same bits in any company and after any restart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pinncore import SettingError
from pinncore.optim import LBFGSSettings
from pinncore.optim.memory import BatchedMemory, CompiledMemory, Memory, MemorySpec, memory_bytes, memory_form
from pinncore.optim.memory.symmetric import pack, unpack
from pinncore.optim.rows import absolute_sums, dots, norms

FORMS = ("two_loop", "compact", "dense")
METHODS = ("bfgs", "ssbfgs", "ssbroyden")
EXACT = 1e-10  # between forms in float64; 1e-14 seen
Kinds = type[CompiledMemory] | type[BatchedMemory]


@dataclass(frozen=True)
class Pairs:
    """Steps, changes and gradients [iterations, size] on a convex quadratic, and s'Bs of an imagined B."""

    steps: Tensor
    changes: Tensor
    gradients: Tensor
    bends: list[float]

    def __getitem__(self, part: slice) -> Pairs:
        return Pairs(self.steps[part], self.changes[part], self.gradients[part], self.bends[part])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
        return iter(zip(self.steps, self.changes, self.gradients, self.bends, strict=True))


def quadratic_pairs(size: int, iterations: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Pairs:
    """Random steps on a quadratic with curvatures from 1 to 1000; every fifth pair fails the curvature test."""
    generator = np.random.default_rng(seed)
    axes = np.linalg.qr(generator.standard_normal((size, size)))[0]
    steps, gradients = generator.standard_normal((2, iterations, size))
    changes = steps @ (axes * np.logspace(0, 3, size)) @ axes.T
    changes[4::5] *= -1
    bends = ((steps * changes).sum(axis=1) * generator.uniform(0.5, 2.0, iterations)).tolist()
    s, y, g = (torch.as_tensor(array, dtype=dtype) for array in (steps, changes, gradients))
    return Pairs(s, y, g, bends)


def spec(form: str, history: int, method: str = "lbfgs") -> MemorySpec:
    return MemorySpec(method, form, history, "torch")  # type: ignore[arg-type]


def make(
    kind: Kinds, specs: Sequence[MemorySpec], own: Sequence[NDArray[np.int64]], size: int, dtype: torch.dtype
) -> Memory:
    if kind is CompiledMemory:
        return CompiledMemory(specs, own, dtype)
    return BatchedMemory(specs, own, torch.zeros(len(specs), size, dtype=dtype))


def directions(
    memory: Memory, members: Sequence[Pairs], own: Sequence[NDArray[np.int64]], size: int
) -> list[list[Tensor]]:
    """Feed every member its pairs, all at once; each member's own directions, one a pair."""
    dtype = members[0].steps.dtype
    found: list[list[Tensor]] = [[] for _ in members]
    table = torch.zeros(len(members), size, dtype=dtype)
    for k in range(max(len(pairs.bends) for pairs in members)):
        rows = [row for row, pairs in enumerate(members) if k < len(pairs.bends)]
        step, change, gradient = (torch.zeros(len(rows), size, dtype=dtype) for _ in range(3))
        for i, row in enumerate(rows):
            step[i, own[row]] = members[row].steps[k]
            change[i, own[row]] = members[row].changes[k]
            gradient[i, own[row]] = members[row].gradients[k]
        memory.advance(rows, step, change, gradient, [members[row].bends[k] for row in rows], table)
        for row in rows:
            found[row].append(table[row, own[row]].clone())
    for row, places in enumerate(own):
        assert not table[row, np.setdiff1d(np.arange(size), places)].any(), "padding stays exactly zero"
    return found


def alone(kind: Kinds, each: MemorySpec, pairs: Pairs) -> list[Tensor]:
    """A member's directions at its own size with nobody beside it."""
    size = pairs.steps.shape[1]
    own = [np.arange(size)]
    return directions(make(kind, [each], own, size, pairs.steps.dtype), [pairs], own, size)[0]


def two_loop_by_hand(pairs: Pairs, history: int) -> list[Tensor]:
    """Algorithm 7.4 of Nocedal and Wright, as plain as it is printed, pairs with y's <= 1e-10 dropped."""
    kept: list[tuple[Tensor, Tensor]] = []
    found = []
    for s, y, g, _ in pairs:
        if s @ y > 1e-10:
            kept = [*kept, (s, y)][-history:]
        q, alphas = g.clone(), []
        for past_s, past_y in reversed(kept):
            alphas.append(past_s @ q / (past_s @ past_y))
            q = q - alphas[-1] * past_y
        gamma = kept[-1][0] @ kept[-1][1] / (kept[-1][1] @ kept[-1][1]) if kept else 1.0
        r = gamma * q
        for (past_s, past_y), alpha in zip(kept, reversed(alphas), strict=True):
            r = r + (alpha - past_y @ r / (past_s @ past_y)) * past_s
        found.append(-r)
    return found


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of two lists of directions, over the length of each."""
    assert len(found) == len(expected)
    return max(
        float((one.double() - other.double()).norm() / other.double().norm())
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("kind", [CompiledMemory, BatchedMemory])
@pytest.mark.parametrize("history", [1, 2, 7, 16, 60])
@pytest.mark.parametrize("size", [5, 33, 70])
def test_all_forms_are_the_two_loops(kind: Kinds, history: int, size: int) -> None:
    """Below and above the number of pairs: with 60 nothing is evicted, and a dense memory must agree too."""
    pairs = quadratic_pairs(size, 60)
    expected = two_loop_by_hand(pairs, history)
    for form in FORMS if history == 60 else FORMS[:2]:
        assert difference(alone(kind, spec(form, history), pairs), expected) < EXACT, form


@pytest.mark.parametrize("kind", [CompiledMemory, BatchedMemory])
@pytest.mark.parametrize("form", FORMS)
def test_float32(kind: Kinds, form: str) -> None:
    exact = quadratic_pairs(40, 15)
    rounded = quadratic_pairs(40, 15, dtype=torch.float32)
    expected = two_loop_by_hand(exact, 100)
    found = alone(kind, spec(form, 100), rounded)
    assert found[0].dtype == torch.float32
    assert difference(found, expected) < 2e-5  # 15 pairs of curvatures up to 1000; 2e-6 seen


def company() -> tuple[list[MemorySpec], list[Pairs], list[NDArray[np.int64]], int]:
    """Every form and method at different sizes, histories and lengths, own parameters in front or scattered."""
    specs = [spec(form, history) for form, history in (("two_loop", 3), ("compact", 5), ("dense", 50), ("compact", 50))]
    specs += [spec("dense", 1, method) for method in METHODS] + [spec("two_loop", 50)]
    sizes = (17, 40, 33, 21, 30, 12, 40, 5)
    pairs = [quadratic_pairs(size, 20 + row, seed=row) for row, size in enumerate(sizes)]
    generator = np.random.default_rng(0)
    own = [np.arange(size) if row % 2 else np.sort(generator.permutation(48)[:size]) for row, size in enumerate(sizes)]
    return specs, pairs, own, 48


def test_in_company_as_alone_bit_for_bit() -> None:
    specs, pairs, own, size = company()
    found = directions(CompiledMemory(specs, own, torch.float64), pairs, own, size)
    for each, member, packed in zip(specs, pairs, found, strict=True):
        assert all(map(torch.equal, packed, alone(CompiledMemory, each, member))), each


def test_batched_as_compiled() -> None:
    specs, pairs, own, size = company()
    compiled = directions(CompiledMemory(specs, own, torch.float64), pairs, own, size)
    batched = directions(BatchedMemory(specs, own, torch.zeros(len(specs), size).double()), pairs, own, size)
    for each, one, other in zip(specs, batched, compiled, strict=True):
        assert difference(one, other) < EXACT, each


@pytest.mark.parametrize("kind", [CompiledMemory, BatchedMemory])
def test_members_that_leave_leave_no_trace(kind: Kinds) -> None:
    specs, pairs, own, size = company()
    expected = directions(make(kind, specs, own, size, torch.float64), pairs, own, size)
    memory = make(kind, specs, own, size, torch.float64)
    first = [member[:9] for member in pairs]
    directions(memory, first, own, size)
    staying = [5, 0, 2, 6, 3]
    memory.keep(staying)
    rest = [member[9:] for member in pairs]
    found = directions(memory, [rest[row] for row in staying], [own[row] for row in staying], size)
    for row, continued in zip(staying, found, strict=True):
        if kind is CompiledMemory:
            assert all(map(torch.equal, continued, expected[row][9:]))
        assert difference(continued, expected[row][9:]) < EXACT


@pytest.mark.parametrize("to", [CompiledMemory, BatchedMemory])
@pytest.mark.parametrize("origin", [CompiledMemory, BatchedMemory])
@hypothesis_settings(max_examples=12, deadline=None)
@given(pause=st.integers(0, 20), order=st.permutations(range(8)))
def test_a_state_continues(origin: Kinds, to: Kinds, pause: int, order: list[int]) -> None:
    """In another pack at other places, and from a CPU to a GPU and back; from like to like bit for bit."""
    specs, pairs, own, size = company()
    memory = make(origin, specs, own, size, torch.float64)
    first = [member[:pause] for member in pairs]
    directions(memory, first, own, size)
    states = [memory.state(row) for row in range(len(specs))]
    rest = [member[pause:] for member in pairs]
    expected = directions(memory, rest, own, size)
    places = [np.arange(len(own[row])) for row in order]
    wrong = [spec("two_loop", 4)] * len(order)  # the form comes with the state
    resumed = make(to, wrong, places, size, torch.float64)
    for new, row in enumerate(order):
        resumed.load(new, specs[row], states[row])
        again = resumed.state(new)
        if origin is to:
            assert all(torch.equal(again[name], tensor) for name, tensor in states[row].items())
    found = directions(resumed, [rest[row] for row in order], places, size)
    for new, row in enumerate(order):
        if origin is to is CompiledMemory:
            assert all(map(torch.equal, found[new], expected[row])), specs[row]
        elif expected[row]:
            assert difference(found[new], expected[row]) < EXACT, specs[row]


def test_a_state_has_the_members_own_size() -> None:
    specs, pairs, own, size = company()
    memory = CompiledMemory(specs, own, torch.float64)
    directions(memory, pairs, own, size)
    shapes = [{name: tuple(tensor.shape) for name, tensor in memory.state(row).items()} for row in range(8)]
    assert shapes[0] == {"steps": (3, 17), "changes": (3, 17), "inverse": (3,), "scalars": (2,)}
    assert shapes[1] == {"steps": (5, 40), "changes": (5, 40), "inverse": (5,), "scalars": (2,), "products": (5, 5)}
    assert shapes[2] == {"a": (33, 33), "b": (33, 33), "waiting": (3, 33), "scalars": (1,)}
    assert shapes[4] == {"h": (30, 30), "waiting": (4, 30), "scalars": (2,)}


def test_room_grows_with_the_pairs() -> None:
    """A history of 5000 is not paid for before there are pairs, a matrix not before the first."""
    memory = CompiledMemory([spec("two_loop", 5000), spec("dense", 5000)], [np.arange(9)] * 2, torch.float64)
    assert memory.state(0)["steps"].shape == (0, 9)
    assert "a" not in memory.state(1)
    rings, matrices = memory.members
    assert rings.pairs.shape[1] == 0 and matrices.matrices is None  # type: ignore[attr-defined]
    directions(memory, [quadratic_pairs(9, 25)] * 2, [np.arange(9)] * 2, 9)
    assert rings.pairs.shape[1] == 32  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 50])
def test_tiles_hold_a_symmetric_matrix(size: int) -> None:
    half = np.random.default_rng(size).standard_normal((size, size))
    square = half + half.T
    assert np.array_equal(unpack(pack(square), size), square)
    assert np.array_equal(pack(unpack(pack(square), size)), pack(square))


def test_the_cheapest_form_on_a_cpu() -> None:
    """Matrices for small networks and long runs, pairs for short ones and large networks."""

    def form(history: int, iterations: int, size: int, dtype: torch.dtype = torch.float64) -> str:
        return memory_form(history, iterations, size, dtype, "cpu")

    assert form(5000, 2000, 337) == form(2000, 2000, 337) == "dense"
    assert form(1999, 2000, 337) == "two_loop", "it would have to forget"
    assert form(100, 100, 337) == "two_loop", "a hundred pairs are read faster than two matrices"
    assert form(5000, 2000, 4177) == "two_loop"
    assert form(10**5, 10**5, 4545) == "two_loop", "two matrices of 165 MB"
    assert form(10**5, 10**5, 4545, torch.float32) == "dense"
    assert form(50, 0, 337) == form(50, 2000, 337) == "two_loop"


def test_the_cheapest_form_on_a_gpu() -> None:
    """Launches count: a handful of products instead of eight a pair."""
    assert memory_form(5000, 2000, 337, torch.float64, "cuda") == "dense"
    assert memory_form(50, 2000, 337, torch.float64, "cuda") == "compact"
    assert memory_form(2, 2000, 337, torch.float64, "cuda") == "two_loop"


def test_a_form_can_be_asked_for() -> None:
    asked = [LBFGSSettings(history=60, iterations=60, memory=form) for form in FORMS]  # type: ignore[arg-type]
    assert [each.memory_spec(10, torch.float64, "cpu").form for each in asked] == list(FORMS)
    with pytest.raises(SettingError, match=r"lbfgs_history \(50\) of at least iterations \(60\), got 'dense'"):
        LBFGSSettings(history=50, iterations=60, memory="dense").memory_spec(10, torch.float64, "cpu")
    with pytest.raises(SettingError, match="must be one of auto, two_loop, compact, dense"):
        LBFGSSettings(memory="rank_one").memory_spec(10, torch.float64, "cpu")  # type: ignore[arg-type]
    assert LBFGSSettings(history=50, iterations=60, method="bfgs").memory_spec(10, torch.float64, "cpu").form == "dense"


def test_bytes_are_those_of_the_state() -> None:
    for form, method in (*((form, "lbfgs") for form in FORMS), ("dense", "bfgs")):
        memory = CompiledMemory([spec(form, 30, method)], [np.arange(40)], torch.float64)
        directions(memory, [quadratic_pairs(40, 60)], [np.arange(40)], 40)
        held = sum(tensor.nbytes for tensor in memory.state(0).values())
        expected = memory_bytes(form, 30, 40, torch.float64, method)  # type: ignore[arg-type]
        assert expected <= held < 1.1 * expected + 2000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 100, 337])
def test_sums_over_rows_depend_on_the_row_alone(dtype: torch.dtype, size: int) -> None:
    """Not on other rows, nor on appended zeros: bit for bit; and they are the sums."""
    generator = torch.Generator().manual_seed(size)
    a, b = torch.randn(2, 5, size, generator=generator, dtype=dtype)
    assert dots(a, b) == pytest.approx((a.double() * b.double()).sum(dim=1).tolist(), rel=1e-13, abs=1e-13)
    assert absolute_sums(a) == pytest.approx(a.double().abs().sum(dim=1).tolist(), rel=1e-14)
    assert norms(a) == pytest.approx(a.double().norm(dim=1).tolist(), rel=1e-14)
    for extra in (1, 16, 33):
        blank = torch.zeros(5, extra, dtype=dtype)
        longer_a, longer_b = torch.cat([a, blank], dim=1), torch.cat([b, blank], dim=1)
        assert dots(longer_a, longer_b) == dots(a, b)
        assert absolute_sums(longer_a) == absolute_sums(a)
        assert norms(longer_a) == norms(a)
    assert [dots(a[row : row + 1], b[row : row + 1])[0] for row in range(5)] == dots(a, b)
    assert dots(a[::2], b[::2]) == dots(a, b)[::2], "rows apart in memory"


def test_sums_over_rows_without_numbers() -> None:
    a = torch.tensor([[1.0, math.nan, 2.0], [math.inf, 1.0, 1.0], [1.0, 2.0, 3.0]])
    assert [math.isfinite(value) for value in dots(a, a)] == [False, False, True]
    assert math.isnan(absolute_sums(a)[0])
    assert norms(torch.full((1, 3), 1e30)) == pytest.approx([math.sqrt(3) * 1e30]), "float32 squares do not overflow"
