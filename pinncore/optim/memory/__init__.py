"""What a quasi-Newton method remembers: curvature pairs or matrices, behind one interface.

`CompiledMemory` keeps each member by itself, `BatchedMemory` all of them stacked. Both take in the pairs of accepted
steps and write the next directions (`advance`), and give and take back a member's numbers exactly (`state`, `load`).
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
    """Empty memories for members whose padded rows are like those of `like` [members, size]."""
    if batched:
        return BatchedMemory(specs, positions, like)
    return CompiledMemory(specs, positions, like.dtype)
