"""Points in whole chunks of SIMD vectors, and the tasks that they are split into."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.simd import VECTOR_BYTES

STRETCH_POINTS = 640  # points of one task; 6400 points make ten tasks for the threads

Numbers = NDArray[Any]


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Numbers:
    """Return zeros aligned to SIMD vectors; a load that straddles two cache lines costs twice."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + VECTOR_BYTES, np.uint8)
    start = -raw.ctypes.data % VECTOR_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class ChunkedPoints:
    """Points of several members, filled up to whole chunks by copies of the last one.

    `inputs` [members, inputs, filled] and `data` [members, columns, filled]; the first `count` are points.
    """

    inputs: Numbers
    data: Numbers
    count: int
    chunk: int

    @classmethod
    def empty(
        cls, members: int, inputs: int, columns: int, count: int, *, chunk: int, dtype: np.dtype[Any]
    ) -> ChunkedPoints:
        """Return room for `count` points of every member in chunks of `chunk`."""
        filled = -(-count // chunk) * chunk
        first, second = (aligned((members, rows, filled), dtype) for rows in (inputs, columns))
        return cls(first, second, count, chunk)

    @functools.cached_property
    def flat_inputs(self) -> Numbers:
        """Return the inputs as [members, inputs * filled]."""
        return self.inputs.reshape(len(self.inputs), -1)

    @functools.cached_property
    def flat_data(self) -> Numbers:
        """Return the data as [members, columns * filled]."""
        return self.data.reshape(len(self.data), -1)

    @property
    def filled(self) -> int:
        """Return the number of points in whole chunks."""
        return self.inputs.shape[2]

    @property
    def chunks(self) -> int:
        """Return the number of chunks."""
        return self.filled // self.chunk

    def write(self, row: int, inputs: Numbers, data: Numbers) -> None:
        """Write the points of one member from [inputs, points] and [columns, points]."""
        for target, source in ((self.inputs[row], inputs), (self.data[row], data)):
            target[:, : self.count] = source
            target[:, self.count :] = source[:, -1:]

    def pick(self, member: int, chosen: NDArray[np.int64], into: ChunkedPoints, row: int) -> None:
        """Write chosen points of a member as a row of `into`."""
        into.write(row, self.inputs[member][:, chosen], self.data[member][:, chosen])

    def rows(self, rows: Sequence[int]) -> ChunkedPoints:
        """Return the points of some members."""
        inputs, data = (aligned((len(rows), *array.shape[1:]), array.dtype) for array in (self.inputs, self.data))
        inputs[:], data[:] = self.inputs[list(rows)], self.data[list(rows)]
        return ChunkedPoints(inputs, data, self.count, self.chunk)


@functools.lru_cache(maxsize=256)
def stretches(filled: int, chunk: int) -> NDArray[np.int64]:
    """Return start and stop of the tasks [tasks, 2] that `filled` points are split into, whole chunks."""
    length = max(STRETCH_POINTS // chunk, 1) * chunk
    return np.array([(start, min(start + length, filled)) for start in range(0, filled, length)], np.int64)
