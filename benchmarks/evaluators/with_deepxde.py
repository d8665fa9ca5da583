"""DeepXDE with its PyTorch backend: its network, its PDE data, its Jacobian and Hessian, its training step.

DeepXDE's losses are means; the three norms are the custom loss function of its `compile`. The boundary points and the
Gauss points pass through the network in one batch, as its `data.PDE` arranges them.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

os.environ["DDE_BACKEND"] = "pytorch"  # before the import; without it DeepXDE writes a file into the home folder
import deepxde as dde

from ..case import Answers, Array, Case, flatten
from ..equations import EquationCase
from .base import Evaluator


class _OnlyEvaluate(torch.optim.Optimizer):
    """An optimiser that calls the training step's closure and moves nothing."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        self.loss = torch.zeros(())

    def step(self, closure: Any = None) -> Any:
        self.loss = closure()
        return self.loss


class DeepXDEEvaluator(Evaluator):
    """An evaluator by DeepXDE's own training step, one member after the other."""

    def __init__(self, case: Case | EquationCase, *, dtype: str) -> None:
        dde.config.set_default_float(dtype)
        model = _equation_model if isinstance(case, EquationCase) else _strain_model
        self._models = [model(case, member) for member in range(case.members)]  # type: ignore[arg-type]
        self._batch = self._models[0].data.train_next_batch()

    def evaluate(self) -> None:
        for model in self._models:
            model.train_step(*self._batch)

    def answer(self) -> tuple[Array, Array]:
        losses = [float(model.opt.loss.detach()) for model in self._models]
        gradients = [
            flatten(
                [
                    tuple(part.grad.T.double().numpy() for part in (layer.weight, layer.bias))
                    for layer in model.net.linears
                ]
            )
            for model in self._models
        ]
        return np.array(losses), np.stack(gradients)


def _strain_model(case: Case, member: int) -> Any:
    boundary = len(case.lrb) + len(case.btb)
    data = np.stack([np.append(np.zeros(boundary), values) for values in (case.g, case.elocal)], axis=1)

    def equation(inputs: Tensor, u: Tensor, data: Tensor) -> Tensor:
        g, e = data[:, 0:1], data[:, 1:2]
        return u - g * (dde.grad.hessian(u, inputs, i=0, j=0) + dde.grad.hessian(u, inputs, i=1, j=1)) - e

    def slope(axis: int) -> Any:
        return lambda inputs, u, _: dde.grad.jacobian(u, inputs, i=0, j=axis)

    points = dde.data.PDE(
        dde.geometry.Rectangle(case.interior.min(axis=0) - 1, case.interior.max(axis=0) + 1),
        equation,
        [
            dde.icbc.PointSetOperatorBC(case.lrb, np.zeros((len(case.lrb), 1)), slope(0)),
            dde.icbc.PointSetOperatorBC(case.btb, np.zeros((len(case.btb), 1)), slope(1)),
        ],
        anchors=case.interior,
        auxiliary_var_function=lambda inputs: data,
    )
    network = _network(case, member)
    model = dde.Model(points, network)
    weight = float(case.boundary_weight)
    model.compile(
        _OnlyEvaluate(network.parameters()),
        loss=lambda zero, error: torch.linalg.vector_norm(error),
        loss_weights=[1.0, weight, weight],
        verbose=0,
    )
    return model


def _equation_model(case: EquationCase, member: int) -> Any:
    coefficient = float(case.coefficients[member])

    def first(outputs: Tensor, inputs: Tensor, axis: int, output: int = 0) -> Tensor:
        return dde.grad.jacobian(outputs, inputs, i=output, j=axis)

    def second(outputs: Tensor, inputs: Tensor, axis: int, output: int = 0) -> Tensor:
        return dde.grad.hessian(outputs, inputs, component=output, i=axis, j=axis)

    def burgers(inputs: Tensor, u: Tensor) -> Tensor:
        return first(u, inputs, 1) + u * first(u, inputs, 0) - coefficient * second(u, inputs, 0)

    def helmholtz(inputs: Tensor, u: Tensor) -> Tensor:
        source = torch.sin(math.pi * inputs[:, 0:1]) * torch.sin(4 * math.pi * inputs[:, 1:2])
        laplacian = second(u, inputs, 0) + second(u, inputs, 1)
        return laplacian + coefficient**2 * u - (coefficient**2 - 17 * math.pi**2) * source

    def allen_cahn(inputs: Tensor, u: Tensor) -> Tensor:
        return first(u, inputs, 1) - coefficient * second(u, inputs, 0) - 5 * (u - u**3)

    def kovasznay(inputs: Tensor, outputs: Tensor) -> list[Tensor]:
        u, v = outputs[:, 0:1], outputs[:, 1:2]
        slopes = [[first(outputs, inputs, axis, output) for axis in (0, 1)] for output in (0, 1, 2)]
        friction = [second(outputs, inputs, 0, output) + second(outputs, inputs, 1, output) for output in (0, 1)]
        momentum = [
            u * slopes[axis][0] + v * slopes[axis][1] + slopes[2][axis] - friction[axis] / coefficient
            for axis in (0, 1)
        ]
        return [*momentum, slopes[0][0] + slopes[1][1]]

    equations = {"burgers": burgers, "helmholtz": helmholtz, "allen_cahn": allen_cahn, "kovasznay": kovasznay}
    geometry = dde.geometry.Rectangle(case.points.min(axis=0) - 1, case.points.max(axis=0) + 1)
    network = _network(case, member)
    model = dde.Model(dde.data.PDE(geometry, equations[case.name], [], anchors=case.points), network)
    model.compile(_OnlyEvaluate(network.parameters()), loss="MSE", verbose=0)
    return model


def _network(case: Answers, member: int) -> Any:
    network = dde.nn.FNN(list(map(int, case.layers)), "tanh", "Glorot uniform")
    with torch.no_grad():
        for layer, (w, b) in zip(network.linears, case.weights(member), strict=True):
            layer.weight.copy_(torch.as_tensor(w.T))
            layer.bias.copy_(torch.as_tensor(b))
    return network


def build(case: Case | EquationCase, *, name: str, dtype: str, threads: int, engine: str) -> Evaluator:
    """Build an evaluator with DeepXDE on `threads` threads."""
    torch.set_num_threads(threads)
    return DeepXDEEvaluator(case, dtype=dtype)
