"""The first stage of a pack without the host: epochs as replays of a graph, results read once a stretch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..optim import PackedFirstOrder
from .arguments import KeepArguments, StepArguments, integers
from .machine import Grid, Launch, Machine
from .passes import Evaluator, GroupTensors, Networks, error_sums, step_grid
from .sources import STEP_THREADS, step_source

MOST_EPOCHS = 1000  # of a stretch, whose coefficients are computed before it
MOST_RECORDS = 256  # of a stretch


class Stretch(NamedTuple):
    """What some epochs gave: parameters, and for each member epochs done, reason of a stop (0: none), first loss.

    `records` [records, members, 3 + terms]: loss, norm of the gradient, error (NaN without reference), terms.
    """

    x: Tensor
    epochs: list[int]
    stopped: list[int]
    first_losses: list[float]
    records: NDArray[np.float64]


def norms(machine: Machine, gradient: Tensor) -> list[float]:
    """Return the 2-norm of each row of gradients [rows, size], summed as in `FirstStage`."""
    arguments = _sums_of(gradient)
    _launch(machine, gradient, arguments)
    (norm,) = machine.read(arguments.kept["norm"])
    return norm.tolist()


def one_step(machine: Machine, first: PackedFirstOrder, x: Tensor, gradient: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the points of the members `rows` after a step, rounded as those of `FirstStage`; `first` follows."""
    rules, constants, coefficients = first.ahead(rows, 1)
    count, device, place = len(rows), x.device, torch.as_tensor(list(rows), device=x.device)
    x, m, v = x.clone(), first.m[place], first.v[place]
    one, arguments = torch.ones(count, dtype=torch.float64, device=device), _sums_of(gradient)
    arguments.give(
        x=x,
        m=m,
        v=v,
        coefficients=torch.from_numpy(coefficients).to(device),
        constants=torch.from_numpy(constants).to(device),
        rules=integers(rules, device),
        epochs=integers([0] * count, device),
        stopped=integers([0] * count, device),
        first_loss=one,
        divergence=one,
    )
    _launch(machine, gradient, arguments)
    first.m[place], first.v[place] = m, v
    return x


def _sums_of(gradient: Tensor) -> StepArguments:
    """Return arguments of the kernel `step` for gradients [rows, size] that are summed already."""
    rows, size = gradient.shape
    loss, norm, terms = torch.zeros(3, rows, dtype=gradient.dtype, device=gradient.device).unbind(0)
    one = torch.ones(rows, dtype=torch.float64, device=gradient.device)
    return StepArguments.of(
        squares=torch.zeros_like(one),
        gradients=gradient.contiguous(),
        groups=integers([0, 1, 0, 1], gradient.device),
        weights=one,
        averages=one / 2,  # the gradient of half the mean of squares is the gradient itself
        loss=loss,
        norm=norm,
        terms_of=terms,
        gradient=torch.empty_like(gradient, memory_format=torch.contiguous_format),
        size=size,
        rows=rows,
        tasks=1,
        widest=1,
        terms=1,
        group_count=1,
    )


def _launch(machine: Machine, like: Tensor, arguments: StepArguments) -> None:
    source, grid = step_source(str(like.dtype).removeprefix("torch.")), step_grid(len(like), 1, 1)
    machine.launch(machine.prepared(source, "step", grid, arguments, contracts=False))


class FirstStage:
    """Epochs of all members of an evaluator. `errors`: residuals of the error at the field points, if it has any."""

    def __init__(self, evaluator: Evaluator, errors: tuple[GroupTensors, Networks] | None) -> None:
        self._evaluator, self._machine = evaluator, evaluator.machine
        rows, size = evaluator.gradient.shape
        dtype, device = evaluator.networks.dtype, self._machine.device
        self._x, self._m, self._v = (torch.zeros(rows, size, dtype=dtype, device=device) for _ in range(3))
        self._coefficients = torch.zeros(MOST_EPOCHS, rows, 4, dtype=dtype, device=device)
        self._constants = torch.zeros(rows, 3, dtype=dtype, device=device)
        self._rules, self._epochs, self._stopped, self._slots = torch.zeros(
            4, rows, dtype=torch.int32, device=device
        ).unbind(0)
        self._first_losses, self._divergence = torch.zeros(2, rows, dtype=torch.float64, device=device).unbind(0)
        terms = evaluator.terms.shape[1]
        self._records = torch.zeros(MOST_RECORDS, rows, 3 + terms, dtype=torch.float64, device=device)
        evaluator.sums.arguments.give(
            x=self._x,
            m=self._m,
            v=self._v,
            coefficients=self._coefficients,
            constants=self._constants,
            rules=self._rules,
            epochs=self._epochs,
            stopped=self._stopped,
            first_loss=self._first_losses,
            divergence=self._divergence,
        )
        evaluator.give(self._x)
        self._errors: list[Launch] = []
        squares = None
        if errors is not None:
            group, networks = errors
            squares, self._errors = error_sums(self._machine, networks, group, self._x)
        self._keep = self._keep_launch(squares)

    def run(
        self,
        x: Tensor,
        first: PackedFirstOrder,
        count: int,
        records: Sequence[int],
        first_losses: Sequence[float],
        divergence: Sequence[float],
    ) -> Stretch:
        """Train `count` epochs from parameters [members, size]; the moments and steps of `first` follow.

        `records` are the epochs of the stretch, counted from 0, before whose step a record is taken.
        """
        rules, constants, coefficients = first.ahead(range(len(first.steps)), count)
        for tensor, values in (
            (self._x, x),
            (self._m, first.m),
            (self._v, first.v),
            (self._coefficients[:count], torch.from_numpy(coefficients)),
            (self._constants, torch.from_numpy(constants)),
            (self._rules, integers(rules, x.device)),
            (self._first_losses, torch.tensor(first_losses, dtype=torch.float64)),
            (self._divergence, torch.tensor(divergence, dtype=torch.float64)),
        ):
            tensor.copy_(values)
        for tensor in (self._epochs, self._stopped, self._slots):
            tensor.zero_()
        recorded = set(records)
        for epoch in range(count):
            (self._recorded_epoch if epoch in recorded else self._epoch)()
        first.m, first.v = self._m.clone(), self._v.clone()
        epochs, stopped, losses, taken = self._machine.read(
            self._epochs, self._stopped, self._first_losses, self._records[: len(recorded)]
        )
        return Stretch(self._x.clone(), epochs.tolist(), stopped.tolist(), losses.tolist(), taken.numpy())

    @cached_property
    def _epoch(self) -> Callable[[], None]:
        return self._machine.graph(self._evaluator.run)

    @cached_property
    def _recorded_epoch(self) -> Callable[[], None]:
        def work() -> None:
            for launch in self._errors:
                self._machine.launch(launch)
            self._evaluator.run()
            self._machine.launch(self._keep)

        return self._machine.graph(work)

    def _keep_launch(self, squares: Tensor | None) -> Launch:
        evaluator = self._evaluator
        rows, terms = evaluator.terms.shape
        arguments = KeepArguments.of(
            loss=evaluator.loss,
            norm=evaluator.norm,
            terms_of=evaluator.terms,
            errors=squares,
            records=self._records,
            slots=self._slots,
            rows=rows,
            terms=terms,
            tasks=0 if squares is None else squares.shape[1],
            outputs=0 if squares is None else squares.shape[2],
        )
        source, grid = step_source(evaluator.networks.dtype_name), Grid(STEP_THREADS, -(-rows // STEP_THREADS))
        return self._machine.prepared(source, "keep", grid, arguments, contracts=False)
