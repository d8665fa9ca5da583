"""Random equations: polynomials, sines and exponentials of outputs and their derivatives up to the second order."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import event, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from pinncore import Box, Condition, Problem
from pinncore.engines import Engine, ReferenceEngine, TorchEngine

from .every_kind import assert_same, build_engine

ENGINE = 1e-12  # of the sum of absolute parts
TESTED: tuple[type[Engine], ...] = (TorchEngine,)  # against ReferenceEngine
POINTS = 12
NUMBERS = [sp.Rational(1, 3), sp.Integer(2), sp.Rational(-3, 4), sp.pi / 2, sp.Float(0.7)]


def problem_class(coordinates: str, outputs: str, write: Any) -> type[Problem]:
    """A class of one to three equations, `write(fields, coordinates, settings)`, and a condition on values."""
    limits = {name: (-0.5 - 0.1 * i, 1.0 + 0.2 * i) for i, name in enumerate(coordinates)}

    def equations(self: Any, **given: Any) -> Any:
        fields, axes = [given[name] for name in outputs], [given[name] for name in coordinates]
        written = write(fields, axes, [self.first, self.second])
        return {f"equation_{number}": each for number, each in enumerate(written)}

    def conditions(self: Any, **given: Any) -> Any:
        every = sum(given[name] for name in outputs)
        return [Condition("boundary", every - given[coordinates[0]], on=self.domain.boundary, weight=0.7)]

    names = ["self", *outputs, *coordinates]
    signature = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names])
    for method in (equations, conditions):
        method.__signature__ = signature  # type: ignore[attr-defined]  # a problem is asked for parameters by name
    members: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {"first": float, "second": float},
        "first": 0.5,
        "second": -1.5,
        "coordinates": dict.fromkeys(coordinates, "1"),
        "outputs": dict.fromkeys(outputs, "1"),
        "domain": Box(**limits),
        "equations": equations,
        "conditions": conditions,
    }
    return type("Random", (Problem,), members)


@st.composite
def recipes(draw: Any, fields: int, axes: int) -> Any:
    """A function that writes an expression of fields, coordinates and settings."""
    seconds = list(itertools.combinations_with_replacement(range(axes), 2))
    solution = st.one_of(
        st.builds(lambda o: lambda u, x, s: u[o], st.integers(0, fields - 1)),
        st.builds(lambda o, i: lambda u, x, s: u[o].diff(x[i]), st.integers(0, fields - 1), st.integers(0, axes - 1)),
        st.builds(
            lambda o, pair: lambda u, x, s: u[o].diff(x[pair[0]], x[pair[1]]),
            st.integers(0, fields - 1),
            st.sampled_from(seconds),
        ),
        st.builds(
            lambda o, size: lambda u, x, s: sum((s[0] + size * i) * u[o].diff(x[i], 2) for i in range(axes)),
            st.integers(0, fields - 1),
            st.sampled_from([0, 1]),
        ),
    )
    outside = st.one_of(
        st.builds(lambda i: lambda u, x, s: x[i], st.integers(0, axes - 1)),
        st.builds(lambda i: lambda u, x, s: s[i], st.integers(0, 1)),
        st.builds(lambda number: lambda u, x, s: number, st.sampled_from(NUMBERS)),
    )

    def grown(inner: Any) -> Any:
        return st.one_of(
            st.builds(lambda a, b: lambda u, x, s: a(u, x, s) + b(u, x, s), inner, inner),
            st.builds(lambda a, b: lambda u, x, s: a(u, x, s) * b(u, x, s), inner, inner),
            st.builds(lambda a: lambda u, x, s: sp.sin(a(u, x, s)), inner),
            st.builds(lambda a: lambda u, x, s: sp.exp(sp.sin(a(u, x, s))), inner),
            st.builds(lambda a, n: lambda u, x, s: a(u, x, s) ** n, inner, st.sampled_from([2, 3])),
        )

    return draw(st.recursive(st.one_of(solution, solution, outside), grown, max_leaves=3))


@st.composite
def problems(draw: Any) -> tuple[type[Problem], dict[str, Any]]:
    axes, fields = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    part = recipes(fields, axes)
    parts = draw(st.lists(st.tuples(part, part, part), min_size=1, max_size=3))

    def write(u: Any, x: Any, s: Any) -> list[Any]:
        used = u[0] * s[1] + sum(each.diff(x[0]) for each in u)  # every equation has the solution in it
        return [a(u, x, s) * b(u, x, s) + c(u, x, s) + used for a, b, c in parts]

    settings = {"loss": draw(st.sampled_from(["norm", "mean_square"])), "points_seed": draw(st.integers(0, 99))}
    return problem_class("xyz"[:axes], "uvw"[:fields], write), settings


def gradient_parts(reference: Engine, x: Tensor, row: int) -> Tensor:
    """The mean over points of the absolute gradient of the loss at one point of every group, by parameter."""
    counts = [len(points) for points in reference.problems[row].point_sets]
    total = torch.zeros_like(x[row])
    for point in range(max(counts)):
        picks = [[np.array([point % count]) for count in counts]]
        total += reference.evaluate(x[[row]], [row], picks).gradient[0].abs()
    return total / max(counts)


@pytest.mark.parametrize("kind", TESTED)
@hypothesis_settings(max_examples=25)
@given(
    made=problems(),
    width=st.integers(1, 6),
    depth=st.integers(1, 3),
    activation=st.sampled_from(["tanh", "sin", "silu", "gelu"]),
    seed=st.integers(0, 1000),
)
def test_engines_agree_on_any_equation(
    kind: type[Engine],
    made: tuple[type[Problem], dict[str, Any]],
    width: int,
    depth: int,
    activation: str,
    seed: int,
) -> None:
    problem, settings = made
    members = [
        problem(points=POINTS, condition_points=8, scale_factor=1.0 + i, first=0.5 - i, second=1.5 * i - 1, **settings)
        for i in range(2)
    ]
    event(f"channels: {max(group.channels.count for group in members[0].groups)}")
    options: dict[str, Any] = {"widths": (width, width + 2), "depth": depth, "activation": activation, "seed": seed}
    engine, x = build_engine(kind, members, **options)
    reference, y = build_engine(ReferenceEngine, members, **options)
    found, expected = engine.evaluate(x), reference.evaluate(y)
    assert_same(found.loss, expected.loss, ENGINE, "loss")
    assert_same(found.terms, expected.terms, ENGINE, "terms")
    for row in range(2):
        ours, theirs, parts = (
            torch.from_numpy(e.layout.unpack(values, row))
            for e, values in (
                (engine, found.gradient[row]),
                (reference, expected.gradient[row]),
                (reference, gradient_parts(reference, y, row)),
            )
        )
        assert_same(ours, theirs, ENGINE, f"gradient of member {row}", parts.max())
