"""Nested automatic differentiation, one member at a time: slow and simple, the reference for the other engines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from ..networks import Layers
from ..problems.base import Jet, PointSet, Problem
from .base import Engine, Evaluation

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

    def evaluate(self, parameters: Tensor) -> Evaluation:
        losses, terms, gradients = [], [], []
        for row, problem in enumerate(self.problems):
            place = torch.as_tensor(self.layout.positions(row), device=self.device)
            flat = parameters[row, place].detach().requires_grad_()
            values = [self._term(problem, points, flat, row) for points in problem.point_sets]
            weighted = [points.weight * value for points, value in zip(problem.point_sets, values, strict=True)]
            loss = torch.stack(weighted).sum()
            (gradient,) = torch.autograd.grad(loss, flat)
            losses.append(loss.detach())
            terms.append(torch.stack(values).detach())
            gradients.append(torch.zeros_like(parameters[row]).index_copy(0, place, gradient))
        return Evaluation(torch.stack(losses), torch.stack(terms), torch.stack(gradients))

    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        with torch.no_grad():
            inputs = [self.as_tensor(self.problems[row].point_sets[0].inputs) for row in rows]
            return torch.stack(
                [
                    _network(self._flat(p, row), self.layout.members[row], x, self._function)
                    for p, row, x in zip(parameters, rows, inputs, strict=True)
                ]
            )

    def jets(self, parameters: Tensor, row: int, points: PointSet) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat, inputs = self._flat(parameters, row), self.as_tensor(points.inputs)
        jet = _jet(flat, self.layout.members[row], inputs, self._function)
        return jet.value.detach(), jet.x.detach(), jet.y.detach(), jet.laplacian.detach()

    @property
    def _function(self) -> Function:
        return FUNCTIONS[self.activation]

    def _flat(self, parameters: Tensor, row: int) -> Tensor:
        return parameters[torch.as_tensor(self.layout.positions(row), device=self.device)]

    def _term(self, problem: Problem, points: PointSet, flat: Tensor, row: int) -> Tensor:
        jet = _jet(flat, self.layout.members[row], self.as_tensor(points.inputs), self._function)
        data = {name: self.as_tensor(values) for name, values in points.data.items()}
        residual = problem.residual(points.term, jet, data)
        return residual.square().mean() if problem.loss_form == "mean_square" else torch.linalg.vector_norm(residual)


def _network(flat: Tensor, layers: Layers, inputs: Tensor, function: Function) -> Tensor:
    activation, start = inputs, 0
    for before, after in itertools.pairwise(layers):
        w = flat[start : start + before * after].view(before, after)
        b = flat[start + before * after : start + (before + 1) * after]
        start += (before + 1) * after
        activation = activation @ w + b
        if start < len(flat):
            activation = function(activation)
    return activation[:, 0]


def _jet(flat: Tensor, layers: Layers, inputs: Tensor, function: Function) -> Jet:
    """Return the output and its derivatives to the first two inputs, the others held fixed."""
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        u = _network(flat, layers, inputs, function)
        first = _input_gradient(u, inputs)
        u_x, u_y = first[:, 0], first[:, 1]
        return Jet(u, u_x, u_y, _input_gradient(u_x, inputs)[:, 0] + _input_gradient(u_y, inputs)[:, 1])


def _input_gradient(values: Tensor, inputs: Tensor) -> Tensor:
    """Return d values_i / d inputs_i for every point i."""
    (gradient,) = torch.autograd.grad(values.sum(), inputs, create_graph=True, materialize_grads=True)
    return gradient
