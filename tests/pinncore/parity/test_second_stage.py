"""The second stage of `torch.optim.LBFGS` replayed, clean and with things planted that are another than stated."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pinncore.networks import flatten, unflatten
from pinncore.optim import LBFGSSettings, PackedLBFGS
from pinncore.parity.results import Difference, Explanation
from pinncore.parity.second_stage import Method, compare_second_stage, iterate
from pinncore.parity.trace import Trace

LAYERS = (1, 6, 6, 1)
Array = NDArray[np.float64]
STATED = LBFGSSettings(history=50, tolerance_grad=0.0, tolerance_change=0.0)
INPUTS = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
TARGETS = torch.sin(3 * INPUTS) + 0.3 * INPUTS


def start(seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    sizes = itertools.pairwise(LAYERS)
    return flatten([(generator.normal(size=(i, o)) / i**0.5, generator.normal(size=o) / 10) for i, o in sizes])


class Regression:
    """Loss and gradient of a network that fits a curve; the loss is multiplied by `scale`."""

    def __init__(self, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
        self._scale, self._dtype = scale, dtype

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        a, at = INPUTS.to(x.dtype), 0
        for level, (i, o) in enumerate(itertools.pairwise(LAYERS)):
            w = x[at : at + i * o].reshape(i, o)
            a = a @ w + x[at + i * o : at + i * o + o]
            a = torch.tanh(a) if level < len(LAYERS) - 2 else a
            at += i * o + o
        return self._scale * ((a - TARGETS.to(x.dtype)) ** 2).mean()

    def __call__(self, flat: Array) -> tuple[float, Array]:
        x = torch.tensor(flat, dtype=self._dtype, requires_grad=True)
        loss = self.loss(x)
        (gradient,) = torch.autograd.grad(loss, x)
        return float(loss.detach()), gradient.double().numpy()


def named(prefix: str, flat: Array) -> dict[str, Array]:
    arrays = {}
    for level, (w, b) in enumerate(unflatten(flat, LAYERS), 1):
        arrays |= {f"{prefix}W{level}": w.copy(), f"{prefix}b{level}": b.copy()}
    return arrays


def record(
    problem: Regression,
    iterations: int,
    *,
    dtype: torch.dtype = torch.float64,
    threshold: float = 1e-10,
    **options: Any,
) -> Trace:
    """What `torch.optim.LBFGS` does, one iteration a call."""
    x = torch.tensor(start(), dtype=dtype, requires_grad=True)
    chosen = {"max_eval": 1000, "history_size": 50, "line_search_fn": "strong_wolfe", "tolerance_grad": 0.0}
    optimiser = torch.optim.LBFGS([x], max_iter=1, tolerance_change=0.0, **(chosen | options))
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimiser.zero_grad()
        loss = problem.loss(x)
        loss.backward()
        return loss

    found: dict[int, dict[str, Array]] = {}
    for iteration in range(iterations):
        before, calls = x.detach().double().numpy().copy(), 0
        loss, gradient = problem(before)
        loss = float(optimiser.step(closure).detach())
        state = optimiser.state[x]
        found[iteration] = {
            **named("", before),
            **named("grad_", gradient),
            "loss": np.array(loss),
            **named("direction_", state["d"].double().numpy()),
            "length": np.array(float(state["t"])),
            "evaluations": np.array(float(calls - 1)),
        }
    name = str(dtype).removeprefix("torch.")
    return Trace("trace.npz", "torch", torch.__version__, name, LAYERS, {}, {}, iterations=found)


def first(differences: list[Difference]) -> Difference | None:
    return next((difference for difference in differences if difference.is_beyond), None)


def best(explanations: list[Explanation]) -> list[str]:
    return [explanation.name for explanation in explanations if explanation.vanishes]


@pytest.mark.parametrize("scale", [1.0, 1e-4, 100.0])
@pytest.mark.parametrize("iterations", [12, 150])
def test_a_clean_trace_agrees(scale: float, iterations: int) -> None:
    problem = Regression(scale)
    differences, explanations = compare_second_stage(record(problem, iterations), problem, STATED)
    assert first(differences) is None
    assert explanations == []
    assert {difference.place.quantity for difference in differences} == {
        *("weights", "loss", "gradient", "direction", "length", "evaluations")
    }


def test_a_clean_trace_in_float32_agrees() -> None:
    problem = Regression(dtype=torch.float32)
    trace = record(problem, 40, dtype=torch.float32)
    differences, _ = compare_second_stage(trace, problem, STATED)
    assert first(differences) is None


@pytest.mark.parametrize(
    ("planted", "stated", "iterations", "name"),
    [
        ({"history_size": 5}, {}, 25, "lbfgs_history: 5"),
        ({"history_size": 10}, {}, 40, "lbfgs_history: 10"),
        ({"history_size": 100}, {}, 120, "lbfgs_history: 100"),
        ({"lr": 1e-3}, {}, 12, "first_step: 0.001"),
        ({"lr": 0.1}, {}, 12, "first_step: 0.1"),
        ({}, {"lr": 0.1}, 12, "first_step: 1"),
        ({"max_eval": None}, {}, 12, "max_eval with max_iter 1"),
        ({"line_search_fn": None, "lr": 0.1}, {"lr": 0.1}, 12, "no line search"),
        ({}, {"curvature": "relative"}, 40, "lbfgs_curvature: torch"),
        ({}, {"tolerance_change": 1e-3}, 20, "no tolerance"),
    ],
)
def test_what_is_planted_is_named(planted: Any, stated: Any, iterations: int, name: str) -> None:
    problem = Regression(1e-6 if "curvature" in stated else 1.0)
    trace = record(problem, iterations, **planted)
    differences, explanations = compare_second_stage(trace, problem, dataclasses.replace(STATED, **stated))
    assert first(differences) is not None
    assert name in best(explanations), [(e.name, str(e.parts_at)) for e in explanations[:4]]
    assert len(best(explanations)) <= 2
    assert explanations[0].vanishes


def changed(iterations: int, **changes: Any) -> Trace:
    """A trace of an L-BFGS that torch does not have."""
    run = iterate(Regression(), start(), dataclasses.replace(Method.of(STATED), **changes))
    found = {}
    for number in range(iterations):
        each = next(run)
        found[number] = {
            **named("", each.x),
            **named("grad_", each.gradient),
            "loss": np.array(each.loss),
            "evaluations": np.array(float(each.evaluations)),
            "length": np.array(each.length),
            **named("step_", each.length * each.direction),
        }
    return Trace("trace.npz", "other", "", "float64", LAYERS, {}, {}, iterations=found)


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        ({"search": "armijo"}, "line search: Armijo"),
        ({"is_first_shortened": False, "search": "armijo"}, ""),
        ({"is_first_shortened": False}, "first step not shortened"),
        ({"curvature": "none", "search": "armijo"}, ""),
    ],
)
def test_other_methods_are_named_too(planted: Any, name: str) -> None:
    """Two things at once are named by none of the single ones, and each of these says where it parts."""
    differences, explanations = compare_second_stage(changed(30, **planted), Regression(), STATED)
    assert first(differences) is not None
    if name:
        assert best(explanations) == [name]
    else:
        assert all(each.vanishes or each.parts_at is not None for each in explanations)


def test_our_own_optimiser_visits_the_same_iterates() -> None:
    problem = Regression()
    run = iterate(problem, start(), Method.of(STATED))
    packed = PackedLBFGS([STATED], torch.tensor(start())[None])
    for _ in range(8):
        iteration = next(run)
        np.testing.assert_allclose(packed.x[0].numpy(), iteration.x, rtol=0, atol=1e-12)
        evaluations = packed.evaluations[0]
        done: list[int] = []
        while not done:
            loss, gradient = problem(packed.points([0])[0].numpy())
            done = packed.tell([0], [loss], torch.tensor(gradient)[None])
        assert packed.evaluations[0] - max(evaluations, 1) == iteration.evaluations


def test_evaluations_counted_with_the_one_at_the_start_agree() -> None:
    trace = record(Regression(), 8)
    for arrays in trace.iterations.values():
        arrays["evaluations"] += 1  # type: ignore[index]
    differences, _ = compare_second_stage(trace, Regression(), STATED)
    assert first(differences) is None


def test_without_weights_nothing_is_replayed() -> None:
    trace = record(Regression(), 3)
    bare = {number: {"loss": arrays["loss"]} for number, arrays in trace.iterations.items()}
    assert compare_second_stage(dataclasses.replace(trace, iterations=bare), Regression(), STATED) == ([], [])
    assert compare_second_stage(dataclasses.replace(trace, iterations={}), Regression(), STATED) == ([], [])


def test_a_wrong_array_is_found_at_its_place() -> None:
    trace = record(Regression(), 8)
    trace.iterations[3]["grad_W2"][0, 0] *= 1 + 1e-6  # type: ignore[index]
    trace.iterations[5]["grad_b1"] = np.zeros((1, 0, 2))  # type: ignore[index]
    differences, _ = compare_second_stage(trace, Regression(), STATED)
    beyond = [difference for difference in differences if difference.is_beyond]
    assert [str(difference.place) for difference in beyond] == [
        "gradient grad_W2 at iteration 3",
        "gradient grad_b1 at iteration 5",
    ]
    assert beyond[1].note == "shape (1, 0, 2) instead of (6,)"
