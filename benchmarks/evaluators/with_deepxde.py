"""DeepXDE with its PyTorch backend: its network, its PDE data, its Jacobian and Hessian, its training step.

DeepXDE's losses are means; the three norms are the custom loss function of its `compile`. The boundary points and the
Gauss points pass through the network in one batch, as its `data.PDE` arranges them.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

os.environ["DDE_BACKEND"] = "pytorch"  # before the import; without it DeepXDE writes a file into the home folder
import deepxde as dde

from ..case import Array, Case, flatten
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

    def __init__(self, case: Case, *, dtype: str) -> None:
        dde.config.set_default_float(dtype)
        self._models = [_model(case, member) for member in range(case.members)]
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


def _model(case: Case, member: int) -> Any:
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
    network = dde.nn.FNN(list(map(int, case.layers)), "tanh", "Glorot uniform")
    with torch.no_grad():
        for layer, (w, b) in zip(network.linears, case.weights(member), strict=True):
            layer.weight.copy_(torch.as_tensor(w.T))
            layer.bias.copy_(torch.as_tensor(b))
    model = dde.Model(points, network)
    weight = float(case.boundary_weight)
    model.compile(
        _OnlyEvaluate(network.parameters()),
        loss=lambda zero, error: torch.linalg.vector_norm(error),
        loss_weights=[1.0, weight, weight],
        verbose=0,
    )
    return model


def build(case: Case, *, name: str, dtype: str, threads: int, engine: str) -> Evaluator:
    """Build an evaluator with DeepXDE on `threads` threads."""
    torch.set_num_threads(threads)
    return DeepXDEEvaluator(case, dtype=dtype)
