"""Engine `fused`: loss and gradient of a pack in one compiled pass over the points, on a CPU.

Forward derivatives (a generalised forward Laplacian, Li et al. 2024) and a hand-written reverse pass, blocked so that a
chunk of points never leaves the cache; see `fused_kernels`. The residual is generated code that the pass calls. Each
member is computed at its own shape, in an order that depends on that member only: its numbers are bitwise the same
alone, in any pack and on any number of threads.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..equations.channels import Channels
from ..errors import SettingError
from ..kernels.channels import VECTORS
from ..kernels.residuals import Residual, compiled_residual
from ..kernels.simd import lanes_of
from ..layouts import CompactLayout, Layout
from ..networks import Layers, parameter_count
from ..problems.base import Problem
from ..problems.columns import Array, PointSet
from .base import Engine, Evaluation, Picks, group_starts, loss_shape, residual_weights
from .fused_compiled import compiled_pass, compiled_sums, workspace_size
from .fused_coupled import CoupledPass
from .fused_points import STRETCH_POINTS, ChunkedPoints, Numbers, aligned, stretches


@dataclass(frozen=True)
class _Pass:
    """A compiled pass, and where it finds its channels."""

    run: Callable[..., None]
    channels: int
    slots: NDArray[np.int64]  # [inputs]: the channel that is the derivative to each input, 0 for none
    columns: NDArray[np.int64]  # of the forms' coefficients that are not 1


@dataclass(frozen=True)
class _Group:
    """A group of residuals: how it is computed, and numbers [members, ...]."""

    compiled: _Pass
    residual: Residual
    coefficients: Numbers  # of the equation
    weights: Numbers  # of its residuals, where there are several
    points: ChunkedPoints

    def rows(self, rows: Sequence[int]) -> _Group:
        """Return the group for some members."""
        chosen = list(rows)
        return replace(
            self,
            coefficients=self.coefficients[chosen],
            weights=self.weights[chosen],
            points=self.points.rows(chosen),
        )


@dataclass(frozen=True)
class _Plan:
    """How points of the groups are split into stretches, and how the sums of these are added up."""

    tasks: list[NDArray[np.int64]]  # of each group: start and stop of every stretch
    offsets: list[int]  # of each group: the number of its first stretch
    stretches: int
    groups: NDArray[np.int64]  # as `fused_kernels.reduce` takes them, as the next two
    weights: Array
    averages: Array


class FusedEngine(Engine):
    """A compiled engine for CPUs, with parameters in a `CompactLayout`."""

    name = "fused"

    def __init__(self, problems: Sequence[Problem], layout: Layout, **options: Any) -> None:
        super().__init__(problems, layout, **options)
        if self.device.type != "cpu":
            raise SettingError("engine", self.name, "runs on a CPU only", "Use engine: torch on a GPU, or auto.")
        self._type = np.dtype(np.float32 if self.dtype == torch.float32 else np.float64)
        self._lanes = lanes_of(8 * self._type.itemsize)
        self._chunk, self._reduce = VECTORS * self._lanes, compiled_sums(self._type.name)
        groups, self._coupled = problems[0].groups, None
        if groups[0].is_coupled:
            groups, self._coupled = (), CoupledPass.of(problems, self.activation, self._type, self._chunk)
        self._groups = [self._group(index) for index in range(len(groups))]
        for row in range(len(problems)):
            self._read_points(row)
        self._allocate()

    @classmethod
    def arrange(cls, members: Sequence[Layers], padded: Layers = ()) -> CompactLayout:
        return CompactLayout(tuple(members))

    @classmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        return len(members) * (points // STRETCH_POINTS + 3) * max(map(parameter_count, members)) * itemsize

    def keep(self, rows: Sequence[int]) -> FusedEngine:
        kept = copy.copy(self)
        kept.problems, kept.layout = [self.problems[row] for row in rows], self.layout.keep(rows)
        kept._groups = [group.rows(rows) for group in self._groups]
        kept._coupled = self._coupled and self._coupled.rows(rows)
        kept._allocate()
        return kept

    def renew(self, row: int, problem: Problem) -> None:
        self.problems[row] = problem
        self._read_points(row)

    def evaluate(self, parameters: Tensor, rows: Sequence[int] | None = None, picks: Picks | None = None) -> Evaluation:
        x = np.ascontiguousarray(parameters.detach().numpy())
        members = self._everyone if rows is None else np.array(rows, np.int64)
        if self._coupled:
            return self._evaluate_coupled(self._coupled, x, members)
        chosen = [self._chosen(index, members, picks) for index in range(len(self._groups))]
        plan = self._plan(tuple(points.count for points, _ in chosen))
        squares, gradients = self._sums(len(x), plan.stretches)
        shares = min(torch.get_num_threads(), len(x) * plan.stretches)

        def run(share: int) -> None:
            work = self._workspace(share)
            for group, (points, places), tasks, offset in zip(
                self._groups, chosen, plan.tasks, plan.offsets, strict=True
            ):
                compiled = group.compiled
                compiled.run(
                    *(group.residual.address, x, members, places, self._layers, compiled.slots, self._seeds),
                    *(points.flat_inputs, compiled.columns, points.flat_data, group.coefficients, group.weights),
                    *(points.count, tasks, work, (share - offset * len(x)) % shares, shares, offset),
                    *(squares, gradients, self._nothing),
                )

        _on_threads(run, shares)
        weights, averages = (table if rows is None else table[members] for table in (plan.weights, plan.averages))
        return self._reduced(squares, gradients, plan.groups, weights, averages)

    def _evaluate_coupled(self, coupled: CoupledPass, x: Numbers, members: NDArray[np.int64]) -> Evaluation:
        """Return loss, terms and gradient of members whose loss couples its points, a thread for every member."""
        squares, gradients = self._sums(len(x), 1)
        shares = min(torch.get_num_threads(), len(x))
        slots = np.zeros(self.layout.members[0][0], np.int64)

        def run(share: int) -> None:
            work = self._workspace(share, 1, coupled.chunks)
            fixed = (self._layers, slots, self._seeds, *coupled.arguments())
            coupled.run(x, members, *fixed, work, share, shares, squares, gradients)

        _on_threads(run, shares)
        weights, averages = (np.full((len(x), 1), number) for number in (1.0, 0.5))
        return self._reduced(squares, gradients, np.array([[0, 1, 0, 1]]), weights, averages)

    def _reduced(
        self, squares: Numbers, gradients: Numbers, groups: NDArray[np.int64], weights: Array, averages: Array
    ) -> Evaluation:
        """Return the evaluation from the sums of every stretch, as `fused_kernels.reduce` takes them."""
        members, _, size = gradients.shape
        loss, terms = np.empty(members, self._type), np.empty(weights.shape, self._type)
        gradient = np.empty((members, size), self._type)
        self._reduce(squares, gradients, groups, weights, averages, loss, terms, gradient)
        return Evaluation(torch.from_numpy(loss), torch.from_numpy(terms), torch.from_numpy(gradient))

    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        values = []
        for x, row in zip(parameters, rows, strict=True):
            points = self.problems[row].field_points
            values.append(self.channels(x, row, Channels(), points, np.zeros((0, len(points.inputs))))[:, 0])
        return torch.stack(values)

    def channels(self, parameters: Tensor, row: int, channels: Channels, points: PointSet, columns: Array) -> Tensor:
        x = np.ascontiguousarray(parameters.detach().numpy())[None]
        chunked = ChunkedPoints.empty(
            1, points.inputs.shape[1], len(columns), len(points.inputs), chunk=self._chunk, dtype=self._type
        )
        chunked.write(0, points.inputs.T, columns)
        compiled, layers = self._pass(channels), self.layout.members[row]
        out = aligned((1, layers[-1] * channels.count * chunked.filled), self._type)
        one, number = np.zeros((1, 1), self._type), np.zeros(1, np.int64)
        compiled.run(
            *(0, x, np.full(1, row), number, self._layers, compiled.slots, self._seeds),
            *(chunked.flat_inputs, compiled.columns, chunked.flat_data),
            *(one, one, chunked.count, np.array([[0, chunked.filled]]), self._workspace(0, channels.count)),
            *(0, 1, 0, np.zeros((1, 1, 1)), np.zeros((1, 1, 1), self._type), out),
        )
        shaped = out.reshape(layers[-1], channels.count, chunked.filled)
        return torch.from_numpy(np.ascontiguousarray(shaped[:, :, : chunked.count]))

    def _group(self, index: int) -> _Group:
        """Return a group of residuals, without its points."""
        group, members = self.problems[0].groups[index], len(self.problems)
        if any(problem.groups[index].residuals != group.residuals for problem in self.problems[1:]):
            raise SettingError("members", members, "must share the equation, but for the numbers in it")
        sets = self.problems[0].point_sets[index]
        points = ChunkedPoints.empty(
            *(members, sets.inputs.shape[1], len(group.columns), len(sets.inputs)), chunk=self._chunk, dtype=self._type
        )
        coefficients = np.stack([problem.group_parameters(index) for problem in self.problems])
        weights = residual_weights(self.problems, index)
        return _Group(
            self._pass(group.channels),
            compiled_residual(group, self._type),
            coefficients.astype(self._type),
            weights.astype(self._type),
            points,
        )

    def _pass(self, channels: Channels) -> _Pass:
        slots = np.zeros(self.layout.members[0][0], np.int64)
        for number, coordinate in enumerate(channels.firsts, start=1):
            slots[coordinate] = number
        columns = [column for form in channels.forms for *_, column in form if column is not None]
        run = compiled_pass(channels.kind, self.activation, self._type.name)
        return _Pass(run, channels.count, slots, np.array(columns, np.int64))

    def _read_points(self, row: int) -> None:
        """Write the points of a member, with the data columns of each group."""
        problem = self.problems[row]
        for index, group in enumerate(self._groups):
            points = problem.point_sets[index]
            group.points.write(row, points.inputs.T, problem.group_columns(index, points))

    def _allocate(self) -> None:
        """Prepare what depends on the members, and work arrays."""
        inputs = self.layout.members[0][0]
        self._layers = np.array(self.layout.members, dtype=np.int64)
        self._seeds = np.zeros((len(self.problems), inputs), self._type)
        for seeds, problem in zip(self._seeds, self.problems, strict=True):
            seeds[: len(problem.seeds)] = problem.seeds
        self._everyone, self._nothing = np.arange(len(self.problems)), np.zeros((1, 0), self._type)
        self._widest = max((group.weights.shape[1] for group in self._groups), default=1)
        self._workspaces: dict[tuple[int, int, int], Numbers] = {}
        self._batches: dict[tuple[int, int, int], ChunkedPoints] = {}
        self._sizes: tuple[Numbers, Numbers] | None = None
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def _chosen(
        self, index: int, members: NDArray[np.int64], picks: Picks | None
    ) -> tuple[ChunkedPoints, NDArray[np.int64]]:
        """Return the points of a group and the place of each row among them."""
        points = self._groups[index].points
        first = None if picks is None else picks[0][index]
        if picks is None or first is None:
            return points, members
        key = (index, len(members), len(first))
        if key not in self._batches:
            shape = (len(members), points.inputs.shape[1], points.data.shape[1], len(first))
            self._batches[key] = ChunkedPoints.empty(*shape, chunk=self._chunk, dtype=self._type)
        for row, (member, pick) in enumerate(zip(members, picks, strict=True)):
            chosen = pick[index]
            assert chosen is not None, "every row picks points of the same groups"
            points.pick(member, chosen, self._batches[key], row)
        return self._batches[key], np.arange(len(members))

    def _plan(self, counts: tuple[int, ...]) -> _Plan:
        """Return how `counts` points of the groups are split and summed."""
        if counts not in self._plans:
            tasks = [stretches(-(-count // self._chunk) * self._chunk, self._chunk) for count in counts]
            stops = np.cumsum([len(each) for each in tasks])
            offsets = stops - [len(each) for each in tasks]
            starts = group_starts(self.problems[0])
            groups = np.stack([offsets, stops, starts[:-1], starts[1:]], axis=1)
            weights, averages = loss_shape(self.problems, counts)
            self._plans[counts] = _Plan(tasks, offsets.tolist(), int(stops[-1]), groups, weights, averages)
        return self._plans[counts]

    def _sums(self, rows: int, tasks: int) -> tuple[Numbers, Numbers]:
        """Return room for squares [rows, tasks, residuals] and gradients [rows, tasks, size]."""
        if self._sizes is None or self._sizes[0].shape[:2] != (rows, tasks):
            squares = np.zeros((rows, tasks, self._widest))
            self._sizes = squares, np.zeros((rows, tasks, self.layout.size), self._type)
        return self._sizes

    def _workspace(self, share: int, channels: int = 0, chunks: int = 1) -> Numbers:
        """Return the workspace of a share for `channels` channels (0: the most of all groups) of some chunks."""
        key = share, channels, chunks
        if key not in self._workspaces:
            most = channels or max(group.compiled.channels for group in self._groups)
            needed = max(workspace_size(most, layers, self._lanes, chunks) for layers in self.layout.members)
            self._workspaces[key] = aligned((needed,), self._type)
        return self._workspaces[key]


def _on_threads(run: Callable[[int], None], shares: int) -> None:
    """Call `run` with every share, each on a thread of its own where there are several."""
    if shares == 1:
        run(0)
    else:
        list(_threads(shares).map(run, range(shares)))


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="fused")
