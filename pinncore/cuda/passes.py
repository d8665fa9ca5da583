"""The launches of one evaluation of several networks: losses of each group and width, then sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..networks import Layers
from .arguments import LossArguments, PullArguments, StepArguments, integers
from .limits import FEW_BLOCKS, WARPS, blocks_of, fours
from .machine import Grid, Launch, Machine
from .sources import STEP_THREADS, Equation, LossKernel, step_source


class GroupTensors(NamedTuple):
    """A group of residuals of several networks: its equation, and tensors whose first dimension are the networks."""

    equation: Equation
    inputs: Tensor  # [rows, inputs, points]
    columns: Tensor  # [rows, columns, points]
    seeds: Tensor  # [rows, coordinates]
    parameters: Tensor  # [rows, parameters]
    weights: Tensor  # [rows, residuals]


class Coupled(NamedTuple):
    """The matrices M of coupled groups, both [rows, points, entries]."""

    values: Tensor
    places: Tensor


class Networks(NamedTuple):
    """Networks with as many parameters in a row as the layout says, all of one depth."""

    layers: Sequence[Layers]
    size: int
    activation: str
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        """Return the name of the number type."""
        return str(self.dtype).removeprefix("torch.")


class Evaluator:
    """Evaluations of the same networks at the same points, whose tensors stay where they are.

    After `run`: `loss`, `norm` [rows], `terms` [rows, terms], `gradient` [rows, size].
    """

    def __init__(
        self,
        machine: Machine,
        networks: Networks,
        groups: Sequence[GroupTensors],
        weights: Tensor,
        averages: Tensor,
        coupled: Coupled | None = None,
    ) -> None:
        self.machine, self.networks = machine, networks
        rows, size, device = len(networks.layers), networks.size, machine.device
        blocks = [blocks_of(group.inputs.shape[2]) for group in groups]
        tasks, widest = sum(blocks), max(group.equation.residuals for group in groups)
        squares = torch.zeros(rows, tasks, widest, dtype=torch.float64, device=device)
        gradients = torch.zeros(rows, tasks, size, dtype=networks.dtype, device=device)
        self._launches: list[Launch] = []
        table, term = [], 0
        for number, (group, count) in enumerate(zip(groups, blocks, strict=True)):
            task = sum(blocks[:number])
            if coupled is not None:
                self._pull(group, coupled)
            self._launches += losses(
                *(machine, networks, group), squares=squares, gradients=gradients, tasks=(task, tasks, widest)
            )
            table.append([task, task + count, term, term + group.equation.residuals])
            term += group.equation.residuals
        self.loss, self.norm, self.terms, self.gradient = (
            torch.zeros(shape, dtype=networks.dtype, device=device)
            for shape in ((rows,), (rows,), (rows, term), (rows, size))
        )
        self.sums = machine.prepared(
            step_source(networks.dtype_name),
            "step",
            step_grid(rows, len(groups), term),
            StepArguments.of(
                squares=squares,
                gradients=gradients,
                groups=integers(table, device),
                weights=weights.to(torch.float64).contiguous(),
                averages=averages.to(torch.float64).contiguous(),
                loss=self.loss,
                norm=self.norm,
                terms_of=self.terms,
                gradient=self.gradient,
                size=size,
                rows=rows,
                tasks=tasks,
                widest=widest,
                terms=term,
                group_count=len(groups),
            ),
            contracts=False,
        )

    def give(self, x: Tensor) -> None:
        """Evaluate at parameters [rows, size] from now on."""
        x = x.contiguous()
        for launch in self._launches:
            if isinstance(launch.arguments, LossArguments):
                launch.arguments.give(x=x)

    def run(self) -> None:
        """Launch the evaluation, and the step of the first stage where `sums` has been given one."""
        for launch in (*self._launches, self.sums):
            self.machine.launch(launch)

    def _pull(self, group: GroupTensors, coupled: Coupled) -> None:
        """Add the launches that put M r into the last column of a coupled group."""
        rows, _, count = group.inputs.shape
        outputs = torch.zeros(rows, count, dtype=self.networks.dtype, device=self.machine.device)
        self._launches += losses(self.machine, self.networks, group, outputs=outputs)
        arguments = PullArguments.of(
            outputs=outputs,
            columns=group.columns,
            values=coupled.values,
            places=coupled.places,
            count=count,
            entries=coupled.values.shape[2],
        )
        source, grid = step_source(self.networks.dtype_name), Grid(STEP_THREADS, -(-count // STEP_THREADS), rows)
        self._launches.append(self.machine.prepared(source, "pull", grid, arguments, contracts=False))


def step_grid(rows: int, groups: int, terms: int) -> Grid:
    """Return the blocks of the kernel `step`, whose shared memory holds factors, terms, parts of a sum and a flag."""
    return Grid(STEP_THREADS, rows, shared=8 * (groups + terms + STEP_THREADS + 1))


def error_sums(machine: Machine, networks: Networks, group: GroupTensors, x: Tensor) -> tuple[Tensor, list[Launch]]:
    """Return the launches of the error at parameters [rows, size], and where its sums of squares will be.

    These are [rows, tasks, outputs]; their sum is the square of the error.
    """
    shape = len(networks.layers), blocks_of(group.inputs.shape[2]), group.equation.residuals
    squares = torch.zeros(shape, dtype=torch.float64, device=machine.device)
    launches = losses(machine, networks, group, squares=squares, tasks=(0, *shape[1:]))
    for launch in launches:
        launch.arguments.give(x=x)
    return squares, launches


def losses(
    machine: Machine,
    networks: Networks,
    group: GroupTensors,
    *,
    squares: Tensor | None = None,
    gradients: Tensor | None = None,
    outputs: Tensor | None = None,
    tasks: tuple[int, int, int] = (0, 1, 1),
) -> list[Launch]:
    """Return the launches of a group, one for each width: forward only where there is no place for gradients.

    `tasks`: the first task of the group, and the sizes [tasks, terms] of the sums.
    """
    by_width: dict[int, list[int]] = {}
    for row, layers in enumerate(networks.layers):
        by_width.setdefault(fours(layers[1]), []).append(row)
    count, launches = group.inputs.shape[2], []
    blocks, depth = blocks_of(count), len(networks.layers[0]) - 2
    columns_dtype = str(group.columns.dtype).removeprefix("torch.")
    for width, rows in by_width.items():
        kernel = LossKernel(
            group.equation,
            networks.activation,
            networks.dtype_name,
            width,
            goes_back=gradients is not None,
            columns_dtype=columns_dtype,
        )
        kernel = kernel.with_tape(depth, machine.shared_per_block, machine.shared_per_processor // FEW_BLOCKS)
        tape_items = kernel.tape_bytes(depth, blocks * len(rows)) // networks.dtype.itemsize
        arguments = LossArguments.of(
            rows=integers(rows, machine.device),
            widths=integers([networks.layers[row][1] for row in rows], machine.device),
            inputs=group.inputs,
            columns=group.columns,
            seeds=group.seeds,
            parameters=group.parameters,
            weights=group.weights,
            squares=squares,
            gradients=gradients,
            outputs=outputs,
            tape=torch.empty(tape_items, dtype=networks.dtype, device=machine.device),
            size=networks.size,
            depth=depth,
            count=count,
            coordinates=group.seeds.shape[1],
            tasks=tasks[1],
            task=tasks[0],
            terms=tasks[2],
        )
        grid = Grid(32 * WARPS, blocks, len(rows), kernel.shared_bytes(depth))
        launches.append(machine.prepared(kernel.source, "loss", grid, arguments))
    return launches
