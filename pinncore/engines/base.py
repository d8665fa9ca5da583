"""The interface of the engines: from packed parameters to loss, loss terms and gradient."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..activations import activation_of
from ..cuda.first_stage import FirstStage
from ..equations.channels import Channels
from ..equations.torch_code import group_residuals
from ..errors import SettingError
from ..layouts import Layout, PackedLayout
from ..networks import Layers, unflatten
from ..optim import PackedFirstOrder
from ..optim.rows import norms
from ..problems import PointSet, Problem
from ..problems.columns import Array

# for each row the indices of its points in each group; None: all points
Picks = Sequence[Sequence[NDArray[np.int64] | None]]


class Evaluation(NamedTuple):
    """Loss [rows], its unweighted terms [rows, terms] and its gradient [rows, size]."""

    loss: Tensor
    terms: Tensor
    gradient: Tensor


class Engine(abc.ABC):
    """An evaluator of all members of a pack at once; member i has `problems[i]` and layers `layout.members[i]`.

    Members share the problem's class, the structure of its groups, numbers of points and the activation of their hidden
    layers. `allow_tf32` lets matrix products in float32 round to TF32 on devices that have it. Engines know nothing
    about optimisers.
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
        if len({_shape(problem) for problem in problems}) != 1 or len(problems) != len(layout.members):
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
        """Return the memory of one evaluation of a pack, without its points, parameters and optimisers.

        `points` are those of the largest group, for four channels; other numbers of channels count in proportion.
        """

    @abc.abstractmethod
    def evaluate(self, parameters: Tensor, rows: Sequence[int] | None = None, picks: Picks | None = None) -> Evaluation:
        """Return loss, terms and gradient of members `rows` (default: all) at padded parameters [rows, size].

        `picks` chooses points, as many for every row: their mean squares and norms are those of the chosen points.
        """

    @abc.abstractmethod
    def renew(self, row: int, problem: Problem) -> None:
        """Give a member the points of `problem`, as many as before."""

    @abc.abstractmethod
    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        """Return the raw outputs [rows, outputs, points] of members `rows` on their field points.

        Parameters are [rows, size].
        """

    def errors(self, parameters: Tensor, rows: Sequence[int]) -> list[float | None]:
        """Return the relative L2 error of members `rows` on their field points, None where there is no reference.

        Parameters are [rows, size].
        """
        outputs = self.outputs(parameters, rows).double().cpu().numpy()
        return [self.problems[row].error(output) for row, output in zip(rows, outputs, strict=True)]

    def norms(self, gradient: Tensor) -> list[float]:
        """Return the 2-norm of each row of gradients [rows, size]."""
        return norms(gradient)

    def first_step(self, first: PackedFirstOrder, x: Tensor, gradient: Tensor, rows: Sequence[int]) -> Tensor:
        """Return the points [rows, size] of members `rows` after a step of the first stage, given gradients."""
        return first.step(x, gradient, rows)

    @property
    def stage(self) -> FirstStage | None:
        """Return the first stage of all members on the engine's device, None where the host takes every step."""
        return None

    @abc.abstractmethod
    def channels(self, parameters: Tensor, row: int, channels: Channels, points: PointSet, columns: Array) -> Tensor:
        """Return the channels [outputs, channels, points] of one member (parameters [size]) at any points.

        `columns` [columns, points] are those of the group that the channels belong to.
        """

    def residuals(self, parameters: Tensor, row: int, group: int, points: PointSet) -> Tensor:
        """Return the residuals [residuals, points] of a group of one member (parameters [size]) at any points."""
        problem = self.problems[row]
        record, columns = problem.groups[group], problem.group_columns(group, points)
        channels = self.channels(parameters, row, record.channels, points, columns)
        settings = self.as_tensor(problem.group_parameters(group))[:, None]
        with torch.no_grad():
            return group_residuals(
                record, [list(output) for output in channels], list(self.as_tensor(columns)), list(settings)
            )

    def slopes(self, parameters: Tensor, row: int, points: PointSet) -> Array:
        """Return the derivatives [outputs, points, inputs] of the raw outputs to the network's inputs, in float64."""
        activation, slope = points.inputs, None
        sigma = activation_of(self.activation)
        weights = unflatten(self.layout.unpack(parameters, row), self.layout.members[row])
        for w, b in weights[:-1]:
            z = torch.as_tensor(activation @ w + b)
            value = sigma.value(z)
            first = sigma.slopes(z, value).first.numpy()
            activation, slope = value.numpy(), (w if slope is None else slope @ w) * first[:, None, :]
        w, _ = weights[-1]
        last = np.broadcast_to(w, (len(activation), *w.shape)) if slope is None else slope @ w
        return np.ascontiguousarray(last.transpose(2, 0, 1))

    def as_tensor(self, array: ArrayLike) -> Tensor:
        """Return an array in the engine's precision, on its device."""
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            array = array.copy()  # torch has no arrays that cannot be written to
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)


