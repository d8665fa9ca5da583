"""Packs by `torch.func`: `vmap` over members of the gradient of a loss whose derivatives are nested `jvp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad_and_value, jvp, vmap

from ..case import Array, Case, flatten
from .base import Evaluator, Trainer
from .on_gpu import wait_for

Weights = list[Tensor]  # W [in, out] and b [out] of every layer in turn


class FunctionalModel:
    """The stacked weights of all members, the points, and loss and gradient of all of them at once."""

    def __init__(self, case: Case, *, dtype: str, device: str) -> None:
        self._case, self._options = case, {"dtype": getattr(torch, dtype), "device": device}
        self._points = [torch.tensor(points, **self._options) for points in (case.interior, case.lrb, case.btb)]
        self._g, self._e = (torch.tensor(values, **self._options) for values in (case.g, case.elocal))
        self._weight, self.device = float(case.boundary_weight), device
        self.evaluate = vmap(grad_and_value(self._loss))

    def start_weights(self) -> Weights:
        """Return the start weights, each [members, ...]."""
        members = [self._case.weights(member) for member in range(self._case.members)]
        arrays = [[array for pair in member for array in pair] for member in members]
        return [torch.tensor(np.stack(each), **self._options) for each in zip(*arrays, strict=True)]

    def _loss(self, weights: Weights) -> Tensor:
        interior, lrb, btb = self._points

        def u(points: Tensor) -> Tensor:
            return network(weights, points)

        u_xx = along(lambda points: along(u, points, 0), interior, 0)
        u_yy = along(lambda points: along(u, points, 1), interior, 1)
        residual = u(interior) - self._g * (u_xx + u_yy) - self._e
        return residual.norm() + self._weight * (along(u, lrb, 0).norm() + along(u, btb, 1).norm())


def network(weights: Weights, points: Tensor) -> Tensor:
    """Return u [points] at inputs [points, 2]."""
    a = points
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        a = torch.tanh(a @ w + b)
    return (a @ weights[-2] + weights[-1])[:, 0]


def along(function: Callable[[Tensor], Tensor], points: Tensor, axis: int) -> Tensor:
    """Return the derivative of a function of points [points, 2] to a coordinate."""
    direction = torch.zeros_like(points)
    direction[:, axis] = 1
    slope: Tensor = jvp(function, (points,), (direction,))[1]
    return slope


class FunctionalEvaluator(Evaluator):
    """An evaluator of a pack in one call."""

    def __init__(self, case: Case, *, dtype: str, device: str) -> None:
        self._model = FunctionalModel(case, dtype=dtype, device=device)
        self._weights = self._model.start_weights()
        self._found: Any = None

    def evaluate(self) -> None:
        self._found = self._model.evaluate(self._weights)

    def wait(self) -> None:
        wait_for(self._model.device)

    def answer(self) -> tuple[Array, Array]:
        gradients, losses = self._found
        arrays = [gradient.double().cpu().numpy() for gradient in gradients]
        layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        flat = [flatten([(w[member], b[member]) for w, b in layers]) for member in range(len(losses))]
        return losses.double().cpu().numpy(), np.stack(flat)


class FunctionalTrainer(Trainer):
    """`torch.optim.Adam` on the stacked weights: each of its operations is elementwise, so members stay apart."""

    def __init__(self, case: Case, *, dtype: str, device: str, learning_rate: float) -> None:
        self._model, self._learning_rate = FunctionalModel(case, dtype=dtype, device=device), learning_rate

    def start(self) -> None:
        self._weights = self._model.start_weights()

    def train(self, epochs: int) -> None:
        adam = torch.optim.Adam(self._weights, lr=self._learning_rate)
        for _ in range(epochs):
            gradients, _ = self._model.evaluate(self._weights)
            for weight, gradient in zip(self._weights, gradients, strict=True):
                weight.grad = gradient
            adam.step()
        wait_for(self._model.device)

    def losses(self) -> list[float]:
        found: list[float] = self._model.evaluate(self._weights)[1].tolist()
        return found


def build(case: Case, *, name: str, dtype: str, threads: int, engine: str, device: str = "cpu") -> Evaluator:
    """Build an evaluator of a pack on `threads` threads."""
    torch.set_num_threads(threads)
    return FunctionalEvaluator(case, dtype=dtype, device=device)


def build_trainer(case: Case, *, name: str, dtype: str, engine: str, device: str, learning_rate: float) -> Trainer:
    """Build the first stage of a pack."""
    return FunctionalTrainer(case, dtype=dtype, device=device, learning_rate=learning_rate)
