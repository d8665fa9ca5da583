"""Memories on a CPU: one object per member at its own size, one compiled call per iteration.

Members do not depend on each other here, so a member's directions are bitwise the same in any pack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.simd import VECTOR_BYTES
from .broyden import METHODS
from .forms import MemorySpec
from .pairs import advance_compact, advance_two_loop
from .symmetric import TILE, advance_broyden, advance_dense, pack, tiles_of, unpack

FIRST_CAPACITY = 16
Array = NDArray[Any]


class MemberMemory(ABC):
    """The memory of one member. `own` are the places of its parameters in a padded row."""

    kernel: Callable[..., bool]  # stores a pair and writes a direction

    def __init__(self, spec: MemorySpec, own: NDArray[np.int64], dtype: torch.dtype) -> None:
        self.spec, self.own, self.dtype = spec, own, torch.empty(0, dtype=dtype).numpy().dtype
        self.limits = np.array(spec.thresholds(dtype))
        turn = 4 * VECTOR_BYTES // self.dtype.itemsize  # vectors are whole turns of four registers
        self.width = -(-len(own) // turn) * turn
        self.work = self._zeros(8, self.width)

    def _zeros(self, *shape: int) -> Array:
        return np.zeros(shape, self.dtype)

    def advance(self, step: Array, change: Array, gradient: Array, bend: float, direction: Array) -> bool:
        """Store s and y of an accepted step and write -H g, all padded rows [size]; return whether the pair was kept.

        `bend` is s'Bs with B = H^-1 before the pair. Only the member's own places of `direction` are written.
        """
        return self.kernel(step, change, gradient, self.own, direction, self.limits, *self._memory(bend))

    @abstractmethod
    def _memory(self, bend: float) -> tuple[Any, ...]:
        """Return the arrays of the form's kernel, with room for one more pair."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """Return copies of all numbers, at the member's own size."""

    @abstractmethod
    def take(self, arrays: Mapping[str, Array]) -> None:
        """Continue from `arrays`."""


class _Pairs(MemberMemory):
    """A ring of pairs that grows by doubling up to the history; pair k lies in row k mod history."""

    def __init__(self, spec: MemorySpec, own: NDArray[np.int64], dtype: torch.dtype) -> None:
        super().__init__(spec, own, dtype)
        self.counts = np.array([0, spec.history])
        self.scalars = np.ones(1)  # gamma
        self.pairs, self.inverse = self._zeros(2, 0, self.width), self._zeros(0)

    def _make_room(self, needed: int) -> None:
        held = len(self.inverse)
        if needed > held:
            extra = min(max(needed, 2 * held, FIRST_CAPACITY), self.spec.history) - held
            self.pairs = np.concatenate([self.pairs, self._zeros(2, extra, self.width)], axis=1)
            self.inverse = np.append(self.inverse, self._zeros(extra))
            self._make_more_room(extra)

    @abstractmethod
    def _make_more_room(self, extra: int) -> None:
        """Extend the other arrays of the form by `extra` pairs."""

    def _make_room_for_one(self) -> None:
        self._make_room(min(int(self.counts[0]) + 1, self.spec.history))

    @property
    def held(self) -> int:
        """Return the number of pairs in the ring."""
        return min(int(self.counts[0]), self.spec.history)

    def arrays(self) -> dict[str, Array]:
        own = self.pairs[:, : self.held, : len(self.own)]
        return {
            "steps": own[0].copy(),
            "changes": own[1].copy(),
            "inverse": self.inverse[: self.held].copy(),
            "scalars": np.append(self.scalars, float(self.counts[0])),
        }

    def take(self, arrays: Mapping[str, Array]) -> None:
        self.scalars[0], self.counts[0] = arrays["scalars"]
        self._make_room(self.held)
        self.pairs[0, : self.held, : len(self.own)] = arrays["steps"]
        self.pairs[1, : self.held, : len(self.own)] = arrays["changes"]
        self.inverse[: self.held] = arrays["inverse"]


class TwoLoop(_Pairs):
    """The two-loop recursion over the pairs."""

    kernel = staticmethod(advance_two_loop)

    def __init__(self, spec: MemorySpec, own: NDArray[np.int64], dtype: torch.dtype) -> None:
        super().__init__(spec, own, dtype)
        self.alphas = self._zeros(0)

    def _make_more_room(self, extra: int) -> None:
        self.alphas = self._zeros(len(self.inverse))

    def _memory(self, bend: float) -> tuple[Any, ...]:
        self._make_room_for_one()
        return self.pairs, self.inverse, self.counts, self.scalars, self.work, self.alphas


class Compact(_Pairs):
    """The two loops in blocks, with the products s_i'y_j."""

    kernel = staticmethod(advance_compact)

    def __init__(self, spec: MemorySpec, own: NDArray[np.int64], dtype: torch.dtype) -> None:
        super().__init__(spec, own, dtype)
        self.products, self.small = self._zeros(0, 0), self._zeros(4, 0)

    def _make_more_room(self, extra: int) -> None:
        self.products = np.pad(self.products, ((0, extra), (0, extra)))
        self.small = self._zeros(4, len(self.inverse))

    def _memory(self, bend: float) -> tuple[Any, ...]:
        self._make_room_for_one()
        return self.pairs, self.inverse, self.counts, self.scalars, self.work, self.products, self.small

    def arrays(self) -> dict[str, Array]:
        return super().arrays() | {"products": self.products[: self.held, : self.held].copy()}

    def take(self, arrays: Mapping[str, Array]) -> None:
        super().take(arrays)
        self.products[: self.held, : self.held] = arrays["products"]


