"""Engine `fused` on a GPU: loss and gradient of a pack by hand-written kernels, and its first stage without the host.

See `pinncore/cuda/network.cuh`. As on a CPU, each member is computed at its own shape, in an order that depends on that
member only: its numbers are bitwise the same alone and in any pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cuda.first_stage import FirstStage, norms, one_step
from ..cuda.limits import blocks_of
from ..cuda.machine import Machine
from ..cuda.nvidia import cuda_machine
from ..cuda.passes import Coupled, Evaluator, GroupTensors, Networks, error_sums, losses
from ..cuda.sources import equation_of, outputs_equation, values_equation
from ..equations.channels import Channels
from ..layouts import CompactLayout, Layout
from ..networks import Layers, parameter_count
from ..optim import PackedFirstOrder
from ..problems import PointSet, Problem
from ..problems.columns import Array
from .base import Evaluation, Picks
from .stacked import Rows, StackedEngine

AFFINE_ERROR = 1e-12  # of physical outputs, relative; what is more is not affine in the network's outputs


class FusedCudaEngine(StackedEngine):
    """A compiled engine for GPUs, with parameters in a `CompactLayout`. Raises `PinnError` where there is none.

    `machine` runs the kernels; default: the GPU `device`.
    """

    name = "fused"

    def __init__(
        self, problems: Sequence[Problem], layout: Layout, *, machine: Machine | None = None, **options: Any
    ) -> None:
        super().__init__(problems, layout, **options)
        self.machine = cuda_machine(self.device) if machine is None else machine
        inputs = layout.members[0][0]
        self._equations = [equation_of(group, inputs) for group in self._groups]

    def like(self, problems: Sequence[Problem], layout: Layout) -> FusedCudaEngine:
        return FusedCudaEngine(
            problems, layout, machine=self.machine, dtype=self.dtype, device=self.device, activation=self.activation
        )

    @classmethod
    def arrange(cls, members: Sequence[Layers], padded: Layers = ()) -> CompactLayout:
        return CompactLayout(tuple(members))

    @classmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        tasks = blocks_of(points) + 2
        return 2 * len(members) * tasks * max(map(parameter_count, members)) * itemsize  # the first stage has its own

    def evaluate(self, parameters: Tensor, rows: Sequence[int] | None = None, picks: Picks | None = None) -> Evaluation:
        if picks is None and (rows is None or list(rows) == list(range(len(self.problems)))):
            evaluator = self._evaluator
        else:
            rows = list(range(len(self.problems)) if rows is None else rows)
            evaluator = self.evaluator(self._chosen(rows) if picks is None else self._picked(rows, picks), rows)
        evaluator.give(parameters)
        evaluator.run()
        return Evaluation(evaluator.loss.clone(), evaluator.terms.clone(), evaluator.gradient.clone())

    def evaluator(self, chosen: Rows, rows: Sequence[int]) -> Evaluator:
        """Return an evaluator of some members."""
        groups = []
        for group, equation, points, members in zip(
            self._groups, self._equations, chosen.points, chosen.members, strict=True
        ):
            columns = points.columns
            if group.is_coupled:
                columns = torch.cat([columns, torch.zeros_like(columns)], dim=1)
            groups.append(GroupTensors(equation, *_contiguous(points.inputs, columns, *members)))
        coupled = None
        if chosen.coupling is not None:
            coupled = Coupled(chosen.coupling.values.contiguous(), chosen.coupling.columns.to(torch.int32).contiguous())
        return Evaluator(self.machine, self._networks(rows), groups, chosen.weights, chosen.averages, coupled)

    @cached_property
    def stage(self) -> FirstStage:
        """Return the first stage of all members."""
        rows = range(len(self.problems))
        errors = self._errors
        return FirstStage(self.evaluator(self._all, rows), None if errors is None else (errors, self._networks(rows)))

    def norms(self, gradient: Tensor) -> list[float]:
        return norms(self.machine, gradient)

    def first_step(self, first: PackedFirstOrder, x: Tensor, gradient: Tensor, rows: Sequence[int]) -> Tensor:
        return one_step(self.machine, first, x, gradient, rows)

    def renew(self, row: int, problem: Problem) -> None:
        super().renew(row, problem)
        for name in ("_evaluator", "_errors", "stage"):
            self.__dict__.pop(name, None)

    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        rows, inputs = list(rows), self._field_inputs[list(rows)].contiguous()
        none = torch.zeros(len(rows), 1, dtype=self.dtype, device=self.device)
        equation = outputs_equation(Channels(), inputs.shape[1], self.layout.members[0][-1])
        return self._forward(parameters, rows, GroupTensors(equation, inputs, inputs, none, none, none))[:, :, 0]

    def channels(self, parameters: Tensor, row: int, channels: Channels, points: PointSet, columns: Array) -> Tensor:
        inputs, seeds = self.as_tensor(points.inputs.T.copy())[None], self.as_tensor(self.problems[row].seeds)[None]
        equation = outputs_equation(channels, inputs.shape[1], self.layout.members[0][-1], len(columns))
        data = self.as_tensor(columns)[None].contiguous()
        return self._forward(parameters[None], [row], GroupTensors(equation, inputs, data, seeds, seeds, seeds))[0]

    def errors(self, parameters: Tensor, rows: Sequence[int]) -> list[float | None]:
        group = self._errors
        if group is None:
            return super().errors(parameters, rows)
        rows = list(rows)
        own = GroupTensors(group.equation, *(tensor[rows].contiguous() for tensor in group[1:]))
        squares, launches = error_sums(self.machine, self._networks(rows), own, parameters.contiguous())
        for launch in launches:
            self.machine.launch(launch)
        (found,) = self.machine.read(squares)
        return [float(np.sqrt(sum(part.flatten().tolist()))) for part in found]

    @cached_property
    def _evaluator(self) -> Evaluator:
        return self.evaluator(self._all, range(len(self.problems)))

    @cached_property
    def _errors(self) -> GroupTensors | None:
        """Return residuals whose sum of squares is the square of `Problem.error`; None where there are none such."""
        columns = []
        for problem in self.problems:
            if problem.solution is None:
                return None
            sizes = np.linalg.norm(problem.solution, axis=1, keepdims=True) * np.sqrt(len(problem.solution))
            points, shape = problem.field_points, problem.solution.shape
            start, one, two = (problem.to_physical(np.full(shape, value), points) for value in (0.0, 1.0, -2.0))
            slope = one - start
            if not np.allclose(start - 2 * slope, two, rtol=AFFINE_ERROR, atol=0) or not sizes.all():
                return None
            parts = (start - problem.solution) / sizes, slope / sizes
            columns.append(np.stack(parts, axis=1).reshape(-1, shape[1]))
        equation = values_equation(self.layout.members[0][0], self.layout.members[0][-1])
        data = torch.as_tensor(np.stack(columns), dtype=torch.float64, device=self.device)
        none = torch.zeros(len(self.problems), 1, dtype=torch.float64, device=self.device)
        return GroupTensors(equation, self._field_inputs.contiguous(), data, none.to(self.dtype), none, none)

    def _forward(self, parameters: Tensor, rows: list[int], group: GroupTensors) -> Tensor:
        """Return the channels [rows, outputs, channels, points] of the outputs."""
        shape = len(rows), group.equation.outputs, group.equation.channels, group.inputs.shape[2]
        outputs = torch.zeros(shape, dtype=self.dtype, device=self.device)
        for launch in losses(self.machine, self._networks(rows), group, outputs=outputs):
            launch.arguments.give(x=parameters.contiguous())
            self.machine.launch(launch)
        return outputs

    def _networks(self, rows: Sequence[int]) -> Networks:
        return Networks([self.layout.members[row] for row in rows], self.layout.size, self.activation, self.dtype)


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)
