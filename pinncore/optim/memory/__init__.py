"""The memories of quasi-Newton methods: curvature pairs or matrices, behind one interface.

`CompiledMemory` keeps each member by itself, `BatchedMemory` stacks them. Both store the pairs of accepted steps and
write the next directions (`advance`); `state` and `load` save and restore a member exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .batched import BatchedMemory as BatchedMemory
from .batched import PairMemory as PairMemory
from .compiled import CompiledMemory as CompiledMemory
from .forms import Curvature as Curvature
from .forms import Form as Form
from .forms import MemorySpec as MemorySpec
from .forms import Method as Method
from .forms import checked_form as checked_form
from .forms import memory_bytes as memory_bytes
from .forms import memory_form as memory_form

Memory = CompiledMemory | BatchedMemory


def make_memory(
    specs: Sequence[MemorySpec], positions: Sequence[NDArray[np.int64]], like: Tensor, *, batched: bool
) -> Memory:
    """Return empty memories for members with padded rows like those of `like` [members, size]."""
    if batched:
        return BatchedMemory(specs, positions, like)
    return CompiledMemory(specs, positions, like.dtype)
