"""The curvature pairs (s, y) of many members and the two-loop recursion over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FIRST_CAPACITY = 16


class PairMemory:
    """Rings of pairs: steps s and gradient changes y, [members, capacity, size], each member's newest `history`."""

    def __init__(self, history: Sequence[int], like: Tensor) -> None:
        self.history = list(history)
        self._pushed = [0] * len(self.history)  # pairs ever stored; pair k lies at k mod history
        capacity = min(FIRST_CAPACITY, max(self.history))
        self._steps = torch.zeros(like.shape[0], capacity, like.shape[1], dtype=like.dtype, device=like.device)
        self._changes = torch.zeros_like(self._steps)
        self._inverse = torch.zeros_like(self._steps[:, :, 0])  # rho = 1 / y's
        self._scale = torch.ones_like(self._inverse[:, :1])  # gamma = y's / y'y of the newest pair

    def push(self, rows: Sequence[int], steps: Tensor, changes: Tensor, *, smallest: float) -> None:
        """Store pairs [rows, size] where y's > smallest; the others are passed over."""
        curvature, square = (changes * steps).sum(dim=1), (changes * changes).sum(dim=1)
        kept = [i for i, value in enumerate(curvature.tolist()) if value > smallest]
        if not kept:
            return
        members = [rows[i] for i in kept]
        slots = [self._pushed[row] % self.history[row] for row in members]
        self._grow(max(slots) + 1)
        place, slot, chosen = (torch.as_tensor(index, device=steps.device) for index in (members, slots, kept))
        self._steps[place, slot], self._changes[place, slot] = steps[chosen], changes[chosen]
        self._inverse[place, slot] = 1.0 / curvature[chosen]
        self._scale[place] = (curvature / square)[chosen][:, None]
        for row in members:
            self._pushed[row] += 1

    def direction(self, rows: Sequence[int], gradient: Tensor) -> Tensor:
        """-H g for gradients [rows, size]: algorithm 7.4 with each member's own number of pairs."""
        orders = [self._order(row) for row in rows]
        longest = max(map(len, orders))
        place = torch.as_tensor(rows, device=gradient.device)
        # column k is each member's k-th oldest pair; past a member's count any slot serves, its coefficient is zero
        slots = [slots + [0] * (longest - len(slots)) for slots in orders]
        used = [[1.0] * len(slots) + [0.0] * (longest - len(slots)) for slots in orders]
        order = torch.as_tensor(slots, dtype=torch.int64, device=gradient.device)
        mask = torch.tensor(used, dtype=gradient.dtype, device=gradient.device)
        inverse = self._inverse[place[:, None], order] * mask
        q = -gradient
        alphas: list[Tensor] = [gradient[:, :1]] * longest
        for k in range(longest - 1, -1, -1):
            slot = order[:, k]
            alphas[k] = (self._steps[place, slot] * q).sum(dim=1, keepdim=True) * inverse[:, k, None]
            q = q - alphas[k] * self._changes[place, slot]
        r = q * self._scale[place]
        for k in range(longest):
            slot = order[:, k]
            beta = (self._changes[place, slot] * r).sum(dim=1, keepdim=True) * inverse[:, k, None]
            r = r + self._steps[place, slot] * (alphas[k] - beta)
        return r

    def state(self, row: int) -> dict[str, Tensor]:
        """A member's pairs, oldest first: steps and changes [pairs, size], rho [pairs] and gamma [1]."""
        order = torch.as_tensor(self._order(row), dtype=torch.int64, device=self._steps.device)
        return {
            "steps": self._steps[row, order],
            "changes": self._changes[row, order],
            "inverse": self._inverse[row, order],
            "scale": self._scale[row],
        }

    def load(self, row: int, tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`; the numbers are taken as they are, nothing is computed anew."""
        count = len(tensors["steps"])
        self._grow(count)
        self._steps[row, :count], self._changes[row, :count] = tensors["steps"], tensors["changes"]
        self._inverse[row, :count], self._scale[row] = tensors["inverse"], tensors["scale"]
        self._pushed[row] = count

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all members but `rows`."""
        place = torch.as_tensor(rows, device=self._steps.device)
        self._steps, self._changes = self._steps[place], self._changes[place]
        self._inverse, self._scale = self._inverse[place], self._scale[place]
        self.history = [self.history[row] for row in rows]
        self._pushed = [self._pushed[row] for row in rows]

    def _order(self, row: int) -> list[int]:
        """Slots of a member's pairs, oldest first."""
        pushed, history = self._pushed[row], self.history[row]
        return [k % history for k in range(max(0, pushed - history), pushed)]

    def _grow(self, needed: int) -> None:
        capacity = self._steps.shape[1]
        if needed <= capacity:
            return
        extra = max(needed, 2 * capacity) - capacity
        members, _, size = self._steps.shape
        blank = torch.zeros(members, extra, size, dtype=self._steps.dtype, device=self._steps.device)
        self._steps, self._changes = torch.cat([self._steps, blank], dim=1), torch.cat([self._changes, blank], dim=1)
        self._inverse = torch.cat([self._inverse, blank[:, :, 0]], dim=1)
