"""The interface of the engines: from packed parameters to loss, loss terms and gradient."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..activations import activation_of
from ..errors import SettingError
from ..layouts import Layout, PackedLayout
from ..networks import Layers
from ..problems.base import Array, PointSet, Problem


class Evaluation(NamedTuple):
    """Loss [members], its unweighted terms [members, terms] and its gradient [members, size]."""

    loss: Tensor
    terms: Tensor
    gradient: Tensor


class Engine(abc.ABC):
    """An evaluator of all members of a pack at once; member i has `problems[i]` and layers `layout.members[i]`.

    Members share the problem's class, term names, numbers of points and the activation of their hidden layers.
    `allow_tf32` lets matrix products in float32 round to TF32 on devices that have it. Engines know nothing about
    optimisers.
    """

    name: ClassVar[str]

    def __init__(
        self,
        problems: Sequence[Problem],
        layout: Layout,
        *,
        dtype: torch.dtype,
        device: torch.device,
        activation: str = "tanh",
        allow_tf32: bool = False,
    ) -> None:
        shapes = {(type(p), tuple((s.term, s.inputs.shape) for s in p.point_sets)) for p in problems}
        if len(shapes) != 1 or len(problems) != len(layout.members):
            raise SettingError("members", len(problems), "must share the problem, its terms and point counts")
        self.problems, self.layout, self.dtype, self.device = list(problems), layout, dtype, device
        self.activation, self.allow_tf32 = activation_of(activation).name, allow_tf32

    def keep(self, rows: Sequence[int]) -> Engine:
        """Return this engine for the members `rows` only."""
        return self.like([self.problems[row] for row in rows], self.layout.keep(rows))

    def like(self, problems: Sequence[Problem], layout: Layout) -> Engine:
        """Return an engine with the same precision, device and activation for other members."""
        return type(self)(
            problems,
            layout,
            dtype=self.dtype,
            device=self.device,
            activation=self.activation,
            allow_tf32=self.allow_tf32,
        )

    @classmethod
    def arrange(cls, members: Sequence[Layers], padded: Layers = ()) -> Layout:
        """Return this engine's layout of networks' parameters, padded to `padded` if the engine pads."""
        return PackedLayout(tuple(members), padded)

    @classmethod
    def check_machine(cls) -> None:
        """Raise `SettingError` where this machine lacks what the engine needs."""
        return  # most engines need nothing

    @classmethod
    @abc.abstractmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        """Return the memory of one evaluation of a pack, without its points, parameters and optimisers."""

    @abc.abstractmethod
    def evaluate(self, parameters: Tensor) -> Evaluation:
        """Return loss, terms and gradient at padded parameters [members, size]."""

    @abc.abstractmethod
    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        """Return the outputs [rows, points] of members `rows` on their first point set; parameters [rows, size]."""

    @abc.abstractmethod
    def jets(self, parameters: Tensor, row: int, points: PointSet) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return u, u_x, u_y and lap u, each [points], of one member (parameters [size]) on any points."""

    def as_tensor(self, array: Array) -> Tensor:
        """Return an array in the engine's precision, on its device."""
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)


def combine(norms: Tensor, weights: Tensor, averages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, terms and factors of the terms' gradients from sums of squares.

    Shapes: `norms` sums of squared residuals [members, terms], `weights` [members, terms], `averages` [members, terms]:
    1/points where the loss is a mean square, 0 where it is a norm. The factor multiplies sum(r dr/dp): for a norm
    weight / ||r|| (0 at r = 0, the subgradient that torch takes), for a mean square 2 weight / points.
    """
    is_norm = averages == 0
    roots = norms.sqrt()
    terms = torch.where(is_norm, roots, norms * averages)
    inverse = torch.where(roots > 0, 1 / torch.where(roots > 0, roots, torch.ones_like(roots)), torch.zeros_like(roots))
    factors = weights * torch.where(is_norm, inverse, 2 * averages)
    return (weights * terms).sum(dim=1), terms, factors


def loss_shape(problems: Sequence[Problem]) -> tuple[list[list[float]], list[list[float]]]:
    """Return `weights` and `averages` of `combine` for each member and term."""
    weights = [[points.weight for points in problem.point_sets] for problem in problems]
    averages = [
        [1 / len(points.inputs) if problem.loss_form == "mean_square" else 0.0 for points in problem.point_sets]
        for problem in problems
    ]
    return weights, averages
