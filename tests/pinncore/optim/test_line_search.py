"""The line search beside torch's own, on directions that are anything but smooth sailing: bit for bit."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.lbfgs import _strong_wolfe

from pinncore.optim.line_search import StrongWolfe

from .torch_lbfgs import rounded_plainly


@dataclass
class Wiggle:
    """f(x) = sum_i (c_i x_i^2 / 2 + a_i cos(w_i x_i + p_i)), with a record of which shapes a search went through."""

    c: Tensor
    a: Tensor
    w: Tensor
    p: Tensor
    seen: set[str] = field(default_factory=set)

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        phase = self.w * x + self.p
        value = (self.c * x * x / 2 + self.a * torch.cos(phase)).sum()
        return float(value), self.c * x - self.a * self.w * torch.sin(phase)

    @staticmethod
    def drawn(seed: int, *, roughness: float) -> Wiggle:
        draw = np.random.default_rng(seed).uniform
        arrays = (draw(-0.2, 2, 3), roughness * draw(0, 1, 3), draw(0.5, 5, 3), draw(0, 6, 3))
        return Wiggle(*map(torch.as_tensor, arrays))


@dataclass(frozen=True)
class Found:
    """What a search ends with: step length, value and gradient there, evaluations."""

    t: float
    value: float
    gradient: list[float]
    evaluations: int


def torch_search(f: Wiggle, x: Tensor, d: Tensor, t: float, most_steps: int) -> Found:
    value, gradient = f(x)
    with rounded_plainly():
        found, there, step, evaluations = _strong_wolfe(
            lambda x, t, d: f(x + float(t) * d), x, t, d, value, gradient, gradient.dot(d), max_ls=most_steps
        )
    return Found(float(step), found, there.tolist(), evaluations)


def our_search(f: Wiggle, x: Tensor, d: Tensor, t: float, most_steps: int, *, interrupted: bool = False) -> Found:
    """Driven as the packed optimiser drives it, the two gradient slots moved as it is told."""
    value, start = f(x)
    search = StrongWolfe(value, float((start * d)[None].sum(dim=1)[0]), t, float(d.abs().max()), most_steps=most_steps)
    slots = [start, start]
    while not search.done:
        if interrupted:
            search = StrongWolfe.restored(json.loads(json.dumps(search.state())))
        there, gradient = f(x + search.t * d)
        moves = search.tell(there, float((gradient * d)[None].sum(dim=1)[0]))
        if moves.slot_to_slot is not None:
            source, target = moves.slot_to_slot
            slots[target] = slots[source]
        if moves.new_to is not None:
            slots[moves.new_to] = gradient
        if moves.start_to is not None:
            slots[moves.start_to] = start
        f.seen |= {
            name
            for name, happened in (
                ("zoom", search.zooming),
                ("stuck", search.stuck),
                ("slot to slot", moves.slot_to_slot is not None),
                ("end of the bracket walk", moves.start_to is not None),
                ("five steps", search.steps > 5),
                ("back to the start", search.ends[search.low] == 0),
                ("out of steps", search.steps >= most_steps > 0),
            )
            if happened
        }
    low = search.low
    return Found(search.ends[low], search.values[low], slots[low].tolist(), search.evaluations)


def descent(f: Wiggle, seed: int, *, reach: float) -> tuple[Tensor, Tensor]:
    """A point and a descent direction, not the steepest."""
    generator = np.random.default_rng([seed, 1])
    x = torch.as_tensor(generator.uniform(-4, 4, 3))
    _, gradient = f(x)
    return x, -reach * torch.as_tensor(generator.uniform(0.1, 1, 3)) * gradient


searches = {
    "seed": st.integers(0, 10**6),
    "roughness": st.sampled_from([0.0, 0.3, 3.0]),
    "reach": st.sampled_from([1e-3, 1.0, 30.0]),
    "t": st.sampled_from([1e-3, 0.1, 1.0, 20.0]),
    "most_steps": st.integers(0, 30),
}


def compare(seed: int, roughness: float, reach: float, t: float, most_steps: int) -> set[str]:
    f = Wiggle.drawn(seed, roughness=roughness)
    x, d = descent(f, seed, reach=reach)
    expected = torch_search(f, x, d, t, most_steps)
    assert our_search(f, x, d, t, most_steps) == expected
    assert our_search(f, x, d, t, most_steps, interrupted=True) == expected
    return f.seen


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(**searches)
def test_every_decision_is_torchs(seed: int, roughness: float, reach: float, t: float, most_steps: int) -> None:
    """Step, value, gradient and evaluations; and the same again, the search written as JSON and read at every step."""
    compare(seed, roughness, reach, t, most_steps)


def test_a_fixed_sample_goes_through_every_branch() -> None:
    seen = set()
    for seed in range(300):
        reach, t, most_steps = [(1.0, 20.0, 25), (30.0, 1.0, 30), (1.0, 1e-3, 3), (30.0, 1e-3, 2)][seed % 4]
        seen |= compare(seed, 3.0, reach, t, most_steps)
    assert seen == {
        "zoom",
        "stuck",
        "slot to slot",
        "end of the bracket walk",
        "back to the start",
        "out of steps",
        "five steps",
    }


@pytest.mark.parametrize("seed", range(8))
def test_the_accepted_point_meets_both_wolfe_conditions(seed: int) -> None:
    """Nocedal and Wright, equation 3.7, with c1 = 1e-4 and c2 = 0.9, checked from the outside."""
    f = Wiggle.drawn(seed, roughness=0.3)
    x, d = descent(f, seed, reach=1.0)
    found = our_search(f, x, d, 1e-3, 25)
    value, gradient = f(x)
    slope = float(gradient @ d)
    assert found.value <= value + 1e-4 * found.t * slope
    assert abs(float(torch.tensor(found.gradient, dtype=d.dtype) @ d)) <= -0.9 * slope
    assert math.isclose(f(x + found.t * d)[0], found.value, rel_tol=1e-15)


@pytest.mark.parametrize(
    ("value", "slope", "accepted"),
    [
        (-1.1e-4, -0.5, True),
        (-0.9e-4, -0.5, False),  # sufficient decrease: c1 = 1e-4
        (-0.5, -0.899, True),
        (-0.5, -0.901, False),
        (-0.5, 0.899, True),
        (-0.5, 0.901, False),  # curvature: c2 = 0.9
    ],
)
def test_where_the_conditions_bite(value: float, slope: float, accepted: bool) -> None:
    """From value 0 with slope -1, a first step of 1."""
    search = StrongWolfe(0.0, -1.0, 1.0, reach=1.0)
    search.tell(value, slope)
    assert search.done is accepted


def test_a_search_ends_after_25_steps() -> None:
    """Down an endless slope each step is ten times the last: the farthest point is taken."""
    search = StrongWolfe(0.0, -1.0, 1.0, reach=1.0)
    while not search.done:
        search.tell(-search.t, -1.0)
    assert (search.steps, search.evaluations) == (25, 26)
    assert search.ends[search.low] == pytest.approx(1e25, rel=1e-6)
