"""Packed forward derivatives in PyTorch with a hand-written reverse pass, on any device.

Each layer carries the channels of its group: the activation a, its derivatives a_k to some coordinates, and
second-order forms a_f = sum of c_pq d2a/dx_p dx_q (Li et al. 2024, "forward Laplacian", for any operator). Through a
linear layer all are multiplied by W; through the activation

    a' = sigma(z),  a'_k = sigma'(z) z_k,  a'_f = sigma'(z) z_f + sigma''(z) sum of c_pq z_p z_q.

The first layer starts the derivatives with the factors from coordinates to network inputs, so channels are physical.

Arrays are [members, units, channels, points], points last: the long dimension is contiguous, which doubles the speed
of the small matrix products. On a CPU, points are processed in chunks that stay in the second-level cache; the chunk
depends on the padded width, the channels and the precision only, never on the number of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..activations import Activation, Slopes, activation_of
from ..equations.channels import Channels, Form, Group
from ..equations.torch_code import group_residuals
from ..layouts import PackedLayout
from ..networks import Layers
from ..problems import PointSet, Problem
from ..problems.columns import Array
from .base import Evaluation, Picks, combine
from .precision import matrix_products
from .stacked import Coupling, Rows, StackedEngine, StackedMembers, StackedPoints

CHUNK_BYTES = 200_000  # one array of one member; the best size on two CPUs for 2 x 16 to 3 x 32
CHUNK_POINTS = (128, 2048)
USUAL_CHANNELS = 4  # of the equation of most problems, in estimates of memory
SAVED_ARRAYS = 14  # that an evaluation holds for each hidden unit and point, with the usual channels (measured)

Views = list[tuple[Tensor, Tensor]]  # (W [members, in, out], b [members, out]) of each layer


class Saved(NamedTuple):
    """Numbers of one activation for the reverse pass: z channels, derivatives of sigma, sum c_pq z_p z_q by form."""

    z: Tensor
    slopes: Slopes
    squares: list[Tensor]


class TorchEngine(StackedEngine):
    """An engine that evaluates all members at once by batched matrix products."""

    name = "torch"
    layout: PackedLayout
    chunk_bytes = CHUNK_BYTES
    chunk_points = CHUNK_POINTS

    def __init__(self, problems: Sequence[Problem], layout: PackedLayout, **options: Any) -> None:
        super().__init__(problems, layout, **options)
        self._sigma = activation_of(self.activation)

    @classmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        width, hidden = (max(part(layers[1:-1]) for layers in members) for part in (max, sum))
        chunk = cls._chunk_points(width, itemsize, USUAL_CHANNELS) if device == "cpu" else points
        return len(members) * hidden * min(chunk, points) * itemsize * SAVED_ARRAYS

    @classmethod
    def _chunk_points(cls, width: int, itemsize: int, channels: int) -> int:
        low, high = cls.chunk_points
        return min(max(cls.chunk_bytes // (channels * width * itemsize), low), high)

    @torch.no_grad()
    def evaluate(self, parameters: Tensor, rows: Sequence[int] | None = None, picks: Picks | None = None) -> Evaluation:
        with self._products():
            return self._evaluate(parameters, self._picked(rows, picks) if picks is not None else self._chosen(rows))

    def _evaluate(self, parameters: Tensor, chosen: Rows) -> Evaluation:
        weights = self.layout.views(parameters)
        squares, gradients = [], []
        for group, points, members in zip(self._groups, chosen.points, chosen.members, strict=True):
            gradient = torch.zeros_like(parameters)
            square = torch.zeros_like(members.weights)
            chunks = self._chunks(points, group.channels)
            if chosen.coupling is not None:
                chunks = self._coupled(weights, group, chunks, members, chosen.coupling)
            for chunk in chunks:
                square += self._accumulate(weights, gradient, group, chunk, members)
            squares.append(square)
            gradients.append(gradient)
        loss, terms, factors = combine(torch.cat(squares, dim=1), chosen.weights, chosen.averages, self._starts)
        total = factors[:, 0, None] * gradients[0]
        for index in range(1, len(gradients)):
            total.addcmul_(factors[:, index, None], gradients[index])
        return Evaluation(loss, terms, total)

    def _coupled(
        self,
        weights: Views,
        group: Group,
        chunks: list[StackedPoints],
        members: StackedMembers,
        coupling: Coupling,
    ) -> list[StackedPoints]:
        """Return chunks with M r, which needs the residuals of all of them, as a further column."""
        found = []
        for chunk in chunks:
            output, _, _ = self._forward(weights, group.channels, chunk, members.seeds)
            found.append(_residuals(group, chunk.columns, members, output)[0])
        pulls = torch.split(coupling.product(torch.cat(found, dim=1)), [each.shape[1] for each in found], dim=1)
        return [
            StackedPoints(chunk.inputs, torch.cat([chunk.columns, pull[:, None]], dim=1))
            for chunk, pull in zip(chunks, pulls, strict=True)
        ]

    @torch.no_grad()
    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        activation = self._field_inputs[list(rows)]
        weights = self.layout.views(parameters)
        with self._products():
            for level, (w, b) in enumerate(weights):
                activation = torch.baddbmm(b[:, :, None], w.transpose(1, 2), activation)
                if level < len(weights) - 1:
                    self._sigma.value(activation, out=activation)
        return activation

    @torch.no_grad()
    def channels(self, parameters: Tensor, row: int, channels: Channels, points: PointSet, columns: Array) -> Tensor:
        stacked = StackedPoints(self.as_tensor(points.inputs.T.copy())[None], self.as_tensor(columns)[None])
        seeds = self.as_tensor(self.problems[row].seeds)[None]
        with self._products():
            output, _, _ = self._forward(self.layout.views(parameters[None]), channels, stacked, seeds)
        return output[0]

    def _products(self) -> AbstractContextManager[None]:
        return matrix_products(self.dtype, self.device, allow_tf32=self.allow_tf32)

    def _accumulate(
        self, weights: Views, gradient: Tensor, group: Group, points: StackedPoints, members: StackedMembers
    ) -> Tensor:
        """Return the sums of squared residuals [members, residuals] of a chunk; add sum(w r dr/dp) to `gradient`."""
        gradients, channels = self.layout.views(gradient), group.channels
        output, saved, activations = self._forward(weights, channels, points, members.seeds)
        square, cotangent = residual(group, points, members, output)
        for level in range(len(weights) - 1, 0, -1):
            flat = cotangent.flatten(2)
            gradients[level][0].baddbmm_(activations[level - 1].flatten(2), flat.transpose(1, 2))
            gradients[level][1].add_(cotangent[:, :, 0].sum(dim=2))
            incoming = torch.bmm(weights[level][0], flat).view_as(activations[level - 1])
            cotangent = self._reverse(channels, points.columns, saved[level - 1], incoming)
        w, b = gradients[0]
        w.baddbmm_(points.inputs, cotangent[:, :, 0].transpose(1, 2))
        for k, coordinate in enumerate(channels.firsts, start=1):
            w[:, coordinate] += members.seeds[:, coordinate, None] * cotangent[:, :, k].sum(dim=2)
        b += cotangent[:, :, 0].sum(dim=2)
        return square

    def _reverse(self, channels: Channels, columns: Tensor, saved: Saved, cotangent: Tensor) -> Tensor:
        return activation_reverse(self._sigma, channels, columns, saved, cotangent)

    def _forward(
        self, weights: Views, channels: Channels, points: StackedPoints, seeds: Tensor
    ) -> tuple[Tensor, list[Saved], list[Tensor]]:
        """Return the output channels [members, outputs, channels, points] and numbers for the reverse pass."""
        w, b = weights[0]
        members, units, count = w.shape[0], w.shape[2], points.inputs.shape[2]
        z = torch.empty(members, units, channels.count, count, dtype=self.dtype, device=self.device)
        z[:, :, 0] = torch.baddbmm(b[:, :, None], w.transpose(1, 2), points.inputs)
        for k, coordinate in enumerate(channels.firsts, start=1):
            z[:, :, k] = (seeds[:, coordinate, None] * w[:, coordinate])[:, :, None]
        z[:, :, 1 + len(channels.firsts) :] = 0
        saved, activations = [], []
        for w, b in weights[1:]:
            activation, kept = _activation(self._sigma, channels, points.columns, z)
            saved.append(kept)
            activations.append(activation)
            z = torch.bmm(w.transpose(1, 2), activation.flatten(2)).view(members, -1, channels.count, count)
            z[:, :, 0] += b[:, :, None]
        return z, saved, activations

    def _chunks(self, points: StackedPoints, channels: Channels) -> list[StackedPoints]:
        count = points.inputs.shape[2]
        size = count
        if self.device.type == "cpu":
            size = self._chunk_points(max(self.layout.padded[1:-1], default=1), self.dtype.itemsize, channels.count)
        return [
            StackedPoints(*(table[:, :, start : start + size] for table in points)) for start in range(0, count, size)
        ]


def residual(group: Group, points: StackedPoints, members: StackedMembers, output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of squares [members, residuals] of a group and the cotangent of its output channels.

    The cotangent is sum(w r dr/dchannel) [members, outputs, channels, points]. Of a coupled group, whose last column is
    M r, the sum is r' M r and the cotangent M r dr/dchannel.
    """
    columns, pull = (points.columns[:, :-1], points.columns[:, -1]) if group.is_coupled else (points.columns, None)
    with torch.enable_grad():
        channels = output.detach().requires_grad_()
        residuals = _residuals(group, columns, members, channels)
        squares = (residuals.square() if pull is None else residuals * pull).sum(dim=2).T
        (cotangent,) = torch.autograd.grad((members.weights * squares).sum(), channels)
    return squares.detach(), cotangent if pull is not None else cotangent.mul_(0.5)


