"""`torch.optim.LBFGS` one network at a time, with what it does between two calls of its closure recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pinncore.optim import LBFGSSettings, StopReason
from pinncore.optim.rows import dots

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]  # points [rows, size] to values [rows], gradients [rows, size]


@dataclass(frozen=True)
class Path:
    """The accepted points, the evaluations spent up to each, and why the path ended."""

    points: list[NDArray[np.float64]]
    evaluations: list[int]
    stop: StopReason | None

    @property
    def last(self) -> NDArray[np.float64]:
        """Where it ended."""
        return self.points[-1]


class _Recorder(torch.optim.LBFGS):
    """Points are moved inside a line search and put back; a move outside one is an accepted step."""

    def __init__(self, parameter: Tensor, **settings: Any) -> None:
        super().__init__([parameter], line_search_fn="strong_wolfe", **settings)
        self.calls, self.searching = 0, False
        self.points: list[NDArray[np.float64]] = []
        self.evaluations: list[int] = []
        self.reach = math.inf

    def _directional_evaluate(self, *arguments: Any) -> Any:
        self.searching = True
        try:
            return super()._directional_evaluate(*arguments)
        finally:
            self.searching = False

    def _add_grad(self, step_size: Any, update: Tensor) -> None:
        super()._add_grad(step_size, update)
        if not self.searching:
            self.points.append(self._params[0].detach().numpy().copy())
            self.evaluations.append(self.calls)
            self.reach = float((update * step_size).abs().max())


def torch_path(objective: Objective, start: Tensor, settings: LBFGSSettings) -> Path:
    """Minimise from `start` [size] in a single call of `step`; without a limit, `max_eval` is out of the way."""
    parameter = torch.nn.Parameter(start.clone())
    limit = settings.max_evaluations
    optimiser = _Recorder(
        parameter,
        lr=settings.lr,
        max_iter=settings.iterations,
        max_eval=10**9 if limit is None else limit,
        history_size=settings.history,
        tolerance_grad=settings.tolerance_grad,
        tolerance_change=settings.tolerance_change,
    )

    def closure() -> Tensor:
        optimiser.calls += 1
        value, gradient = objective(parameter.detach()[None])
        parameter.grad = gradient[0].clone()
        return value[0]

    optimiser.step(closure)
    return Path(optimiser.points, optimiser.evaluations, _stop_reason(optimiser, objective, settings))


def _stop_reason(optimiser: _Recorder, objective: Objective, settings: LBFGSSettings) -> StopReason | None:
    """torch does not say why it ended: its tests once more, in its order."""
    iterations = optimiser.state[optimiser._params[0]]["n_iter"]
    if iterations == len(optimiser.points) + 1:  # it counts the iteration that finds no descent
        return StopReason.NO_DESCENT
    if iterations == settings.iterations:
        return StopReason.ITERATIONS_DONE
    if settings.max_evaluations is not None and optimiser.calls >= settings.max_evaluations:
        return StopReason.EVALUATIONS_DONE
    values, gradients = objective(torch.as_tensor(np.stack(optimiser.points[-2:])))
    if gradients[-1].abs().max() <= settings.tolerance_grad:
        return StopReason.GRADIENT_TOLERANCE
    if optimiser.reach <= settings.tolerance_change:
        return StopReason.STEP_TOLERANCE
    return StopReason.LOSS_TOLERANCE if abs(values[1] - values[0]) < settings.tolerance_change else None


@contextmanager
def rounded_plainly(*, by_rows: bool = False) -> Iterator[None]:
    """torch's own algorithm with every operation rounded once, in the order of the batched one.

    Left alone, torch adds dot products in another order, fuses multiplication and addition in `add_`, divides by a
    reciprocal, and takes square roots from a vector library: differences in the last bit, which a hundred iterations
    make as large as the answer. With them out of the way two equal algorithms are equal to the end. `by_rows`: sums in
    the order of `pinncore.optim.rows`.
    """
    with _PlainRounding(by_rows):
        yield


class _PlainRounding(TorchFunctionMode):
    def __init__(self, by_rows: bool) -> None:
        super().__init__()
        self.by_rows = by_rows

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        match func.__name__, args:
            case "dot", (a, b):
                return (
                    torch.tensor(dots(a[None], b[None])[0], dtype=a.dtype)
                    if self.by_rows
                    else (a * b)[None].sum(dim=1)[0]
                )
            case "sum", (a,) if self.by_rows and a.dim() == 1 and not kwargs:
                return torch.tensor(dots(a[None], torch.ones_like(a)[None])[0], dtype=a.dtype)
            case "add_", (a, b) if kwargs:
                return a.copy_(a + kwargs["alpha"] * b)
            case "__rdiv__" | "__rtruediv__", (a, b):
                return torch.true_divide(torch.tensor(b, dtype=a.dtype), a)
            case "sqrt", (a,) if a.dim() == 0:
                return torch.tensor(math.sqrt(a.item()), dtype=a.dtype)
        return func(*args, **(kwargs or {}))
