"""Equations in symbols with random points, as the problems that engines are given."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st
from numpy.typing import NDArray

from pinncore.equations.analysis import group
from pinncore.equations.channels import Group
from pinncore.equations.evaluation import evaluated
from pinncore.equations.writing import Written
from pinncore.problems.columns import PointSet

Array = NDArray[np.float64]
Equations = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Model:
    """Groups of equations, each a function of outputs, coordinates and settings that returns residuals by name."""

    coordinates: tuple[str, ...]
    outputs: tuple[str, ...]
    groups: tuple[Equations, ...]
    settings: tuple[str, ...] = ()
    counts: tuple[int, ...] = (150,)  # of the points of each group


def _burgers(u: Any, x: Any, t: Any, nu: Any) -> Mapping[str, Any]:
    return {"momentum": u.diff(t) + u * u.diff(x) - nu * u.diff(x, 2)}


def _kovasznay(u: Any, v: Any, p: Any, x: Any, y: Any, re: Any) -> Mapping[str, Any]:
    def transport(w: Any) -> Any:
        return u * w.diff(x) + v * w.diff(y) - (w.diff(x, 2) + w.diff(y, 2)) / re

    return {
        "momentum_x": transport(u) + p.diff(x),
        "momentum_y": transport(v) + p.diff(y),
        "mass": u.diff(x) + v.diff(y),
    }


def _second(u: Any, *place: Any) -> Mapping[str, Any]:
    """All second derivatives, each in a channel of its own."""
    pairs = list(itertools.combinations_with_replacement(place, 2))
    return {"all": sum(u.diff(a, b) * u.diff(b) * (1 + i) for i, (a, b) in enumerate(pairs)) + u**2}


BURGERS = Model(
    ("x", "t"), ("u",), (_burgers, lambda u, x, t, nu: {"start": u + sp.sin(sp.pi * x)}), ("nu",), (333, 70)
)
KOVASZNAY = Model(
    *(("x", "y"), ("u", "v", "p")),
    (_kovasznay, lambda u, v, p, x, y, re: {"wall": u - sp.cos(y), "flux": v + u * p}),
    *(("re",), (210, 64)),
)
WAVE = Model(
    *(("x", "t"), ("u",)),
    (lambda u, x, t, c: {"wave": u.diff(t, 2) - c**2 * u.diff(x, 2)}, lambda u, x, t, c: {"rest": u.diff(t)}),
    *(("c",), (333, 50)),
)
PLATE = Model(
    ("x", "y"),
    ("u",),
    (
        lambda u, x, y: {"inside": u - (2 + sp.sin(x)) * (u.diff(x, 2) + u.diff(y, 2)) - sp.cos(x * y)},
        lambda u, x, y: {"left": u.diff(x)},
    ),
    counts=(700, 31),
)
FUNCTIONS = Model(
    ("x", "y"),
    ("u",),
    (
        lambda u, x, y: {
            "stiff": sp.exp(u) * (u.diff(x, 2) + u.diff(y, 2)) + sp.Max(u, u.diff(x)) * sp.tanh(u.diff(y)),
            "piecewise": sp.Piecewise((u**2, (u > 0) & (x > 0)), (sp.Abs(u.diff(x)), True)) - sp.sqrt(1 + u**2),
        },
    ),
    counts=(1500,),
)
MODELS = {
    "burgers": BURGERS,
    "kovasznay": KOVASZNAY,
    "wave": WAVE,
    "plate": PLATE,
    "value": Model(("x",), ("u",), (lambda u, x: {"misfit": u**3 - sp.cos(3 * x)},)),
    "functions": FUNCTIONS,
}
RARE_MODELS = {
    "mixed": Model(("x", "y"), ("u",), (lambda u, x, y: {"m": u.diff(x, y) - u**2 * sp.exp(u.diff(x))},)),
    "elliptic": Model(
        ("x", "y"),
        ("u",),
        (lambda u, x, y: {"m": sp.exp(x) * u.diff(x, 2) + u.diff(x, y) / 2 + (1 + y**2) * u.diff(y, 2) + u},),
    ),
    "heat in space": Model(
        ("x", "y", "z", "t"),
        ("u",),
        (lambda u, x, y, z, t: {"m": u.diff(t) - u.diff(x, 2) - u.diff(y, 2) - u.diff(z, 2) + u**3},),
    ),
    "all second derivatives": Model(("x", "y", "z", "t"), ("u", "v"), (lambda u, v, *place: _second(u * v, *place),)),
    "monge-ampere": Model(
        ("x", "y"), ("u",), (lambda u, x, y: {"m": u.diff(x, 2) * u.diff(y, 2) - u.diff(x, y) ** 2 - u},)
    ),
    "two forms": Model(
        ("x", "y", "t"),
        ("u", "v"),
        (
            lambda u, v, x, y, t: {
                "one": u.diff(t) - u.diff(x, 2) - u.diff(y, 2) + v,
                "two": v.diff(t, 2) - x * v.diff(x, 2) - u * v,
            },
        ),
    ),
}


@st.composite
def random_model(draw: Any) -> Model:
    """A sum of products of outputs, their derivatives, functions of them and coordinates; no poles."""
    coordinates = ("x", "y", "z", "t")[: draw(st.integers(1, 2))]
    outputs = ("u", "v", "w")[: draw(st.integers(1, 3))]
    terms = [
        [
            (
                draw(st.integers(0, len(outputs) - 1)),
                draw(st.lists(st.integers(0, len(coordinates) - 1), max_size=2)),
                draw(st.sampled_from(["one", "square", "sin", "exp", "column"])),
            )
            for _ in range(draw(st.integers(1, 3)))
        ]
        for _ in range(draw(st.integers(1, 3)))
    ]

    def equations(*symbols: Any) -> Mapping[str, Any]:
        fields, place = symbols[: len(outputs)], symbols[len(outputs) :]
        shapes = {
            "one": lambda value: value,
            "square": lambda value: value**2,
            "sin": sp.sin,
            "exp": lambda value: sp.exp(-(value**2)),
            "column": lambda value: (2 + sp.sin(place[0])) * value,
        }

        def factor(output: int, axes: list[int], shape: str) -> Any:
            field = fields[output]
            return shapes[shape](field.diff(*(place[axis] for axis in axes)) if axes else field)

        products = [sp.Mul(*(factor(*each) for each in term)) for term in terms]
        return {"sum": sp.Add(*products, *fields), "square": fields[0] - sp.cos(place[0])}

    return Model(coordinates, outputs, (equations,), (), (70,))


@functools.cache
def groups_of(model: Model) -> tuple[Group, ...]:
    """Return the groups as engines are given them."""
    place = tuple(sp.Symbol(name, real=True) for name in model.coordinates)
    settings = tuple(sp.Symbol(name, real=True) for name in model.settings)
    fields = tuple(sp.Function(f"N_{name}", real=True)(*place) for name in model.outputs)
    found = []
    for equations in model.groups:
        terms = equations(*fields, *place, *settings)
        written = Written(terms, tuple(terms), fields, {}, place, place, settings, {})
        found.append(group(written, list(terms), {}))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Instance:
    """A model with numbers: settings, weights, scales and points drawn from `seed`."""

    model: Model
    seed: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    loss_form: str = "mean_square"
    counts: Sequence[int] = ()
    groups: tuple[Group, ...] = field(init=False)
    seeds: Array = field(init=False)
    point_sets: Sequence[PointSet] = field(init=False)
    field_points: PointSet = field(init=False)
    weights: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        model, generator = self.model, np.random.default_rng(self.seed)
        counts = self.counts or model.counts
        names = model.coordinates
        seeds, groups = generator.uniform(0.5, 2.0, len(names)), groups_of(model)

        def points(count: int) -> PointSet:
            inputs = generator.uniform(-1, 1, (count, len(names)))
            return PointSet("points", inputs, dict(zip(names, (inputs / seeds).T, strict=True)))

        vars(self).update(
            groups=groups,
            seeds=seeds,
            coordinates=[SimpleNamespace(symbol=name) for name in names],
            point_sets=[points(count) for count in counts],
            field_points=points(77),
            weights=tuple(generator.uniform(0.1, 2.0, sum(len(each.terms) for each in groups))),
        )

    def symbol_values(self) -> dict[str, float]:
        return dict(self.values)

    def group_columns(self, index: int, points: PointSet) -> Array:
        return evaluated(self.groups[index].columns, {**points.values, **self.values})

    def group_parameters(self, index: int) -> Array:
        found = self.groups[index].parameters
        return evaluated(found, dict(self.values))[:, 0] if found else np.zeros(0)

    def with_points(self, picks: Sequence[NDArray[np.int64]]) -> Instance:
        """The same with some of its points."""
        other = copy.copy(self)
        vars(other)["point_sets"] = [
            PointSet(points.name, points.inputs[pick], {name: each[pick] for name, each in points.values.items()})
            for points, pick in zip(self.point_sets, picks, strict=True)
        ]
        return other