class _Matrices(MemberMemory):
    """Symmetric matrices [n, n], allocated at the first pair, and their pending change."""

    names: tuple[str, ...]  # the first starts as the identity
    waiting_rows: int
    first_scalars: tuple[float, ...]

    def __init__(self, spec: MemorySpec, own: NDArray[np.int64], dtype: torch.dtype) -> None:
        super().__init__(spec, own, dtype)
        self.waiting = self._zeros(self.waiting_rows, self.width)
        self.scalars = np.array(self.first_scalars)
        self.matrices: Array | None = None

    def _allocated(self) -> Array:
        if self.matrices is None:
            tiles = tiles_of(len(self.own))
            self.matrices = self._zeros(len(self.names), TILE * TILE * tiles * (tiles + 1) // 2)
            self.matrices[0] = pack(np.eye(len(self.own), dtype=self.dtype))
        return self.matrices

    def arrays(self) -> dict[str, Array]:
        arrays = {"scalars": self.scalars.copy()}
        if self.matrices is not None:
            size = len(self.own)
            arrays |= {name: unpack(packed, size) for name, packed in zip(self.names, self.matrices, strict=True)}
            arrays["waiting"] = self.waiting[:, :size].copy()
        return arrays

    def take(self, arrays: Mapping[str, Array]) -> None:
        self.scalars[:] = arrays["scalars"]
        if "waiting" in arrays:
            self.matrices = np.stack([pack(arrays[name]) for name in self.names])
            self.waiting[:, : len(self.own)] = arrays["waiting"]


class Dense(_Matrices):
    """L-BFGS that drops no pair, as two matrices."""

    kernel = staticmethod(advance_dense)

    names, waiting_rows, first_scalars = ("a", "b"), 3, (1.0,)

    def _memory(self, bend: float) -> tuple[Any, ...]:
        return self._allocated(), self.waiting, self.scalars, self.work


class Broyden(_Matrices):
    """BFGS and the self-scaled family on one inverse Hessian."""

    kernel = staticmethod(advance_broyden)

    names, waiting_rows, first_scalars = ("h",), 4, (1.0, 0.0)

    def _memory(self, bend: float) -> tuple[Any, ...]:
        return self._allocated()[0], self.waiting, self.scalars, self.work, METHODS[self.spec.method], bend


_FORMS: dict[str, type[MemberMemory]] = {"two_loop": TwoLoop, "compact": Compact, "dense": Dense}


def member_memory(spec: MemorySpec, own: NDArray[np.int64], dtype: torch.dtype) -> MemberMemory:
    """Return an empty memory of the form that `spec` names."""
    kind = _FORMS[spec.form] if spec.method == "lbfgs" else Broyden
    return kind(spec, own, dtype)


class CompiledMemory:
    """Memories of all members of a pack."""

    def __init__(self, specs: Sequence[MemorySpec], positions: Sequence[NDArray[np.int64]], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.positions = [np.ascontiguousarray(own, np.int64) for own in positions]
        self.members = [member_memory(spec, own, dtype) for spec, own in zip(specs, self.positions, strict=True)]

    def advance(
        self,
        rows: Sequence[int],
        steps: Tensor,
        changes: Tensor,
        gradients: Tensor,
        bends: Sequence[float],
        directions: Tensor,
    ) -> None:
        """Store the pairs of members `rows`, then set their rows of `directions` [members, size] to -H g.

        steps, changes, gradients: [rows, size]; bends: s'Bs, B = H^-1 before the pair.
        """
        s, y, g = (tensor.contiguous().numpy() for tensor in (steps, changes, gradients))
        out = directions.numpy()
        for i, row in enumerate(rows):
            self.members[row].advance(s[i], y[i], g[i], bends[i], out[row])

    def state(self, row: int) -> dict[str, Tensor]:
        """Return copies of a member's numbers at its own size."""
        return {name: torch.from_numpy(array) for name, array in self.members[row].arrays().items()}

    def load(self, row: int, spec: MemorySpec, tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`, exactly: no number is computed again."""
        self.members[row] = member_memory(spec, self.positions[row], self.dtype)
        self.members[row].take({name: tensor.numpy() for name, tensor in tensors.items()})

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all members except `rows`."""
        self.members = [self.members[row] for row in rows]
        self.positions = [self.positions[row] for row in rows]
