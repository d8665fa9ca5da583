"""Engine `fused`: loss and gradient of a pack in one compiled pass over the points, on a CPU.

Forward Laplacian (Li et al. 2024) and a hand-written reverse pass, blocked so that a chunk of points never leaves the
cache; see `fused_kernels`. Each member is computed at its own shape, in an order that depends on that member only: its
numbers are bitwise the same alone, in any pack and on any number of threads.

A residual that is affine in the network's value and derivatives, which a trial evaluation finds out, is computed inside
the pass. Any other residual is evaluated by PyTorch between a forward pass and a second one.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SettingError
from ..kernels.simd import VECTOR_BYTES, lanes_of
from ..layouts import CompactLayout, Layout
from ..networks import Layers, parameter_count
from ..problems.base import Jet, PointSet, Problem
from . import fused_kernels as kernels
from .base import Engine, Evaluation, loss_shape

STRETCH_POINTS = 640  # points of one task; 6400 points make ten tasks for the threads
PIECE_POINTS = 16_384  # points of one call of a residual; PyTorch splits longer ones among threads

LOGGER = logging.getLogger("pinncore")

Numbers = NDArray[Any]


class FusedEngine(Engine):
    """A compiled engine for CPUs, with parameters in a `CompactLayout`."""

    name = "fused"

    def __init__(self, problems: Sequence[Problem], layout: Layout, **options: Any) -> None:
        super().__init__(problems, layout, **options)
        if self.device.type != "cpu":
            raise SettingError("engine", self.name, "runs on a CPU only", "Use engine: torch on a GPU, or auto.")
        self._type = np.dtype(np.float32 if self.dtype == torch.float32 else np.float64)
        self._kind = _compiled(self._type, self.activation)
        self._chunk = kernels.VECTORS * lanes_of(8 * self._type.itemsize)
        sets = problems[0].point_sets
        self._starts = np.cumsum([0, *(self._padded(len(points.inputs)) for points in sets)]).tolist()
        self._stretches, self._terms_of = _stretches(self._starts, self._chunk)
        affine = [[_affine(problem, points) for points in problem.point_sets] for problem in problems]
        self._affine = all(table is not None for tables in affine for table in tables)
        self._inputs = self._stacked([[points.inputs.T for points in p.point_sets] for p in problems])
        self._coefficients = self._stacked(
            [[table if table is not None else np.zeros((5, 0)) for table in tables] for tables in affine]
        )
        self._allocate()

    @classmethod
    def arrange(cls, members: Sequence[Layers], padded: Layers = ()) -> CompactLayout:
        return CompactLayout(tuple(members))

    @classmethod
    def evaluation_bytes(cls, members: Sequence[Layers], points: int, itemsize: int, device: str) -> int:
        return len(members) * (points // STRETCH_POINTS + 3) * max(map(parameter_count, members)) * itemsize

    def keep(self, rows: Sequence[int]) -> FusedEngine:
        kept = copy.copy(self)
        kept.problems, kept.layout = [self.problems[row] for row in rows], self.layout.keep(rows)
        kept._inputs = aligned((len(rows), *self._inputs.shape[1:]), self._type)
        kept._coefficients = aligned((len(rows), *self._coefficients.shape[1:]), self._type)
        kept._inputs[:], kept._coefficients[:] = self._inputs[list(rows)], self._coefficients[list(rows)]
        kept._allocate()
        return kept

    def evaluate(self, parameters: Tensor) -> Evaluation:
        x = parameters.detach().numpy()
        squares = None if self._affine else self._residuals(x)
        shares = min(torch.get_num_threads(), self._squares.size)
        if shares == 1:
            self._evaluate_share(x, 0, 1)
        else:
            list(_threads(shares).map(lambda share: self._evaluate_share(x, share, shares), range(shares)))
        members, terms = self._weights.shape
        loss, values = np.empty(members, self._type), np.empty((members, terms), self._type)
        gradient = np.empty_like(x)
        kernels.reduce(
            self._squares if squares is None else squares,
            self._gradients,
            self._terms_of,
            self._weights,
            self._averages,
            loss,
            values,
            gradient,
        )
        return Evaluation(torch.from_numpy(loss), torch.from_numpy(values), torch.from_numpy(gradient))

    def outputs(self, parameters: Tensor, rows: Sequence[int]) -> Tensor:
        count = len(self.problems[0].point_sets[0].inputs)
        values = [
            self._jets(x, row, self._widened(self._inputs[row, :, :count]))[0, :count]
            for x, row in zip(parameters.detach().numpy(), rows, strict=True)
        ]
        return torch.from_numpy(np.stack(values))

    def jets(self, parameters: Tensor, row: int, points: PointSet) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        jets = self._jets(parameters.detach().numpy(), row, self._widened(points.inputs.T))
        value, x, y, laplacian = torch.from_numpy(jets[:, : len(points.inputs)]).unbind(0)
        return value, x, y, laplacian

    def _evaluate_share(self, x: Numbers, share: int, shares: int) -> None:
        kernels.evaluate(
            x,
            self._layers,
            self._inputs.reshape(len(x), -1),
            self._coefficients.reshape(len(x), -1),
            self._stretches,
            self._affine,
            self._workspace(share),
            self._kind,
            share,
            shares,
            self._squares,
            self._gradients,
        )

    def _jets(self, x: Numbers, row: int, inputs: Numbers) -> Numbers:
        """Return u, u_x, u_y, lap u [4, points] of one member (x [size]) at inputs [inputs, points], whole chunks."""
        out = np.empty((kernels.CHANNELS, inputs.shape[1]), self._type)
        kernels.jets(x, self._layers[row], inputs.reshape(-1), self._workspace(0), self._kind, out.reshape(-1))
        return out

    def _residuals(self, x: Numbers) -> Numbers:
        """Put the cotangents of a residual that is not affine into the coefficients; return sums like `_squares`."""
        squares = np.zeros_like(self._squares)
        for row, problem in enumerate(self.problems):
            jets = torch.from_numpy(self._jets(x[row], row, self._inputs[row]))
            for term, points in enumerate(problem.point_sets):
                for low in range(0, len(points.inputs), PIECE_POINTS):
                    piece = slice(low, min(low + PIECE_POINTS, len(points.inputs)))
                    columns = slice(self._starts[term] + piece.start, self._starts[term] + piece.stop)
                    channels = jets[:, columns].clone().requires_grad_()
                    data = {name: self.as_tensor(values[piece]) for name, values in points.data.items()}
                    residual = problem.residual(points.term, Jet(*channels.unbind(0)), data)
                    (cotangent,) = torch.autograd.grad(residual.square().sum(), channels)
                    self._coefficients[row, : kernels.CHANNELS, columns] = cotangent.mul_(0.5).numpy()
                    squares[row, np.argmax(self._terms_of == term)] += float(residual.detach().double().square().sum())
        return squares

    def _stacked(self, members: Sequence[Sequence[Numbers]]) -> Numbers:
        """Return [members, rows, points] from arrays [rows, points] of every point set, each padded to whole chunks."""
        stacked = aligned((len(members), len(members[0][0]), self._starts[-1]), self._type)
        for member, sets in zip(stacked, members, strict=True):
            for start, array in zip(self._starts, sets, strict=False):
                member[:, start : start + array.shape[1]] = array
        return stacked

    def _allocate(self) -> None:
        """Allocate weights and work arrays for the members."""
        members = len(self.problems)
        self._layers = np.array(self.layout.members, dtype=np.int64)
        weights, averages = loss_shape(self.problems)
        self._weights, self._averages = np.array(weights), np.array(averages)
        self._squares = np.zeros((members, len(self._stretches)))
        self._gradients = np.zeros((members, len(self._stretches), self.layout.size), self._type)
        self._workspaces: dict[int, Numbers] = {}

    def _workspace(self, share: int) -> Numbers:
        if share not in self._workspaces:
            lanes = lanes_of(8 * self._type.itemsize)
            needed = max(kernels.workspace(layers, lanes) for layers in self._layers)
            self._workspaces[share] = aligned((needed,), self._type)
        return self._workspaces[share]

    def _padded(self, points: int) -> int:
        return -(-points // self._chunk) * self._chunk

    def _widened(self, columns: Numbers) -> Numbers:
        """Return [columns, points] in the engine's precision, points padded to whole chunks."""
        wide = aligned((len(columns), self._padded(columns.shape[1])), self._type)
        wide[:, : columns.shape[1]] = columns
        return wide


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Numbers:
    """Return zeros aligned to SIMD vectors; a load that straddles two cache lines costs twice."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + VECTOR_BYTES, np.uint8)
    start = -raw.ctypes.data % VECTOR_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def _stretches(starts: Sequence[int], chunk: int) -> tuple[Numbers, Numbers]:
    """Return start and stop of every task [stretches, 2], and the term of each [stretches]."""
    length = max(STRETCH_POINTS // chunk, 1) * chunk
    tasks = [
        (term, start, min(start + length, high))
        for term, (low, high) in enumerate(itertools.pairwise(starts))
        for start in range(low, high, length)
    ]
    return np.array([(start, stop) for _, start, stop in tasks], np.int64), np.array([term for term, _, _ in tasks])


def _affine(problem: Problem, points: PointSet) -> Numbers | None:
    """Return coefficients and right-hand side [5, points] of a residual that is affine in the jet, else None.

    Slope and value at zero give the candidates; jets of several sizes and signs test them.
    """
    count = len(points.inputs)
    data = {name: torch.as_tensor(values, dtype=torch.float64) for name, values in points.data.items()}
    zero = torch.zeros(kernels.CHANNELS, count, dtype=torch.float64, requires_grad=True)
    residual = problem.residual(points.term, Jet(*zero.unbind(0)), data)
    (slopes,) = torch.autograd.grad(residual.sum(), zero)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1.0, 1.0, 1e3):
        channels = size * torch.randn(zero.shape, generator=generator, dtype=torch.float64)
        actual = problem.residual(points.term, Jet(*channels.unbind(0)), data)
        parts = slopes * channels
        expected, scale = parts.sum(0) + residual.detach(), parts.abs().sum(0) + residual.detach().abs()
        if not bool(((actual - expected).abs() <= 1e-12 * scale).all()):
            return None
    return np.concatenate([slopes.numpy(), -residual.detach().numpy()[None]])


@cache
def _compiled(kind: np.dtype[Any], activation: str) -> tuple[int, ...]:
    """Compile the kernels for a precision and an activation, or read them from the cache, and log what takes time.

    Return the kernels' name of the activation.
    """
    folder = kernels.evaluate.stats.cache_path or ""
    if not any(Path(folder).glob("fused_kernels.evaluate-*.nbi")):
        LOGGER.warning("Compiling the kernels of engine fused for this machine, once; this takes some seconds.")
    before = kernels.evaluate.stats.cache_misses.total()
    started, name, count = time.perf_counter(), kernels.KINDS[activation], lanes_of(8 * kind.itemsize)
    points, layers = kernels.VECTORS * count, np.array([[2, 1, 1]])
    x, work = np.zeros((1, 16), kind), aligned((kernels.workspace(layers[0], count),), kind)
    squares, gradients, out = np.zeros((1, 1)), np.zeros((1, 1, 16), kind), np.zeros(4 * points, kind)
    inputs, coefficients = np.zeros((1, 2 * points), kind), np.zeros((1, 5 * points), kind)
    stretches, weights = np.array([[0, points]]), np.ones((1, 1))
    kernels.evaluate(x, layers, inputs, coefficients, stretches, True, work, name, 0, 1, squares, gradients)
    kernels.jets(x[0], layers[0], inputs[0], work, name, out)
    kernels.reduce(squares, gradients, stretches[:, 0], weights, weights, np.zeros(1, kind), np.zeros((1, 1), kind), x)
    if kernels.evaluate.stats.cache_misses.total() > before:
        seconds = time.perf_counter() - started
        LOGGER.warning("Compiled engine fused for %s and %s in %.1f s; kept in %s.", kind, activation, seconds, folder)
    return name


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="fused")
