"""L-BFGS and related methods with strong Wolfe line search for many members at once, each at its own point.

Nocedal and Wright (2006), algorithm 7.5 (L-BFGS) or 6.1 (BFGS; with the self-scaled Broyden family). Decisions and
tolerances are those of `torch.optim.LBFGS`, so that an L-BFGS member visits the same iterates.

The caller evaluates at `points()` and hands loss and gradient to `tell()`: one batched evaluation advances every member
by one evaluation, wherever it is in its line search. Vectors are stacked [members, size]; decisions need a few numbers
per member (values, slopes, tests), fetched in one transfer.

On a CPU, `rows` computes sums and compiled memories compute directions, so a member's numbers are bitwise the same
alone and in any pack; all else is elementwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .line_search import MOST_STEPS, StrongWolfe
from .memory import Curvature, MemorySpec, Method, checked_form, make_memory
from .rows import absolute_sums, dots
from .second_stage import OWN, SecondStage
from .stop import StopReason


@dataclass(frozen=True)
class LBFGSSettings:
    """One member's L-BFGS; `lr` is the first step of every line search, except the first, which may be shorter.

    `method` is L-BFGS or one of the dense methods without a history: bfgs, ssbfgs, ssbroyden. `memory` is the form in
    which L-BFGS keeps its pairs; all forms are exact. `curvature` says which pairs are kept: those with y's > 1e-10, as
    in torch, or those with y's > eps y'y, which also works where losses are small.
    """

    iterations: int = 2000
    history: int = 50
    lr: float = 1.0
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    max_evaluations: int | None = None
    method: Method = "lbfgs"
    memory: Literal["auto", "two_loop", "compact", "dense"] = "auto"
    curvature: Curvature = "torch"

    def memory_spec(self, size: int, dtype: torch.dtype, device: str) -> MemorySpec:
        """Return the memory of a member of `size` parameters. Raises `SettingError` for a form that it cannot have."""
        form = checked_form(self.memory, self.history, self.iterations, size, dtype, device, self.method)
        return MemorySpec(self.method, form, self.history, self.curvature)


class PackedLBFGS(SecondStage):
    """A second stage with direction, bracket gradients and memory of its own, and line searches as `searches`.

    `positions` are the places of each member's parameters in its row (default: the whole row). Memories have the
    member's own size, and `forms[i]` is the form of each. `batched` memories are for devices other than a CPU.
    """

    of_members = (*SecondStage.of_members, "_specs")
    searches: list[StrongWolfe | None]

    def __init__(
        self,
        settings: Sequence[LBFGSSettings],
        x: Tensor,
        positions: Sequence[NDArray[np.int64]] | None = None,
        *,
        batched: bool | None = None,
    ) -> None:
        super().__init__(settings, x)
        self.direction = torch.zeros_like(x)
        self.slots = torch.zeros(2, *x.shape, dtype=x.dtype, device=x.device)  # gradients at the ends of the bracket
        own = positions if positions is not None else [np.arange(x.shape[1])] * len(settings)
        device = x.device.type
        self._specs = [
            setting.memory_spec(len(places), x.dtype, device)
            for setting, places in zip(self.settings, own, strict=True)
        ]
        self.memory = make_memory(self._specs, own, x, batched=device != "cpu" if batched is None else batched)

    @property
    def forms(self) -> list[str | None]:
        """Return the form of each member's memory: two_loop, compact or dense."""
        return [spec.form for spec in self._specs]

    def points(self, rows: Sequence[int]) -> Tensor:
        place = self._place(rows)
        # before its first value a member has the direction zero and so stays at its start
        t = self._column([search.t if search else 0.0 for search in (self.searches[row] for row in rows)])
        return self.x[place] + t * self.direction[place]

    def tell(
        self,
        rows: Sequence[int],
        losses: Sequence[float],
        gradient: Tensor,
        terms: Sequence[tuple[float, ...]] | None = None,
    ) -> list[int]:
        terms = terms if terms is not None else [()] * len(rows)
        slopes = dots(gradient, self.direction[self._place(rows)])
        fresh: list[int] = []
        searching: list[int] = []
        for index, row in enumerate(rows):
            self.evaluations[row] += 1
            if not math.isfinite(losses[index]) or not math.isfinite(slopes[index]):
                self.stopped[row] = StopReason.NOT_FINITE
            else:
                (fresh if self.searches[row] is None else searching).append(index)
        if fresh:
            self._start(
                [rows[i] for i in fresh],
                [losses[i] for i in fresh],
                [terms[i] for i in fresh],
                gradient[self._place(fresh, len(rows))],
            )
        if not searching:
            return []
        self._advance_searches(
            [rows[i] for i in searching],
            [losses[i] for i in searching],
            [slopes[i] for i in searching],
            [terms[i] for i in searching],
            gradient[self._place(searching, len(rows))],
        )
        accepted = [rows[i] for i in searching if self._searching(rows[i]).done]
        if accepted:
            self._accept(accepted)
        return accepted

    def _start(self, rows: list[int], losses: list[float], terms: list[tuple[float, ...]], gradient: Tensor) -> None:
        """Take the first values and gradients: start with steepest descent, or stop where the start is a minimum."""
        place = self._place(rows)
        self.gradient[place] = gradient
        self.direction[place] = -gradient
        largest, total = gradient.abs().amax(dim=1).tolist(), absolute_sums(gradient)
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
        """Take one step of each line search, then move the gradients of all of them, grouped."""
        evaluated = zip(rows, losses, slopes, terms, strict=True)
        moves = [self._searching(row).tell(loss, slope, term) for row, loss, slope, term in evaluated]
        for source, target in ((0, 1), (1, 0)):
            chosen = [i for i, move in enumerate(moves) if move.slot_to_slot == (source, target)]
            if chosen:
                place = self._place([rows[i] for i in chosen])
                self.slots[target][place] = self.slots[source][place]
        for target in (0, 1):
            chosen = [i for i, move in enumerate(moves) if move.new_to == target]
            if chosen:
                place = self._place([rows[i] for i in chosen])
                self.slots[target][place] = gradient[self._place(chosen, len(rows))]
        chosen = [row for row, move in zip(rows, moves, strict=True) if move.start_to == 0]
        if chosen:
            place = self._place(chosen)
            self.slots[0][place] = self.gradient[place]

    def _accept(self, rows: list[int]) -> None:
        """Move to the accepted points, test for the end, store the pairs and start the next searches."""
        place = self._place(rows)
        searches = [self._searching(row) for row in rows]
        t = [search.ends[search.low] for search in searches]
        step = self._column(t) * self.direction[place]
        following = self._low_gradients(rows, [search.low for search in searches])
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
        keep, chosen = [rows[i] for i in going], self._place(going, len(rows))
        # s'Bs of the quasi-Newton matrix B = H^-1: B s = -t gradient, as s = -t H gradient
        bends = [-t[i] * t[i] * searches[i].slope0 for i in going]
        self.memory.advance(keep, step[chosen], change[chosen], following[chosen], bends, self.direction)
        self._search(keep, [self.settings[row].lr for row in keep])

    def _low_gradients(self, rows: list[int], low: list[int]) -> Tensor:
        """Return the gradients [rows, size] at the better ends of the brackets."""
        if len(set(low)) == 1:
            return self.slots[low[0]][self._place(rows)]
        device = self.x.device
        return self.slots[torch.as_tensor(low, device=device), torch.as_tensor(rows, device=device)]

    def _end(self, row: int, *, peak: float, reach: float, drop: float) -> StopReason | None:
        """Return why a member ends after an iteration, or None, by the tests of torch.optim.LBFGS in their order."""
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
        gradient, direction = self.gradient[place], self.direction[place]
        self.slots[0][place] = gradient
        slopes, reaches = dots(gradient, direction), direction.abs().amax(dim=1).tolist()
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
        assert search is not None, "the member has a first value"
        return search

    def _place(self, rows: Sequence[int], among: int | None = None) -> slice | Tensor:
        """Return an index of `rows`: a slice, which copies nothing, for all of them in order."""
        if len(rows) == (len(self.settings) if among is None else among) and rows == list(range(len(rows))):
            return slice(None)
        return torch.as_tensor(rows, dtype=torch.int64, device=self.x.device)

    def _column(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self.x.dtype, device=self.x.device)[:, None]

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        place = torch.as_tensor(rows, dtype=torch.int64, device=self.x.device)
        self.direction, self.slots = self.direction[place], self.slots[:, place]
        self.memory.keep(rows)

    def state(self, row: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        values, tensors = super().state(row)
        search = self.searches[row]
        values |= {"search": search.state() if search else None, "form": self._specs[row].form}
        tensors |= {"direction": self.direction[row], "slot0": self.slots[0, row], "slot1": self.slots[1, row]}
        return values, tensors | {f"{OWN}{name}": tensor for name, tensor in self.memory.state(row).items()}

    def load(self, row: int, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().load(row, values, tensors)
        self.searches[row] = StrongWolfe.restored(values["search"]) if values["search"] else None
        self.direction[row], self.slots[0, row], self.slots[1, row] = (
            tensors[name] for name in ("direction", "slot0", "slot1")
        )
        self._specs[row] = dataclasses.replace(self._specs[row], form=values["form"])
        remembered = {name.removeprefix(OWN): tensor for name, tensor in tensors.items() if name.startswith(OWN)}
        self.memory.load(row, self._specs[row], remembered)
