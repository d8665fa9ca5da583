"""Equations in symbols with random points, as the problems that engines are given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import sympy as sp
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
