"""The reference: the equation as it is written, differentiated by nested autograd.

Networks are evaluated one after another with their own weights, derivatives to the coordinates by
`torch.autograd.grad`: no channels, no chain rule by hand. It is far slower than the other engines, which are checked
against it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy as sp
import torch
from numpy.typing import NDArray
from sympy.core.function import AppliedUndef
from torch import Tensor
from torch.nn import functional

from ..equations.channels import Channels, TorchCall
from ..equations.torch_code import torch_function
from ..networks import Layers
from ..problems import PointSet, Problem
from ..problems.columns import Array
from .base import Engine, Evaluation, Picks

Function = Callable[[Tensor], Tensor]

SAVED_ARRAYS = 40  # that nested derivatives hold for each hidden unit over all points (measured)

# torch's functions with torch's derivatives, independent of the formulas in `activations`
FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {"tanh": torch.tanh, "sin": torch.sin, "silu": functional.silu, "gelu": functional.gelu}
)


class ReferenceEngine(Engine):
    """An engine that evaluates each member at its own shape, with every derivative from `torch.autograd.grad`."""

    name = "reference"

    @classmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        return max(sum(layers[1:-1]) for layers in members) * points * itemsize * SAVED_ARRAYS

    def evaluate(self, parameters: Tensor, rows: Sequence[int] | None = None, picks: Picks | None = None) -> Evaluation:
        losses, terms, gradients = [], [], []
        for position, row in enumerate(range(len(self.problems)) if rows is None else rows):
            problem = self.problems[row]
            place = torch.as_tensor(self.layout.positions(row), device=self.device)
            flat = parameters[position, place].detach().requires_grad_()
            values = []
            for group, points in enumerate(problem.point_sets):
                chosen = picks[position][group] if picks is not None else None
                values.append(self._terms(flat, row, group, points if chosen is None else _picked(points, chosen)))
            term = torch.cat(values)
            loss = (self.as_tensor(problem.weights) * term).sum()
            (gradient,) = torch.autograd.grad(loss, flat)
            losses.append(loss.detach())
            terms.append(term.detach())
            gradients.append(torch.zeros_like(parameters[position]).index_copy(0, place, gradient))
        return Evaluation(torch.stack(losses), torch.stack(terms), torch.stack(gradients))

    def renew(self, row: int, problem: Problem) -> None:
        self.problems[row] = problem

    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        with torch.no_grad():
            return torch.stack(
                [
                    self._network(self._flat(p, row), row, self.as_tensor(self.problems[row].field_points.inputs)).T
                    for p, row in zip(parameters, rows, strict=True)
                ]
            )

    def channels(self, parameters: Tensor, row: int, channels: Channels, points: PointSet, columns: Array) -> Tensor:
        coefficients = self.as_tensor(columns)
        place = [torch.zeros_like(self.as_tensor(points.inputs[:, 0])) for _ in self.problems[row].seeds]
        with torch.enable_grad():
            place = [coordinate.requires_grad_() for coordinate in place]
            outputs = self._fields(self._flat(parameters, row), row, points, place)
            found = [_channels(output, channels, place, coefficients) for output in outputs]
        return torch.stack(found).detach()

    def residuals(self, parameters: Tensor, row: int, group: int, points: PointSet) -> Tensor:
        return self._residuals(self._flat(parameters, row), row, group, points).detach()

    def _flat(self, parameters: Tensor, row: int) -> Tensor:
        return parameters[torch.as_tensor(self.layout.positions(row), device=self.device)]

    def _network(self, flat: Tensor, row: int, inputs: Tensor) -> Tensor:
        """Return the raw outputs [points, outputs] at network inputs [points, inputs]."""
        return _network(flat, self.layout.members[row], inputs, FUNCTIONS[self.activation])

    def _fields(self, flat: Tensor, row: int, points: PointSet, place: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the raw outputs, each [points], as functions of the physical coordinates `place`."""
        shifts = torch.stack([coordinate - coordinate.detach() for coordinate in place], dim=1)  # 0, with slopes of 1
        inputs, count = self.as_tensor(points.inputs), len(place)
        moved = inputs[:, :count] + self.as_tensor(self.problems[row].seeds) * shifts
        return self._network(flat, row, torch.cat([moved, inputs[:, count:]], dim=1)).unbind(1)

    def _residuals(self, flat: Tensor, row: int, group: int, points: PointSet) -> Tensor:
        """Return the residuals [residuals, points] as a group is written."""
        problem = self.problems[row]
        record = problem.groups[group]
        named = {str(symbol): self.as_tensor(value) for symbol, value in problem.symbol_values().items()}
        named |= {name: self.as_tensor(values) for name, values in points.values.items()}
        with torch.enable_grad():
            place = {c.symbol: named[c.symbol].detach().clone().requires_grad_() for c in problem.coordinates}
            fields = self._fields(flat, row, points, list(place.values()))
            written = _Written(named | place, place, dict(zip(record.fields, fields, strict=True)))
            values = [written.value(residual) for residual in record.written]
            return torch.stack([self.as_tensor(value).expand(len(points.inputs)) for value in values])

    def _terms(self, flat: Tensor, row: int, group: int, points: PointSet) -> Tensor:
        residuals = self._residuals(flat, row, group, points)
        if self.problems[row].groups[group].is_coupled:
            matrix = self.as_tensor(self.problems[row].coupling.toarray())
            return (residuals * (residuals @ matrix)).sum(dim=1) / 2
        if self.problems[row].loss_form == "mean_square":
            return residuals.square().mean(dim=1)
        return torch.linalg.vector_norm(residuals, dim=1)


