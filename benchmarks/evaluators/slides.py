"""Nested automatic differentiation on an `nn.Module`, as PINN code for PyTorch is usually written.

u_x and u_y are one call of `torch.autograd.grad` on u with `create_graph`, u_xx and u_yy one call each on those; three
norms are added, and `loss.backward()` differentiates all of it. Gauss points and the two boundaries pass through the
network one after the other.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from ..case import Array, Case, flatten
from .base import Evaluator, Trainer
from .on_gpu import wait_for


class Network(nn.Module):
    """Linear layers with tanh between them."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
        self.stack = nn.Sequential(*layers[:-1])

    def forward(self, points: Tensor) -> Tensor:
        """Return u [points, 1] at inputs [points, 2]."""
        output: Tensor = self.stack(points)
        return output

    def linears(self) -> list[nn.Linear]:
        """Return the linear layers in order."""
        return [layer for layer in self.stack if isinstance(layer, nn.Linear)]

    def load(self, weights: list[tuple[Array, Array]]) -> None:
        """Set the weights [(W [in, out], b [out]), ...]."""
        with torch.no_grad():
            for layer, (w, b) in zip(self.linears(), weights, strict=True):
                layer.weight.copy_(torch.as_tensor(w.T))
                layer.bias.copy_(torch.as_tensor(b))


class StrainModel:
    """The network, its points and its loss."""

    def __init__(self, case: Case, dtype: torch.dtype, sizes: list[int] | None = None, *, device: str = "cpu") -> None:
        self.network = Network(sizes or list(map(int, case.layers))).to(dtype).to(device)
        self.interior, self.lrb, self.btb = (
            torch.tensor(points, dtype=dtype, device=device, requires_grad=True)
            for points in (case.interior, case.lrb, case.btb)
        )
        self.g, self.e, self.truth = (
            torch.tensor(values, dtype=dtype, device=device)[:, None] for values in (case.g, case.elocal, case.truth)
        )
        self.weight = float(case.boundary_weight)

    def error(self) -> float:
        """Return the relative L2 error to the true solution."""
        with torch.no_grad():
            return float(torch.norm(self.network(self.interior) - self.truth) / torch.norm(self.truth))

    def loss(self) -> Tensor:
        """Return || u - g (u_xx + u_yy) - e || + w (|| u_x || + || u_y ||)."""
        u = self.network(self.interior)
        slope = _slopes(u, self.interior)
        u_xx = _slopes(slope[:, 0:1], self.interior)[:, 0:1]
        u_yy = _slopes(slope[:, 1:2], self.interior)[:, 1:2]
        residual = u - self.g * (u_xx + u_yy) - self.e
        u_x = _slopes(self.network(self.lrb), self.lrb)[:, 0:1]
        u_y = _slopes(self.network(self.btb), self.btb)[:, 1:2]
        return torch.norm(residual) + self.weight * (torch.norm(u_x) + torch.norm(u_y))


def _slopes(values: Tensor, points: Tensor) -> Tensor:
    """Return d values / d points, itself differentiable."""
    return torch.autograd.grad(
        values, points, grad_outputs=torch.ones_like(values), create_graph=True, retain_graph=True
    )[0]


class SlidesEvaluator(Evaluator):
    """An evaluator of members one after the other, because such code has no packs."""

    def __init__(self, case: Case, *, dtype: str, device: str) -> None:
        self._models, self._device = [], device
        for member in range(case.members):
            model = StrainModel(case, getattr(torch, dtype), device=device)
            model.network.load(case.weights(member))
            self._models.append(model)
        self._losses: list[Tensor] = []

    def evaluate(self) -> None:
        self._losses = []
        for model in self._models:
            model.network.zero_grad()
            loss = model.loss()
            loss.backward()  # type: ignore[no-untyped-call]
            self._losses.append(loss)

    def wait(self) -> None:
        wait_for(self._device)

    def answer(self) -> tuple[Array, Array]:
        gradients = [flatten(_gradients(model.network.linears())) for model in self._models]
        return np.array([float(loss.detach()) for loss in self._losses]), np.stack(gradients)


def _gradients(linears: list[nn.Linear]) -> list[tuple[Array, Array]]:
    gradients = []
    for layer in linears:
        assert layer.weight.grad is not None and layer.bias.grad is not None
        gradients.append((layer.weight.grad.T.double().cpu().numpy(), layer.bias.grad.double().cpu().numpy()))
    return gradients


class SlidesTrainer(Trainer):
    """`torch.optim.Adam` on the first member; there are no packs."""

    def __init__(self, case: Case, *, dtype: str, learning_rate: float, device: str) -> None:
        self._case, self._learning_rate, self._device = case, learning_rate, device
        self._model = StrainModel(case, getattr(torch, dtype), device=device)

    def start(self) -> None:
        self._model.network.load(self._case.weights(0))

    def train(self, epochs: int) -> None:
        train_first_stage(self._model, epochs, self._learning_rate)
        wait_for(self._device)

    def losses(self) -> list[float]:
        return [float(self._model.loss().detach())]


def train_first_stage(model: StrainModel, epochs: int, learning_rate: float) -> None:
    """Train a model by `torch.optim.Adam` from its current weights."""
    adam = torch.optim.Adam(model.network.parameters(), lr=learning_rate)
    for _ in range(epochs):
        adam.zero_grad()
        model.loss().backward()  # type: ignore[no-untyped-call]
        adam.step()


def build(case: Case, *, name: str, dtype: str, threads: int, engine: str, device: str = "cpu") -> Evaluator:
    """Build an evaluator of such code on `threads` threads."""
    torch.set_num_threads(threads)
    return SlidesEvaluator(case, dtype=dtype, device=device)


def build_trainer(case: Case, *, name: str, dtype: str, engine: str, device: str, learning_rate: float) -> Trainer:
    """Build the first stage of such code."""
    return SlidesTrainer(case, dtype=dtype, learning_rate=learning_rate, device=device)