def _residuals(group: Group, columns: Tensor, members: StackedMembers, channels: Tensor) -> Tensor:
    """Return the residuals [residuals, members, points] of a group from its output channels."""
    return group_residuals(
        group,
        [list(each.unbind(1)) for each in channels.unbind(1)],
        list(columns.unbind(1)),
        [parameter[:, None] for parameter in members.parameters.unbind(1)],
    )


def _square(form: Form, firsts: Tensor, columns: Tensor) -> Tensor:
    """Return sum of c_pq z_p z_q [members, units, points] from z_k [members, units, firsts, points]."""
    total: Tensor | None = None
    for p, q, column in form:
        left = firsts[:, :, p] if column is None else firsts[:, :, p] * columns[:, None, column]
        total = torch.mul(left, firsts[:, :, q]) if total is None else total.addcmul_(left, firsts[:, :, q])
    assert total is not None, "a form has a term"
    return total


def _activation(sigma: Activation, channels: Channels, columns: Tensor, z: Tensor) -> tuple[Tensor, Saved]:
    """Return the channels of the activation from those of z, both [members, units, channels, points]."""
    out = torch.empty_like(z)
    value = sigma.value(z[:, :, 0], out=out[:, :, 0])
    slopes = sigma.slopes(z[:, :, 0], value)
    first, second = slopes.first, slopes.second
    if channels.count > 1:
        torch.mul(first[:, :, None], z[:, :, 1:], out=out[:, :, 1:])
    start = 1 + len(channels.firsts)
    squares = [_square(form, z[:, :, 1:start], columns) for form in channels.forms]
    for place, square in enumerate(squares, start=start):
        out[:, :, place].addcmul_(second, square)
    return out, Saved(z, slopes, squares)


