"""L-BFGS with strong Wolfe line search on many members at once, each at its own place.

Nocedal and Wright (2006), algorithms 7.4 (two-loop recursion) and 7.5. Decisions, tolerances and the curvature test
(a pair is kept where y's > 1e-10) are those of `torch.optim.LBFGS`, so that a member visits the same iterates.

The caller evaluates at `points()` and hands loss and gradient to `tell()`: one batched evaluation moves every member
one evaluation on, wherever it stands in its line search. Vectors are stacked [members, size]; what decides (values,
slopes, tests) is a handful of numbers a member, fetched in one transfer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .line_search import MOST_STEPS, StrongWolfe
from .memory import PairMemory
from .stop import StopReason

CURVATURE_TEST = 1e-10


@dataclass(frozen=True)
class LBFGSSettings:
    """One member's L-BFGS; `lr` is the first step of every line search but the very first one."""

    iterations: int = 2000
    history: int = 50
    lr: float = 1.0
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    max_evaluations: int | None = None


class PackedLBFGS:
    """State of every member: iterate `x`, gradient there, direction, bracket gradients, memory, line search.

    A member is started by its first `tell()`, which gives value and gradient at its start point; from then on
    `searches[i]` is its line search until `stopped[i]` names why it ended, with `x[i]`, `losses[i]` the result.
    """

    def __init__(self, settings: Sequence[LBFGSSettings], x: Tensor) -> None:
        members = len(settings)
        self.settings = list(settings)
        self.x = x.clone()
        self.gradient, self.direction = torch.zeros_like(x), torch.zeros_like(x)
        self.slots = torch.zeros(2, *x.shape, dtype=x.dtype, device=x.device)  # gradients at the ends of the bracket
        self.memory = PairMemory([s.history for s in settings], x)
        self.searches: list[StrongWolfe | None] = [None] * members
        self.stopped: list[StopReason | None] = [None] * members
        self.iterations, self.evaluations = [0] * members, [0] * members
        self.losses, self.terms = [math.nan] * members, [()] * members  # type: list[float], list[tuple[float, ...]]

    def points(self, rows: Sequence[int]) -> Tensor:
        """Where the members `rows` want to be evaluated: [rows, size]."""
        place = self._place(rows)
        steps = [search.t if search else 0.0 for search in (self.searches[row] for row in rows)]
        started = torch.as_tensor([self.searches[row] is not None for row in rows], device=self.x.device)[:, None]
        t = torch.tensor(steps, dtype=self.x.dtype, device=self.x.device)[:, None]
        return torch.where(started, self.x[place] + t * self.direction[place], self.x[place])

    def tell(
        self,
        rows: Sequence[int],
        losses: Sequence[float],
        gradient: Tensor,
        terms: Sequence[tuple[float, ...]] | None = None,
    ) -> list[int]:
        """Take loss and gradient [rows, size] at `points(rows)`; returns the members that completed an iteration.

        Members that have stopped must not be told anything more.
        """
        terms = terms if terms is not None else [()] * len(rows)
        slopes = (gradient * self.direction[self._place(rows)]).sum(dim=1).tolist()
        fresh: list[int] = []
        searching: list[int] = []
        for index, row in enumerate(rows):
            self.evaluations[row] += 1
            if not math.isfinite(losses[index]) or not math.isfinite(slopes[index]):
                self.stopped[row] = StopReason.NOT_FINITE
            else:
                (fresh if self.searches[row] is None else searching).append(index)
        self._advance_searches(
            [rows[i] for i in searching],
            [losses[i] for i in searching],
            [slopes[i] for i in searching],
            [terms[i] for i in searching],
            gradient[self._place(searching)],
        )
        self._start(
            [rows[i] for i in fresh],
            [losses[i] for i in fresh],
            [terms[i] for i in fresh],
            gradient[self._place(fresh)],
        )
        accepted = [rows[i] for i in searching if (search := self.searches[rows[i]]) and search.done]
        self._accept(accepted)
        return accepted

    def _start(self, rows: list[int], losses: list[float], terms: list[tuple[float, ...]], gradient: Tensor) -> None:
        """The first value and gradient: steepest descent, unless the start is already a minimum."""
        if not rows:
            return
        place = self._place(rows)
        self.gradient[place] = gradient
        self.direction[place] = -gradient
        largest, total = gradient.abs().amax(dim=1).tolist(), gradient.abs().sum(dim=1).tolist()
        running, steps = [], []
        for row, loss, term, peak, norm in zip(rows, losses, terms, largest, total, strict=True):
            self.losses[row], self.terms[row] = loss, term
            if peak <= self.settings[row].tolerance_grad:
                self.stopped[row] = StopReason.GRADIENT_TOLERANCE
            elif self.settings[row].iterations == 0:
                self.stopped[row] = StopReason.ITERATIONS_DONE
            else:
                running.append(row)
                steps.append(min(1.0, 1.0 / norm) * self.settings[row].lr)
        self._search(running, steps)

    def _advance_searches(
        self,
        rows: list[int],
        losses: list[float],
        slopes: list[float],
        terms: list[tuple[float, ...]],
        gradient: Tensor,
    ) -> None:
        """One step of each line search, then the gradient moves of all of them, grouped."""
        told = zip(rows, losses, slopes, terms, strict=True)
        moves = [self._searching(row).tell(loss, slope, term) for row, loss, slope, term in told]
        for source, target in ((0, 1), (1, 0)):
            chosen = [i for i, move in enumerate(moves) if move.slot_to_slot == (source, target)]
            place = self._place([rows[i] for i in chosen])
            self.slots[target, place] = self.slots[source, place]
        for target in (0, 1):
            chosen = [i for i, move in enumerate(moves) if move.new_to == target]
            self.slots[target, self._place([rows[i] for i in chosen])] = gradient[self._place(chosen)]
        place = self._place([row for row, move in zip(rows, moves, strict=True) if move.start_to == 0])
        self.slots[0, place] = self.gradient[place]

    def _accept(self, rows: list[int]) -> None:
        """Move to the accepted points, test for the end, store the pairs and start the next searches."""
        if not rows:
            return
        place = self._place(rows)
        searches = [self._searching(row) for row in rows]
        t = torch.tensor([s.ends[s.low] for s in searches], dtype=self.x.dtype, device=self.x.device)[:, None]
        low = torch.as_tensor([s.low for s in searches], device=self.x.device)
        step = t * self.direction[place]
        following = self.slots[low, place]
        change = following - self.gradient[place]
        self.x[place] += step
        self.gradient[place] = following
        tests = torch.stack([following.abs().amax(dim=1), step.abs().amax(dim=1)]).tolist()
        for index, (row, search) in enumerate(zip(rows, searches, strict=True)):
            drop = abs(search.values[search.low] - self.losses[row])
            self.losses[row], self.terms[row] = search.values[search.low], search.terms[search.low]
            self.iterations[row] += 1
            self.stopped[row] = self._end(row, peak=tests[0][index], reach=tests[1][index], drop=drop)
        going = [i for i, row in enumerate(rows) if self.stopped[row] is None]
        if not going:
            return
        keep, chosen = [rows[i] for i in going], self._place(going)
        self.memory.push(keep, step[chosen], change[chosen], smallest=CURVATURE_TEST)
        self.direction[self._place(keep)] = self.memory.direction(keep, following[chosen])
        self._search(keep, [self.settings[row].lr for row in keep])

    def _end(self, row: int, *, peak: float, reach: float, drop: float) -> StopReason | None:
        """The tests of torch.optim.LBFGS after an iteration, in its order."""
        settings = self.settings[row]
        if self.iterations[row] >= settings.iterations:
            return StopReason.ITERATIONS_DONE
        if settings.max_evaluations is not None and self.evaluations[row] >= settings.max_evaluations:
            return StopReason.EVALUATIONS_DONE
        if peak <= settings.tolerance_grad:
            return StopReason.GRADIENT_TOLERANCE
        if reach <= settings.tolerance_change:
            return StopReason.STEP_TOLERANCE
        if drop < settings.tolerance_change:
            return StopReason.LOSS_TOLERANCE
        return None

    def _search(self, rows: list[int], steps: list[float]) -> None:
        """Start line searches along the directions, or stop where the direction does not descend."""
        if not rows:
            return
        place = self._place(rows)
        self.slots[0, place] = self.gradient[place]
        slopes = (self.gradient[place] * self.direction[place]).sum(dim=1).tolist()
        reaches = self.direction[place].abs().amax(dim=1).tolist()
        for row, step, slope, reach in zip(rows, steps, slopes, reaches, strict=True):
            if not math.isfinite(slope):
                self.stopped[row] = StopReason.NOT_FINITE
            elif slope > -self.settings[row].tolerance_change:
                self.stopped[row] = StopReason.NO_DESCENT
            else:
                limit = self.settings[row].max_evaluations
                most = MOST_STEPS if limit is None else min(MOST_STEPS, limit - self.evaluations[row])
                self.searches[row] = StrongWolfe(self.losses[row], slope, step, reach, self.terms[row], most_steps=most)

    def _searching(self, row: int) -> StrongWolfe:
        search = self.searches[row]
        assert search is not None, "the member was told a first value"
        return search

    def _place(self, rows: Sequence[int]) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.int64, device=self.x.device)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all members but `rows`."""
        place = self._place(rows)
        self.x, self.gradient, self.direction = self.x[place], self.gradient[place], self.direction[place]
        self.slots = self.slots[:, place]
        self.memory.keep(rows)
        for name in ("settings", "searches", "stopped", "iterations", "evaluations", "losses", "terms"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])

    def state(self, row: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values and tensors that `load` takes back exactly."""
        search = self.searches[row]
        values = {
            "search": search.state() if search else None,
            "iterations": self.iterations[row],
            "evaluations": self.evaluations[row],
            "loss": self.losses[row],
            "terms": list(self.terms[row]),
        }
        tensors = {
            "x": self.x[row],
            "gradient": self.gradient[row],
            "direction": self.direction[row],
            "slot0": self.slots[0, row],
            "slot1": self.slots[1, row],
            **self.memory.state(row),
        }
        return values, tensors

    def load(self, row: int, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`."""
        self.searches[row] = StrongWolfe.restored(values["search"]) if values["search"] else None
        self.iterations[row], self.evaluations[row] = values["iterations"], values["evaluations"]
        self.losses[row], self.terms[row] = values["loss"], tuple(values["terms"])
        self.x[row], self.gradient[row], self.direction[row] = tensors["x"], tensors["gradient"], tensors["direction"]
        self.slots[0, row], self.slots[1, row] = tensors["slot0"], tensors["slot1"]
        self.memory.load(row, tensors)