class _Written:
    """Values of expressions of fields and their derivatives, at points with values by the names of symbols."""

    def __init__(self, named: Mapping[str, Tensor], place: Mapping[str, Tensor], fields: Mapping[Any, Tensor]) -> None:
        self._named, self._place = named, place
        self._known: dict[Any, Tensor] = dict(fields)  # by expression, for derivatives by expression and variables

    def value(self, expression: Any) -> Any:
        leaves = _leaves(expression)
        (found,) = torch_function(leaves, (expression,))(*[self._leaf(leaf) for leaf in leaves])
        return found

    def _leaf(self, leaf: Any) -> Tensor:
        if leaf.is_Symbol:
            return self._named[leaf.name]
        if isinstance(leaf, sp.Derivative):
            return self._derivative(leaf.expr, tuple(leaf.variables))
        return self._known[leaf]

    def _derivative(self, expression: Any, variables: tuple[Any, ...]) -> Tensor:
        if not variables:
            return self._leaf(expression) if expression in self._known else self.value(expression)
        if (expression, variables) not in self._known:
            before = self._derivative(expression, variables[:-1])
            self._known[expression, variables] = _slope(before, self._place[variables[-1].name])
        return self._known[expression, variables]


@functools.lru_cache(maxsize=4096)
def _leaves(expression: Any) -> tuple[Any, ...]:
    """Return the symbols, fields and derivatives that an expression consists of; what is in a derivative is not one."""
    found = set()
    for part in expression.arguments if isinstance(expression, TorchCall) else (expression,):
        walk = sp.preorder_traversal(part)
        for node in walk:
            if isinstance(node, (sp.Symbol, sp.Derivative, AppliedUndef)):
                found.add(node)
                walk.skip()
    return tuple(sorted(found, key=sp.default_sort_key))


def _network(flat: Tensor, layers: Layers, inputs: Tensor, function: Function) -> Tensor:
    activation, start = inputs, 0
    for before, after in itertools.pairwise(layers):
        w = flat[start : start + before * after].view(before, after)
        b = flat[start + before * after : start + (before + 1) * after]
        start += (before + 1) * after
        activation = activation @ w + b
        if start < len(flat):
            activation = function(activation)
    return activation


def _channels(output: Tensor, channels: Channels, place: Sequence[Tensor], columns: Tensor) -> Tensor:
    """Return the channels [channels, points] of one output."""
    firsts = [_slope(output, place[coordinate]) for coordinate in channels.firsts]
    forms = []
    for form in channels.forms:
        total = torch.zeros_like(output)
        for p, q, column in form:
            second = _slope(firsts[p], place[channels.firsts[q]])
            total = total + (second if column is None else columns[column] * second)
        forms.append(total)
    return torch.stack([output, *firsts, *forms])


def _slope(values: Tensor, coordinate: Tensor) -> Tensor:
    """Return d values_i / d coordinate_i for every point i."""
    if not values.requires_grad:
        return torch.zeros_like(coordinate)
    (slope,) = torch.autograd.grad(
        values.sum(), coordinate, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return slope


def _picked(points: PointSet, chosen: NDArray[np.int64]) -> PointSet:
    values = {name: numbers[chosen] for name, numbers in points.values.items()}
    return dataclasses.replace(points, inputs=points.inputs[chosen], values=values)
