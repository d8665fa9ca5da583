"""Memories of many members in batched torch operations, for devices that run one launch after the other (CUDA).

The formulas are those of the compiled memories, over padded rows: where s and y are zero, so are directions. States
are interchangeable with those of the compiled memories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .broyden import METHODS, broyden_parameters
from .forms import MemorySpec

FIRST_CAPACITY = 16
_Key = tuple[str, bool, str]


class _Stack(ABC):
    """Members with the same form of memory; `rows` are places in this stack."""

    def __init__(self, history: Sequence[int], like: Tensor) -> None:
        self.history, self.like = list(history), like[:, :0]  # shape, dtype and device; no numbers
        self.members, self.size = like.shape

    def push(
        self,
        rows: Sequence[int],
        steps: Tensor,
        changes: Tensor,
        *,
        smallest: float,
        relative: float = 0.0,
        bends: Sequence[float] = (),
    ) -> None:
        """Store the pairs [rows, size] with y's > smallest and y's > relative y'y; skip the others."""
        ys, yy = (changes * steps).sum(dim=1), (changes * changes).sum(dim=1)
        kept = ((ys > smallest) & (ys > relative * yy)).nonzero()[:, 0].tolist()
        if kept:
            chosen = torch.as_tensor(kept, device=steps.device)
            members, kept_bends = [rows[i] for i in kept], [bends[i] for i in kept] if bends else []
            self._store(members, steps[chosen], changes[chosen], ys[chosen], yy[chosen], kept_bends)

    @abstractmethod
    def _store(
        self, rows: list[int], steps: Tensor, changes: Tensor, ys: Tensor, yy: Tensor, bends: list[float]
    ) -> None:
        """Store pairs [rows, size]."""

    @abstractmethod
    def direction(self, rows: Sequence[int], gradient: Tensor) -> Tensor:
        """Return -H g for gradients [rows, size]."""

    @abstractmethod
    def state(self, row: int, own: Tensor) -> dict[str, Tensor]:
        """Return copies of a member's numbers at its own size."""

    @abstractmethod
    def load(self, row: int, own: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all members except `rows`."""
        self.history = [self.history[row] for row in rows]
        self.members = len(rows)
        self.like = self.like[: self.members]

    def _zeros(self, *shape: int) -> Tensor:
        return self.like.new_zeros(shape)

    def _place(self, rows: Sequence[int]) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.int64, device=self.like.device)

    def _spread(self, rows: Sequence[int], values: Tensor) -> Tensor:
        """Return [rows, ...] as [members, ...], zero elsewhere."""
        return self._zeros(self.members, *values.shape[1:]).index_copy_(0, self._place(rows), values)


class PairMemory(_Stack):
    """Rings of pairs: steps s and gradient changes y, [members, capacity, size]; pair k lies at k mod history."""

    def __init__(self, history: Sequence[int], like: Tensor) -> None:
        super().__init__(history, like)
        self._pushed = [0] * self.members  # pairs ever stored
        capacity = min(FIRST_CAPACITY, max(self.history))
        self._steps = self._zeros(self.members, capacity, self.size)
        self._changes = torch.zeros_like(self._steps)
        self._inverse = self._zeros(self.members, capacity)  # rho = 1 / y's
        self._scale = self._zeros(self.members, 1) + 1.0  # gamma = y's / y'y of the newest pair

    def _store(
        self, rows: list[int], steps: Tensor, changes: Tensor, ys: Tensor, yy: Tensor, bends: list[float]
    ) -> None:
        slots = [self._pushed[row] % self.history[row] for row in rows]
        self._grow(max(slots) + 1)
        place, slot = self._place(rows), self._place(slots)
        self._steps[place, slot], self._changes[place, slot] = steps, changes
        self._inverse[place, slot] = 1.0 / ys
        self._scale[place] = (ys / yy)[:, None]
        for row in rows:
            self._pushed[row] += 1

    def direction(self, rows: Sequence[int], gradient: Tensor) -> Tensor:
        """Return -H g by algorithm 7.4 of Nocedal and Wright, with each member's own number of pairs."""
        place = self._place(rows)
        order, mask = self._ages(rows, gradient)
        inverse = self._inverse[place[:, None], order] * mask
        q = -gradient
        alphas: list[Tensor] = [gradient[:, :1]] * order.shape[1]
        for k in range(order.shape[1] - 1, -1, -1):
            slot = order[:, k]
            alphas[k] = (self._steps[place, slot] * q).sum(dim=1, keepdim=True) * inverse[:, k, None]
            q = q - alphas[k] * self._changes[place, slot]
        r = q * self._scale[place]
        for k in range(order.shape[1]):
            slot = order[:, k]
            beta = (self._changes[place, slot] * r).sum(dim=1, keepdim=True) * inverse[:, k, None]
            r = r + self._steps[place, slot] * (alphas[k] - beta)
        return r

    def _ages(self, rows: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return slots by age [rows, most pairs] and a mask, 1 where there is a pair; column k is the k-th oldest.

        Slots past a member's count are arbitrary: the mask's zero removes their result.
        """
        orders = [self._order(row) for row in rows]
        longest = max(map(len, orders))
        slots = [slots + [0] * (longest - len(slots)) for slots in orders]
        used = [[1.0] * len(slots) + [0.0] * (longest - len(slots)) for slots in orders]
        order = torch.as_tensor(slots, dtype=torch.int64, device=like.device).reshape(len(rows), longest)
        return order, torch.tensor(used, dtype=like.dtype, device=like.device).reshape(len(rows), longest)

    def _order(self, row: int) -> list[int]:
        """Return the slots of a member's pairs, oldest first."""
        pushed, history = self._pushed[row], self.history[row]
        return [k % history for k in range(max(0, pushed - history), pushed)]

    def _grow(self, needed: int) -> int:
        """Make room for `needed` pairs and return the number of added rows."""
        capacity = self._steps.shape[1]
        if needed <= capacity:
            return 0
        extra = max(needed, 2 * capacity) - capacity
        blank = self._zeros(self.members, extra, self.size)
        self._steps, self._changes = torch.cat([self._steps, blank], dim=1), torch.cat([self._changes, blank], dim=1)
        self._inverse = torch.cat([self._inverse, self._zeros(self.members, extra)], dim=1)
        return extra

    def state(self, row: int, own: Tensor) -> dict[str, Tensor]:
        held = min(self._pushed[row], self.history[row])
        scalars = torch.tensor([self._scale[row].item(), float(self._pushed[row])], dtype=torch.float64)
        return {
            "steps": self._steps[row, :held][:, own],
            "changes": self._changes[row, :held][:, own],
            "inverse": self._inverse[row, :held].clone(),
            "scalars": scalars,
        }

    def load(self, row: int, own: Tensor, tensors: Mapping[str, Tensor]) -> None:
        scale, pushed = tensors["scalars"].tolist()
        held = len(tensors["inverse"])
        self._grow(held)
        self._steps[row, :held, own] = tensors["steps"]
        self._changes[row, :held, own] = tensors["changes"]
        self._inverse[row, :held] = tensors["inverse"]
        self._scale[row] = scale
        self._pushed[row] = int(pushed)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        place = self._place(rows)
        self._steps, self._changes = self._steps[place], self._changes[place]
        self._inverse, self._scale = self._inverse[place], self._scale[place]
        self._pushed = [self._pushed[row] for row in rows]


class CompactMemory(PairMemory):
    """Rings of pairs and their products s_i'y_j, row j; the direction as in `pairs.advance_compact`."""

    def __init__(self, history: Sequence[int], like: Tensor) -> None:
        super().__init__(history, like)
        capacity = self._steps.shape[1]
        self._products = self._zeros(self.members, capacity, capacity)

    def _store(
        self, rows: list[int], steps: Tensor, changes: Tensor, ys: Tensor, yy: Tensor, bends: list[float]
    ) -> None:
        slots = [self._pushed[row] % self.history[row] for row in rows]
        super()._store(rows, steps, changes, ys, yy, bends)
        place = self._place(rows)
        self._products[place, self._place(slots)] = (self._steps[place] @ changes[:, :, None])[:, :, 0]

    def direction(self, rows: Sequence[int], gradient: Tensor) -> Tensor:
        place = self._place(rows)[:, None]
        order, mask = self._ages(rows, gradient)
        if not order.shape[1]:
            return -gradient
        s, y = self._steps[place, order] * mask[:, :, None], self._changes[place, order] * mask[:, :, None]
        products = self._products[place[:, :, None], order[:, :, None], order[:, None, :]]
        # a missing pair becomes an equation x = 0
        lower = (products * mask[:, :, None] * mask[:, None, :]).tril() + torch.diag_embed(1.0 - mask)
        diagonal = lower.diagonal(dim1=1, dim2=2)[:, :, None]
        gamma = self._scale[place]
        w = torch.linalg.solve_triangular(lower.mT, s @ gradient[:, :, None], upper=True)
        r = gradient[:, :, None] - y.mT @ w
        u = torch.linalg.solve_triangular(lower, diagonal * w - gamma * (y @ r), upper=False)
        return -(gamma * r + s.mT @ u)[:, :, 0]

    def _grow(self, needed: int) -> int:
        extra = super()._grow(needed)
        self._products = torch.nn.functional.pad(self._products, (0, extra, 0, extra))
        return extra

    def state(self, row: int, own: Tensor) -> dict[str, Tensor]:
        held = min(self._pushed[row], self.history[row])
        return super().state(row, own) | {"products": self._products[row, :held, :held].clone()}

    def load(self, row: int, own: Tensor, tensors: Mapping[str, Tensor]) -> None:
        super().load(row, own, tensors)
        held = len(tensors["inverse"])
        self._products[row, :held, :held] = tensors["products"]

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._products = self._products[self._place(rows)]


class DenseMemory(_Stack):
    """H = gamma A + B as in `symmetric.advance_dense`; matrices [members, size, size] from the first pair on."""

    def __init__(self, history: Sequence[int], like: Tensor) -> None:
        super().__init__(history, like)
        self._gamma = self._zeros(self.members, 1) + 1.0
        self._a, self._b = self._zeros(self.members, 0, 0), self._zeros(self.members, 0, 0)

    def _make(self) -> None:
        if not self._a.shape[1]:
            self._a = torch.eye(self.size, dtype=self.like.dtype, device=self.like.device).repeat(self.members, 1, 1)
            self._b = torch.zeros_like(self._a)

    def _store(
        self, rows: list[int], steps: Tensor, changes: Tensor, ys: Tensor, yy: Tensor, bends: list[float]
    ) -> None:
        self._make()
        self._gamma[self._place(rows)] = (ys / yy)[:, None]
        # members without a pair get zeros, which change nothing
        s, y = self._spread(rows, steps)[:, :, None], self._spread(rows, changes)[:, :, None]
        rho = self._spread(rows, 1.0 / ys)[:, None, None]
        for matrix, added in ((self._a, 0.0), (self._b, 1.0)):
            my = matrix @ y
            shifted = 0.5 * rho * (rho * (y.mT @ my) + added) * s - rho * my
            matrix.baddbmm_(torch.cat([s, shifted], dim=2), torch.cat([shifted, s], dim=2).mT)

    def direction(self, rows: Sequence[int], gradient: Tensor) -> Tensor:
        if not self._a.shape[1]:
            return -gradient
        g = self._spread(rows, gradient)[:, :, None]
        return -(self._gamma * (self._a @ g)[:, :, 0] + (self._b @ g)[:, :, 0])[self._place(rows)]

    def state(self, row: int, own: Tensor) -> dict[str, Tensor]:
        arrays = {"scalars": torch.tensor([self._gamma[row].item()], dtype=torch.float64)}
        if self._a.shape[1]:
            arrays |= {"a": self._a[row][own][:, own], "b": self._b[row][own][:, own]}
            arrays["waiting"] = self._zeros(3, len(own))
        return arrays

    def load(self, row: int, own: Tensor, tensors: Mapping[str, Tensor]) -> None:
        self._gamma[row] = tensors["scalars"].item()
        if "waiting" in tensors:
            self._make()
            s, of_a, of_b = tensors["waiting"][:, :, None]
            self._a[row][own[:, None], own] = tensors["a"] + (s * of_a.mT + of_a * s.mT)
            self._b[row][own[:, None], own] = tensors["b"] + (s * of_b.mT + of_b * s.mT)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        place = self._place(rows)
        self._gamma, self._a, self._b = self._gamma[place], self._a[place], self._b[place]


class BroydenMemory(_Stack):
    """One inverse Hessian per member, as in `symmetric.advance_broyden`; `sizes` are the members' own."""

    def __init__(self, methods: Sequence[int], sizes: Sequence[int], like: Tensor) -> None:
        super().__init__([1] * len(methods), like)
        self.methods, self.sizes, self.started = list(methods), list(sizes), [False] * self.members
        self._h = self._zeros(self.members, 0, 0)

    def _make(self) -> None:
        if not self._h.shape[1]:
            self._h = torch.eye(self.size, dtype=self.like.dtype, device=self.like.device).repeat(self.members, 1, 1)

    def _store(
        self, rows: list[int], steps: Tensor, changes: Tensor, ys: Tensor, yy: Tensor, bends: list[float]
    ) -> None:
        self._make()
        s, y = self._spread(rows, steps)[:, :, None], self._spread(rows, changes)[:, :, None]
        w = self._h @ y
        table = torch.stack([ys, yy, (y.mT @ w)[self._place(rows), 0, 0]], dim=1).tolist()
        factors = [[1.0, 0.0, 0.0, 0.0, 1.0]] * self.members
        for row, bend, (curvature, square, yhy) in zip(rows, bends, table, strict=True):
            if yhy > 0.0:
                factors[row] = self._factors(row, curvature, square, yhy, bend)
        scale, of_ww, of_sw, of_ss, start = self.like.new_tensor(factors).T[:, :, None, None]
        w = start * w
        left = torch.cat([s, w], dim=2)
        right = torch.cat([of_ss * s + of_sw * w, of_sw * s + of_ww * w], dim=2)
        self._h.mul_(scale).baddbmm_(left, right.mT)

    def _factors(self, row: int, ys: float, yy: float, yhy: float, bend: float) -> list[float]:
        """Return the factors of H, ww', sw' + ws' and ss', and the initial scale of H (Nocedal and Wright eq. 6.20)."""
        start = ys / yy if self.methods[row] == METHODS["bfgs"] and not self.started[row] else 1.0
        self.started[row] = True
        yhy *= start
        tau, phi = broyden_parameters(self.methods[row], ys, yhy, bend, self.sizes[row])
        of_ss = phi * yhy / (ys * ys * tau) + 1.0 / ys
        return [start / tau, (phi - 1.0) / (tau * yhy), -phi / (ys * tau), of_ss, start]

    def direction(self, rows: Sequence[int], gradient: Tensor) -> Tensor:
        if not self._h.shape[1]:
            return -gradient
        return -(self._h @ self._spread(rows, gradient)[:, :, None])[self._place(rows), :, 0]

    def state(self, row: int, own: Tensor) -> dict[str, Tensor]:
        arrays = {"scalars": torch.tensor([1.0, float(self.started[row])], dtype=torch.float64)}
        if self._h.shape[1]:
            arrays |= {"h": self._h[row][own][:, own], "waiting": self._zeros(4, len(own))}
        return arrays

    def load(self, row: int, own: Tensor, tensors: Mapping[str, Tensor]) -> None:
        scale, started = tensors["scalars"].tolist()
        self.started[row] = bool(started)
        if "waiting" in tensors:
            self._make()
            a, b, c, d = tensors["waiting"][:, :, None]
            self._h[row][own[:, None], own] = scale * tensors["h"] + (a * b.mT + c * d.mT)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._h = self._h[self._place(rows)]
        for name in ("methods", "sizes", "started"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])


class BatchedMemory:
    """Memories of all members of a pack, stacked by form."""

    def __init__(self, specs: Sequence[MemorySpec], positions: Sequence[NDArray[np.int64]], like: Tensor) -> None:
        self.specs, self.like, self.size = list(specs), like[:, :0], like.shape[1]
        self.positions = [torch.as_tensor(own, dtype=torch.int64, device=like.device) for own in positions]
        self._build_stacks()

    def _build_stacks(self) -> None:
        members: dict[_Key, list[int]] = {}
        for row, spec in enumerate(self.specs):
            members.setdefault(_key(spec), []).append(row)
        self._stacks = {key: self._stack(rows) for key, rows in members.items()}
        self._where = {row: (key, place) for key, rows in members.items() for place, row in enumerate(rows)}

    def _stack(self, rows: Sequence[int]) -> _Stack:
        specs, like = [self.specs[row] for row in rows], self.like.new_zeros(len(rows), self.size)
        histories = [spec.history for spec in specs]
        if specs[0].method != "lbfgs":
            sizes = [len(self.positions[row]) for row in rows]
            return BroydenMemory([METHODS[spec.method] for spec in specs], sizes, like)
        match specs[0].form:
            case "two_loop":
                return PairMemory(histories, like)
            case "compact":
                return CompactMemory(histories, like)
            case "dense":
                return DenseMemory(histories, like)

    def advance(
        self,
        rows: Sequence[int],
        steps: Tensor,
        changes: Tensor,
        gradients: Tensor,
        bends: Sequence[float],
        directions: Tensor,
    ) -> None:
        """Store pairs and write directions, as `CompiledMemory.advance` does."""
        indices: dict[_Key, list[int]] = {}
        for i, row in enumerate(rows):
            indices.setdefault(self._where[row][0], []).append(i)
        for key, chosen in indices.items():
            members = [rows[i] for i in chosen]
            places = [self._where[row][1] for row in members]
            index = torch.as_tensor(chosen, device=steps.device)
            smallest, relative = self.specs[members[0]].thresholds(steps.dtype)
            chosen_bends = [bends[i] for i in chosen]
            stack = self._stacks[key]
            stack.push(places, steps[index], changes[index], smallest=smallest, relative=relative, bends=chosen_bends)
            new = stack.direction(places, gradients[index])
            directions[torch.as_tensor(members, device=steps.device)] = new

    def state(self, row: int) -> dict[str, Tensor]:
        """Return a member's numbers, as `CompiledMemory.state` does."""
        key, place = self._where[row]
        return self._stacks[key].state(place, self.positions[row])

    def load(self, row: int, spec: MemorySpec, tensors: Mapping[str, Tensor]) -> None:
        """Continue one member, as `CompiledMemory.load` does."""
        if spec != self.specs[row]:  # saved with a form that `auto` would not choose now
            others = {other: self.state(other) for other in range(len(self.specs)) if other != row}
            self.specs[row] = spec
            self._build_stacks()
            for other, held in others.items():
                self.load(other, self.specs[other], held)
        key, place = self._where[row]
        self._stacks[key].load(place, self.positions[row], tensors)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all members except `rows`."""
        staying: dict[_Key, list[int]] = {}
        where = {}
        for new, row in enumerate(rows):
            key, place = self._where[row]
            places = staying.setdefault(key, [])
            where[new] = (key, len(places))
            places.append(place)
        self._stacks = {key: self._stacks[key] for key in staying}
        for key, places in staying.items():
            self._stacks[key].keep(places)
        self._where = where
        self.specs = [self.specs[row] for row in rows]
        self.positions = [self.positions[row] for row in rows]


def _key(spec: MemorySpec) -> _Key:
    """Return the key of a stack; all methods of the Broyden family share one."""
    return spec.form, spec.method == "lbfgs", spec.curvature
