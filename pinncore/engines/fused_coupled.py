"""Loss and gradient of a coupled group, r' M r / 2 over all its points, in one compiled pass a member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..problems import Problem
from .fused_compiled import compiled_coupled
from .fused_points import ChunkedPoints, Numbers


@dataclass(frozen=True)
class CoupledPass:
    """Points, solutions and sparse matrices of several members; rows of all matrices are filled up to one length.

    `solution` [members, points], `starts` [members, points + 1], `columns` and `entries` [members, entries].
    """

    run: Callable[..., None]
    points: ChunkedPoints
    solution: Numbers
    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    entries: Numbers

    @classmethod
    def of(cls, problems: Sequence[Problem], activation: str, dtype: np.dtype[Any], chunk: int) -> CoupledPass:
        """Return what members with these problems need, for chunks of `chunk` points."""
        sets = [problem.point_sets[0] for problem in problems]
        count, inputs = sets[0].inputs.shape
        points = ChunkedPoints.empty(len(problems), inputs, 0, count, chunk=chunk, dtype=dtype)
        for row, own in enumerate(sets):
            points.write(row, own.inputs.T, np.zeros((0, count)))
        solution = np.stack([p.group_columns(0, own)[0] for p, own in zip(problems, sets, strict=True)])
        matrices = [problem.coupling for problem in problems]
        most = max(matrix.nnz for matrix in matrices)
        columns, entries = np.zeros((len(problems), most), np.int64), np.zeros((len(problems), most), dtype)
        for row, matrix in enumerate(matrices):
            columns[row, : matrix.nnz], entries[row, : matrix.nnz] = matrix.indices, matrix.data
        starts = np.stack([matrix.indptr for matrix in matrices]).astype(np.int64)
        run = compiled_coupled(activation, dtype.name)
        return cls(run, points, solution.astype(dtype), starts, columns, entries)

    @property
    def chunks(self) -> int:
        """Return the number of chunks of points, whose activations are kept."""
        return self.points.chunks

    def rows(self, rows: Sequence[int]) -> CoupledPass:
        """Return the pass of some members."""
        chosen = list(rows)
        tables = (table[chosen] for table in (self.solution, self.starts, self.columns, self.entries))
        return CoupledPass(self.run, self.points.rows(chosen), *tables)

    def arguments(self) -> tuple[Numbers, ...]:
        """Return the arguments of the kernel that are the same in every evaluation."""
        return self.points.flat_inputs, self.solution, self.starts, self.columns, self.entries