def _shape(problem: Problem) -> tuple[object, ...]:
    groups = tuple((group.terms, group.channels) for group in problem.groups)
    return type(problem), groups, tuple(points.inputs.shape for points in problem.point_sets)


def combine(squares: Tensor, weights: Tensor, averages: Tensor, starts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss [members], terms [members, terms] and the factors [members, groups] of the groups' gradients.

    `squares` are sums of squared residuals [members, terms], `weights` [members, terms], `averages` [members, terms]:
    1/points where the loss is a mean square, 0 where it is a norm, 1/2 of a coupled group, whose `squares` are r' M r;
    `starts` are those of `group_starts`. The factor
    multiplies sum(r dr/dp) of a group with one residual: for a norm weight / ||r|| (0 at r = 0, the subgradient that
    torch takes), for a mean square 2 weight / points. For a group with several it multiplies sum(weight r dr/dp).
    """
    is_norm = averages == 0
    roots = squares.sqrt()
    terms = torch.where(is_norm, roots, squares * averages)
    inverse = torch.where(roots > 0, 1 / torch.where(roots > 0, roots, torch.ones_like(roots)), torch.zeros_like(roots))
    loss = (weights * terms).sum(dim=1)
    slopes = torch.where(is_norm, inverse, 2 * averages)
    factors = [
        slopes[:, low] * weights[:, low] if high - low == 1 else slopes[:, low]
        for low, high in itertools.pairwise(starts)
    ]
    return loss, terms, torch.stack(factors, dim=1)


def group_starts(problem: Problem) -> list[int]:
    """Return the first term of each group, and the number of terms."""
    return [0, *itertools.accumulate(len(group.terms) for group in problem.groups)]


def loss_shape(problems: Sequence[Problem], counts: Sequence[int] = ()) -> tuple[Array, Array]:
    """Return `weights` and `averages` of `combine`, [members, terms], for numbers of points of each group.

    The default is all points.
    """
    weights, averages = [], []
    for problem in problems:
        numbers = counts or [len(points.inputs) for points in problem.point_sets]
        each = [number for number, group in zip(numbers, problem.groups, strict=True) for _ in group.terms]
        weights.append(problem.weights)
        averages.append([_average(problem.loss_form, number) for number in each])
    return np.array(weights, dtype=np.float64), np.array(averages, dtype=np.float64)


def _average(loss_form: str, points: int) -> float:
    return {"mean_square": 1 / points, "norm": 0.0, "energy": 0.5}[loss_form]


def residual_weights(problems: Sequence[Problem], group: int) -> Array:
    """Return the weights [members, residuals] of a group's cotangents: 1 for one residual, which `combine` weights."""
    starts = group_starts(problems[0])
    if starts[group + 1] - starts[group] == 1:
        return np.ones((len(problems), 1))
    return np.array([problem.weights[starts[group] : starts[group + 1]] for problem in problems], dtype=np.float64)