def activation_reverse(
    sigma: Activation, channels: Channels, columns: Tensor, saved: Saved, cotangent: Tensor
) -> Tensor:
    """Return the cotangent of z from that of the activation's channels, both [members, units, channels, points].

    z:     sigma' a~ + sigma'' (sum a~_k z_k + sum a~_f z_f) + sigma''' sum a~_f c_pq z_p z_q     with ~ the cotangents
    z_p:   sigma' a~_p + sigma'' sum a~_f (c_pq z_q + c_qp z_q)     z_f:   sigma' a~_f
    """
    z, slopes, squares = saved
    first, second = slopes.first, slopes.second
    out = torch.mul(first[:, :, None], cotangent)
    if channels.count == 1:
        return out
    inner = torch.mul(cotangent[:, :, 1], z[:, :, 1])
    for place in range(2, channels.count):
        inner.addcmul_(cotangent[:, :, place], z[:, :, place])
    out[:, :, 0].addcmul_(second, inner)
    if not channels.forms:
        return out
    third = sigma.third(slopes)
    for place, (form, square) in enumerate(zip(channels.forms, squares, strict=True), start=1 + len(channels.firsts)):
        bar = cotangent[:, :, place]
        out[:, :, 0].addcmul_(third, square.mul_(bar))
        twist = torch.mul(second, bar)
        for p, q, column in form:
            factor = twist if column is None else twist * columns[:, None, column]
            out[:, :, 1 + p].addcmul_(factor, z[:, :, 1 + q])
            out[:, :, 1 + q].addcmul_(factor, z[:, :, 1 + p])
    return out
