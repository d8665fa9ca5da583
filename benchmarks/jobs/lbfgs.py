"""The job of part b: an iteration of L-BFGS without its evaluations, with a number of stored pairs.

Both sides minimise the same convex quadratic from the same point with the same stored pairs. The pairs belong to
another quadratic, a few times steeper: random steps with the exact change of gradient. So each iteration accepts its
first step and goes only part of the way to the minimum, which leaves work for the next one.
"""

from __future__ import annotations

import abc
import copy
import time
import typing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from pinncore.layouts import PackedLayout
from pinncore.networks import parameter_count
from pinncore.optim import LBFGSSettings, PackedLBFGS
from pinncore.optim.memory import Form

from ..evaluators.base import OWN
from .job import Job

AnyForm = Form | typing.Literal["auto"]
FORMS: Final[tuple[Form, ...]] = typing.get_args(Form)
ITERATIONS = 10  # from one restart to the next
STEEPEST, SHARE = (
    30.0,
    (0.2, 0.6),
)  # largest curvature of the pairs (smallest: 1); curvatures of the function as a share of theirs


@dataclass(frozen=True)
class Quadratic:
    """x' diag(curvature) x / 2 for each member, and the pairs of a steeper one."""

    start: Tensor  # [members, size]
    curvature: Tensor  # [members, size]
    steps: Tensor  # [pairs, members, size]
    changes: Tensor  # [pairs, members, size]

    @staticmethod
    def draw(*, members: int, size: int, pairs: int, dtype: torch.dtype) -> Quadratic:
        """Draw a function; its numbers are the same in every process and for any number of members."""
        starts, curvatures, steps, changes = [], [], [], []
        for member in range(members):
            generator = np.random.default_rng([member, size])
            steep = generator.permutation(np.geomspace(1.0, STEEPEST, size))
            curvatures.append(steep * generator.uniform(*SHARE, size))
            starts.append(generator.standard_normal(size))
            steps.append(generator.standard_normal((pairs, size)))
            changes.append(steps[-1] * steep)
        stacked = (np.stack(starts), np.stack(curvatures), np.stack(steps, axis=1), np.stack(changes, axis=1))
        return Quadratic(*(torch.as_tensor(array, dtype=dtype) for array in stacked))

    def padded(self, size: int) -> Quadratic:
        """Return the same function with zeros behind each vector, up to `size`."""
        room = (0, size - self.start.shape[-1])
        pad = torch.nn.functional.pad
        return Quadratic(*(pad(part, room) for part in (self.start, self.curvature, self.steps, self.changes)))

    def evaluate(self, x: Tensor, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Return values [rows] and gradients [rows, size] of some members at [rows, size]."""
        gradient = (self.curvature if len(rows) == len(self.curvature) else self.curvature[rows]) * x
        return (gradient * x).sum(dim=1) / 2, gradient


class LBFGSJob(Job):
    """Restarts of `ITERATIONS` iterations each; the function's own time is subtracted."""

    def __init__(self, function: Quadratic) -> None:
        self.function = function
        self.outside_s = 0.0
        self.direction, self.end = torch.zeros(0), torch.zeros(0)

    @abc.abstractmethod
    def restart(self) -> None:
        """Go back to the state with all pairs stored and the first iteration done."""

    @abc.abstractmethod
    def iterate(self) -> None:
        """Do `ITERATIONS` iterations."""

    def evaluate(self, x: Tensor, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Evaluate the function of some members and count its time separately."""
        started = time.perf_counter()
        values = self.function.evaluate(x, rows)
        self.outside_s += time.perf_counter() - started
        return values

    def facts(self) -> dict[str, Any]:
        """Return the first direction and the last point of member 0, for the comparison of both sides."""
        self.run(1)
        return {"direction": self.direction.tolist(), "end": self.end.tolist()}

    def run(self, amount: int) -> dict[str, Any]:
        """Return the seconds of `amount` iterations, each the average over a restart."""
        seconds = 0.0
        for _ in range(amount):
            self.restart()
            self.outside_s, started = 0.0, time.perf_counter()
            self.iterate()
            seconds += time.perf_counter() - started - self.outside_s
        return {"seconds": seconds / ITERATIONS}


class OwnLBFGS(LBFGSJob):
    """`PackedLBFGS` with one of its forms of memory; rows are longer than a member's `size`, as in any pack."""

    def __init__(self, function: Quadratic, form: AnyForm, *, size: int) -> None:
        super().__init__(function)
        pairs, members = function.steps.shape[:2]
        room = pairs + 2 * ITERATIONS
        settings = LBFGSSettings(iterations=room, history=room, tolerance_grad=0.0, tolerance_change=0.0, memory=form)
        self._rows = list(range(members))
        self._prepared = PackedLBFGS([settings] * members, function.start, [np.arange(size)] * members)
        unused = torch.zeros_like(function.start)
        for steps, changes in zip(function.steps, function.changes, strict=True):
            self._prepared.memory.advance(self._rows, steps, changes, function.start, [0.0] * members, unused)
        self._optimiser = self._prepared
        self._tell(self._rows)  # the first value; the first iteration is then steepest descent
        self._iteration()
        self.direction = self._prepared.direction[0].clone()

    def facts(self) -> dict[str, Any]:
        return {"note": f"form {self._prepared.forms[0]}", **super().facts()}

    def restart(self) -> None:
        self._optimiser = copy.deepcopy(self._prepared)

    def iterate(self) -> None:
        for _ in range(ITERATIONS):
            self._iteration()
        self.end = self._optimiser.x[0]

    def _iteration(self) -> None:
        unfinished = self._rows
        while unfinished:
            accepted = self._tell(unfinished)
            unfinished = [row for row in unfinished if row not in accepted]

    def _tell(self, rows: list[int]) -> list[int]:
        losses, gradient = self.evaluate(self._optimiser.points(rows), rows)
        return self._optimiser.tell(rows, losses.tolist(), gradient)


class TorchLBFGS(LBFGSJob):
    """`torch.optim.LBFGS` on one flat parameter, its lists filled with the pairs."""

    def __init__(self, function: Quadratic) -> None:
        super().__init__(function)
        pairs = len(function.steps)
        self._parameter = torch.nn.Parameter(function.start[0].clone())
        self._optimiser = torch.optim.LBFGS(
            [self._parameter],
            max_iter=1,
            max_eval=10**9,
            history_size=pairs + 2 * ITERATIONS,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        self._optimiser.step(self._closure)  # type: ignore[no-untyped-call]  # steepest descent
        state = self._optimiser.state[self._parameter]
        steps, changes = function.steps[:, 0], function.changes[:, 0]
        state["old_stps"], state["old_dirs"] = list(steps.unbind(0)), list(changes.unbind(0))
        curvatures = (steps * changes).sum(dim=1)
        state["ro"] = list((1.0 / curvatures).unbind(0))
        state["H_diag"] = curvatures[-1] / changes[-1].dot(changes[-1])
        self._point, self._state = self._parameter.detach().clone(), _copy(state)
        self._optimiser.step(self._closure)  # type: ignore[no-untyped-call]
        self.direction = state["d"].clone()
        self._optimiser.param_groups[0]["max_iter"] = ITERATIONS

    def restart(self) -> None:
        with torch.no_grad():
            self._parameter.copy_(self._point)
        self._optimiser.state[self._parameter].update(_copy(self._state))

    def iterate(self) -> None:
        self._optimiser.step(self._closure)  # type: ignore[no-untyped-call]
        self.end = self._parameter.detach()

    def _closure(self) -> Tensor:
        losses, gradient = self.evaluate(self._parameter.detach()[None], [0])
        self._parameter.grad = gradient[0]
        return losses[0]


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Copy the lists and tensors that the optimiser changes in place, but not the pairs, which it only reads."""
    return {
        name: value.copy() if isinstance(value, list) else value.clone() if isinstance(value, Tensor) else value
        for name, value in state.items()
    }


def open_job(
    name: str, threads: int, *, layers: list[int], pairs: int, members: int, dtype: str, form: AnyForm = "auto"
) -> LBFGSJob:
    """Build the job of `pinnsweep`, with a form of memory, or of `torch`, on the drawn function.

    For pinnsweep the rows are as long as in a pack of networks of these layers, with padding.
    """
    torch.set_num_threads(threads)
    sizes = tuple(layers)
    size = parameter_count(sizes)
    function = Quadratic.draw(members=members, size=size, pairs=pairs, dtype=getattr(torch, dtype))
    if name != OWN:
        return TorchLBFGS(function)
    return OwnLBFGS(function.padded(PackedLayout((sizes,)).size), form, size=size)
