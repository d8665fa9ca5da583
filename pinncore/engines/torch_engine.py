"""Packed forward Laplacian in PyTorch with a hand-written reverse pass, on any device.

Each layer carries four channels, the activation a and its derivatives (a, a_x, a_y, lap a) to the first two inputs
(Li et al. 2024, "forward Laplacian"). Through a linear layer all four are multiplied by W; through the activation

    a' = sigma(z),  a'_x = sigma'(z) z_x,  lap a' = sigma'(z) lap z + sigma''(z) (z_x^2 + z_y^2).

Arrays are [members, units, channels, points], points last: the long dimension is contiguous, which doubles the speed
of the small matrix products. On a CPU, points are processed in chunks that stay in the second-level cache; the chunk
depends on the padded width and the precision only, never on the number of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..activations import Activation, Slopes, activation_of
from ..layouts import PackedLayout
from ..networks import Layers
from ..problems.base import Jet, PointSet, Problem
from .base import Engine, Evaluation, combine, loss_shape
from .precision import matrix_products

CHUNK_BYTES = 200_000  # one array of one member; the best size on two CPUs for 2 x 16 to 3 x 32
CHUNK_POINTS = (128, 2048)
CHANNELS = 4
SAVED_ARRAYS = 14  # that an evaluation holds for each hidden unit and point (measured)

Views = list[tuple[Tensor, Tensor]]  # (W [members, in, out], b [members, out]) of each layer


class _Saved(NamedTuple):
    """Numbers of one activation for the reverse pass: z channels, derivatives of sigma, z_x^2 + z_y^2."""

    z: Tensor
    slopes: Slopes
    square: Tensor


class StackedSet(NamedTuple):
    """One point set of all members: inputs [members, inputs, points], data by name [members, points]."""

    term: str
    inputs: Tensor
    data: dict[str, Tensor]


class TorchEngine(Engine):
    """An engine that evaluates all members at once by batched matrix products."""

    name = "torch"
    layout: PackedLayout
    chunk_bytes = CHUNK_BYTES
    chunk_points = CHUNK_POINTS

    def __init__(self, problems: Sequence[Problem], layout: PackedLayout, **options: Any) -> None:
        super().__init__(problems, layout, **options)
        self._sets = [self._stack([p.point_sets[i] for p in problems]) for i in range(len(problems[0].point_sets))]
        weights, averages = loss_shape(problems)
        self._weights, self._averages = (
            torch.tensor(table, dtype=self.dtype, device=self.device) for table in (weights, averages)
        )
        self._sigma = activation_of(self.activation)

    @classmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        width, hidden = (max(part(layers[1:-1]) for layers in members) for part in (max, sum))
        chunk = cls._chunk_points(width, itemsize) if device == "cpu" else points
        return len(members) * hidden * min(chunk, points) * itemsize * SAVED_ARRAYS

    @classmethod
    def _chunk_points(cls, width: int, itemsize: int) -> int:
        low, high = cls.chunk_points
        return min(max(cls.chunk_bytes // (CHANNELS * width * itemsize), low), high)

    @torch.no_grad()
    def evaluate(self, parameters: Tensor) -> Evaluation:
        with self._products():
            return self._evaluate(parameters)

    def _evaluate(self, parameters: Tensor) -> Evaluation:
        weights = self.layout.views(parameters)
        squares, gradients = [], []
        for points in self._sets:
            gradient = torch.zeros_like(parameters)
            square = torch.zeros_like(parameters[:, 0])
            for chunk in self._chunks(points):
                square += self._accumulate(weights, gradient, chunk)
            squares.append(square)
            gradients.append(gradient)
        loss, terms, factors = combine(torch.stack(squares, dim=1), self._weights, self._averages)
        total = factors[:, 0, None] * gradients[0]
        for term in range(1, len(gradients)):
            total.addcmul_(factors[:, term, None], gradients[term])
        return Evaluation(loss, terms, total)

    @torch.no_grad()
    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        activation = self._sets[0].inputs[list(rows)]
        weights = self.layout.views(parameters)
        with self._products():
            for level, (w, b) in enumerate(weights):
                activation = torch.baddbmm(b[:, :, None], w.transpose(1, 2), activation)
                if level < len(weights) - 1:
                    self._sigma.value(activation, out=activation)
        return activation[:, 0]

    @torch.no_grad()
    def jets(self, parameters: Tensor, row: int, points: PointSet) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with self._products():
            output, _, _ = self._forward(self.layout.views(parameters[None]), self._stack([points]).inputs)
        value, x, y, laplacian = output[0, 0].unbind(0)
        return value, x, y, laplacian

    def _products(self) -> AbstractContextManager[None]:
        return matrix_products(self.dtype, self.device, allow_tf32=self.allow_tf32)

    def _accumulate(self, weights: Views, gradient: Tensor, points: StackedSet) -> Tensor:
        """Return the sum of squared residuals [members] of a chunk; add sum(r dr/dp) to `gradient` [members, size]."""
        gradients = self.layout.views(gradient)
        output, saved, activations = self._forward(weights, points.inputs)
        square, cotangent = self._residual(points, output)
        for level in range(len(weights) - 1, 0, -1):
            flat = cotangent.flatten(2)
            gradients[level][0].baddbmm_(activations[level - 1].flatten(2), flat.transpose(1, 2))
            gradients[level][1].add_(cotangent[:, :, 0].sum(dim=2))
            incoming = torch.bmm(weights[level][0], flat).view_as(activations[level - 1])
            cotangent = _activation_reverse(self._sigma, saved[level - 1], incoming)
        w, b = gradients[0]
        w.baddbmm_(points.inputs, cotangent[:, :, 0].transpose(1, 2))
        w[:, :2] += cotangent[:, :, 1:3].sum(dim=3).transpose(1, 2)
        b += cotangent[:, :, 0].sum(dim=2)
        return square

    def _forward(self, weights: Views, inputs: Tensor) -> tuple[Tensor, list[_Saved], list[Tensor]]:
        """Return the output channels [members, 1, 4, points] and each layer's numbers for the reverse pass."""
        w, b = weights[0]
        members, units, points = w.shape[0], w.shape[2], inputs.shape[2]
        z = torch.empty(members, units, CHANNELS, points, dtype=self.dtype, device=self.device)
        z[:, :, 0] = torch.baddbmm(b[:, :, None], w.transpose(1, 2), inputs)
        z[:, :, 1:3] = w[:, :2].transpose(1, 2)[..., None]
        z[:, :, 3] = 0
        saved, activations = [], []
        for w, b in weights[1:]:
            activation, kept = _activation(self._sigma, z)
            saved.append(kept)
            activations.append(activation)
            z = torch.bmm(w.transpose(1, 2), activation.flatten(2)).view(members, -1, CHANNELS, points)
            z[:, :, 0] += b[:, :, None]
        return z, saved, activations

    def _residual(self, points: StackedSet, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of squares [members] and the cotangent r dr/d(u, u_x, u_y, lap u) [members, 1, 4, points]."""
        with torch.enable_grad():
            channels = output.detach().requires_grad_()
            residual = self.problems[0].residual(points.term, Jet(*channels[:, 0].unbind(1)), points.data)
            square = residual.square().sum(dim=1)
            (cotangent,) = torch.autograd.grad(square.sum(), channels)
        return square.detach(), cotangent.mul_(0.5)

    def _stack(self, sets: Sequence[PointSet]) -> StackedSet:
        inputs = torch.stack([self.as_tensor(points.inputs.T.copy()) for points in sets])
        data = {name: torch.stack([self.as_tensor(points.data[name]) for points in sets]) for name in sets[0].data}
        return StackedSet(sets[0].term, inputs, data)

    def _chunks(self, points: StackedSet) -> list[StackedSet]:
        count = points.inputs.shape[2]
        size = count
        if self.device.type == "cpu":
            size = self._chunk_points(max(self.layout.padded[1:-1], default=1), self.dtype.itemsize)
        return [
            StackedSet(
                points.term,
                points.inputs[:, :, start : start + size],
                {name: values[:, start : start + size] for name, values in points.data.items()},
            )
            for start in range(0, count, size)
        ]


def _activation(sigma: Activation, z: Tensor) -> tuple[Tensor, _Saved]:
    """Return the channels of the activation from those of z, both [members, units, 4, points]."""
    value, x, y, laplacian = z.unbind(2)
    out = torch.empty_like(z)
    slopes = sigma.slopes(value, sigma.value(value, out=out[:, :, 0]))
    first, second = slopes.first, slopes.second
    square = torch.mul(x, x).addcmul_(y, y)
    torch.mul(first, x, out=out[:, :, 1])
    torch.mul(first, y, out=out[:, :, 2])
    torch.mul(first, laplacian, out=out[:, :, 3]).addcmul_(second, square)
    return out, _Saved(z, slopes, square)


def _activation_reverse(sigma: Activation, saved: _Saved, cotangent: Tensor) -> Tensor:
    """Return the cotangent of z from that of the activation's channels, both [members, units, 4, points].

    z:     sigma' a~ + sigma'' (a~_x z_x + a~_y z_y + l~ lap z) + sigma''' l~ (z_x^2 + z_y^2)
    z_x:   sigma' a~_x + 2 sigma'' z_x l~        lap z:  sigma' l~        with ~ the cotangents of a, a_x, a_y, lap a
    """
    z, slopes, square = saved
    first, second = slopes.first, slopes.second
    _, x, y, laplacian = z.unbind(2)
    bar, bar_x, bar_y, bar_laplacian = cotangent.unbind(2)
    out = torch.empty_like(cotangent)
    twist = torch.mul(second, bar_laplacian)
    torch.mul(first, bar_x, out=out[:, :, 1]).addcmul_(twist, x, value=2)
    torch.mul(first, bar_y, out=out[:, :, 2]).addcmul_(twist, y, value=2)
    torch.mul(first, bar_laplacian, out=out[:, :, 3])
    inner = torch.mul(bar_x, x).addcmul_(bar_y, y).addcmul_(bar_laplacian, laplacian)
    third = sigma.third(slopes).mul_(square)
    torch.mul(first, bar, out=out[:, :, 0]).addcmul_(second, inner).addcmul_(third, bar_laplacian)
    return out
