"""SciPy's L-BFGS-B as a second stage: the optimiser of published TensorFlow codes, here without bounds.

Byrd, Lu, Nocedal, Zhu (1995), with the line search of Moré and Thuente (1994). SciPy's routine works by reverse
communication: it asks for value and gradient at a point and keeps its whole state in a few arrays. So a member can
pause at any evaluation, and a checkpoint is a copy of those arrays. Iterates and counts are bitwise those of
`scipy.optimize.minimize(method="L-BFGS-B")`.

The routine works in float64 on the host, on each member's own parameters without padding; loss and gradient are
evaluated in the member's precision, on its device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SettingError
from .second_stage import OWN, SecondStage
from .stop import StopReason

Array = NDArray[np.float64]

NEW_ITERATE, EVALUATE, CONVERGED = 1, 3, 4  # requests of the routine, its task[0]
GRADIENT_SMALL = 401  # its task[1] where the gradient converged; else the loss did


@dataclass(frozen=True)
class ScipySettings:
    """One member's L-BFGS-B; the comments name the option of SciPy for each field.

    `tolerance_change` is `ftol`: the run ends where (f_k - f_{k+1}) / max(|f_k|, |f_{k+1}|, 1) <= tolerance_change. So
    the routine's `factr` is tolerance_change / 2.2e-16, and the default of training, 1e-6 eps, is the published ftol.
    There is no test of the step. SciPy tests its two limits between iterations only, so the last line search may
    exceed `max_evaluations`.
    """

    iterations: int = 2000  # maxiter
    history: int = 50  # maxcor
    tolerance_grad: float = 1e-7  # gtol
    tolerance_change: float = 1e-6 * 2.220446049250313e-16  # ftol
    max_evaluations: int | None = None  # maxfun
    line_search_steps: int = 50  # maxls

    @property
    def corrections(self) -> int:
        """Return the number of pairs to allocate; an iteration adds one, so more than `iterations` would stay empty."""
        return max(1, min(self.history, self.iterations))


class LbfgsbRun:
    """The routine's state for one member; `x` is the point that it asks for."""

    def __init__(self, settings: ScipySettings, x: Array) -> None:
        self.settings, self.x = settings, x.copy()
        self._setulb, integer = _routine()
        self.arrays = _work_arrays(len(x), settings.corrections, integer)
        self._bounds = (np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x), integer))  # kind 0: no bounds

    def call(self, loss: float, gradient: Array) -> int:
        """Hand over loss and gradient [parameters] at `x` and return the routine's request, which may change `x`."""
        settings, work = self.settings, self.arrays
        self._setulb(
            settings.corrections,
            self.x,
            *self._bounds,
            loss,
            gradient.copy(),  # the routine writes there
            settings.tolerance_change / np.finfo(np.float64).eps,
            settings.tolerance_grad,
            *(work[name] for name in ("wa", "iwa", "task", "lsave", "isave", "dsave")),
            settings.line_search_steps,
            work["ln_task"],
        )
        return int(work["task"][0])

    @property
    def end(self) -> StopReason:
        """Return why the routine ended; where its line search fails, the direction does not descend."""
        request, detail = self.arrays["task"]
        if request != CONVERGED:
            return StopReason.NO_DESCENT
        return StopReason.GRADIENT_TOLERANCE if detail == GRADIENT_SMALL else StopReason.LOSS_TOLERANCE


class PackedScipy(SecondStage):
    """A second stage with SciPy's routine for every member, as `searches`.

    `positions` are the indices of each member's own parameters in its row of x [members, size]. Raises `SettingError`
    where SciPy lacks the routine.
    """

    of_members = (*SecondStage.of_members, "positions")
    searches: list[LbfgsbRun | None]

    def __init__(self, settings: Sequence[ScipySettings], x: Tensor, positions: Sequence[NDArray[np.int64]]) -> None:
        _routine()
        super().__init__(settings, x)
        self.positions = list(positions)

    @property
    def forms(self) -> list[str | None]:
        return [None] * len(self.settings)

    def points(self, rows: Sequence[int]) -> Tensor:
        points = self.x[self._place(rows)]
        started = [index for index, row in enumerate(rows) if self.searches[row] is not None]
        if started:
            vectors = [self._run(rows[index]).x for index in started]
            points[self._place(started)] = self._rows([rows[index] for index in started], vectors)
        return points

    def tell(
        self,
        rows: Sequence[int],
        losses: Sequence[float],
        gradient: Tensor,
        terms: Sequence[tuple[float, ...]] | None = None,
    ) -> list[int]:
        terms = terms if terms is not None else [()] * len(rows)
        on_host = gradient.detach().to("cpu", torch.float64).numpy()
        accepted: list[int] = []
        moved: list[Array] = []
        recorded: list[int] = []
        for index, row in enumerate(rows):
            own = on_host[index, self.positions[row]]
            self.evaluations[row] += 1
            if not (math.isfinite(losses[index]) and np.isfinite(own).all()):
                self.stopped[row] = StopReason.NOT_FINITE
                continue
            is_first = self.searches[row] is None
            if is_first:
                self._start(row)
            point = self._run(row).x.copy()
            is_accepted = self._advance(row, losses[index], own)
            if is_first or is_accepted:
                self.losses[row], self.terms[row] = losses[index], terms[index]
                recorded.append(index)
            if is_accepted:
                accepted.append(row)
                moved.append(point)
        if accepted:
            self.x[self._place(accepted)] = self._rows(accepted, moved)
        self.gradient[self._place([rows[index] for index in recorded])] = gradient[self._place(recorded)]
        return accepted

    def _start(self, row: int) -> None:
        start = self.x[row].detach().to("cpu", torch.float64).numpy()[self.positions[row]]
        run = LbfgsbRun(self.settings[row], start)
        run.call(0.0, np.zeros_like(start))  # its first request is the start point
        self.searches[row] = run
        if self.settings[row].iterations == 0:
            self.stopped[row] = StopReason.ITERATIONS_DONE

    def _advance(self, row: int, loss: float, gradient: Array) -> bool:
        """Advance to the next point to evaluate, or to the end; return whether this completed an iteration."""
        run, is_accepted = self._run(row), False
        point = run.x.copy()
        while self.stopped[row] is None:
            request = run.call(loss, gradient)
            if request == NEW_ITERATE:
                is_accepted = True
                self.iterations[row] += 1
                self.stopped[row] = self._limit(row)
            elif request != EVALUATE:
                self.stopped[row] = run.end
            elif not np.array_equal(run.x, point):  # the same point is not evaluated again, as in SciPy
                break
        return is_accepted

    def _limit(self, row: int) -> StopReason | None:
        """Return the limit that a member has reached, or None, by SciPy's tests between iterations in their order."""
        settings = self.settings[row]
        if self.iterations[row] >= settings.iterations:
            return StopReason.ITERATIONS_DONE
        if settings.max_evaluations is not None and self.evaluations[row] > settings.max_evaluations:
            return StopReason.EVALUATIONS_DONE
        return None

    def _run(self, row: int) -> LbfgsbRun:
        run = self.searches[row]
        assert run is not None, "the member has a first value"
        return run

    def _rows(self, rows: Sequence[int], vectors: Sequence[Array]) -> Tensor:
        """Return the members' vectors as rows [rows, size] in the precision and on the device of `x`."""
        padded = np.zeros((len(rows), self.x.shape[1]))
        for place, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
            padded[place, self.positions[row]] = vector
        return torch.as_tensor(padded).to(self.x.device, self.x.dtype)

    def _place(self, rows: Sequence[int]) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.int64, device=self.x.device)

    def state(self, row: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        values, tensors = super().state(row)
        run = self.searches[row]
        if run is not None:
            arrays = {"x": run.x, **run.arrays}
            tensors |= {OWN + name: torch.as_tensor(array.copy()) for name, array in arrays.items()}
        return values, tensors

    def load(self, row: int, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().load(row, values, tensors)
        self.searches[row] = None
        if OWN + "x" in tensors:
            run = LbfgsbRun(self.settings[row], tensors[OWN + "x"].cpu().numpy())
            for name, array in run.arrays.items():
                array[:] = tensors[OWN + name].cpu().numpy()
            self.searches[row] = run


def _work_arrays(n: int, m: int, integer: Any) -> dict[str, NDArray[Any]]:
    """Return the routine's arrays for n variables and m pairs, as `scipy.optimize` allocates them."""
    return {
        "wa": np.zeros(2 * m * n + 5 * n + 11 * m * m + 8 * m),
        "iwa": np.zeros(3 * n, integer),
        "task": np.zeros(2, integer),
        "lsave": np.zeros(4, integer),
        "isave": np.zeros(44, integer),
        "dsave": np.zeros(29),
        "ln_task": np.zeros(2, integer),
    }


@functools.cache
def _routine() -> tuple[Callable[..., None], Any]:
    """Return SciPy's `setulb` and its integer type, after a test on the minimum of (x - 1)^2.

    The routine is private to SciPy. It has its present form since 1.15, and its integers have 32 or 64 bits. Raises
    `SettingError` where it is missing or different.
    """
    for integer in (np.int32, np.int64):
        try:
            from scipy.optimize._lbfgsb import setulb

            if _finds_a_minimum(setulb, integer):
                return setulb, integer
        except Exception:  # a routine of another form may raise anything
            continue
    raise SettingError(
        "second_stage",
        "scipy",
        "needs the L-BFGS-B routine of SciPy 1.15 or later, in the form that 1.15 to 1.17 have",
        "Install scipy>=1.15,<1.18, or use second_stage: lbfgs.",
    )


def _finds_a_minimum(setulb: Callable[..., None], integer: Any) -> bool:
    x, kind, bound, gradient, loss = np.zeros(1), np.zeros(1, integer), np.zeros(1), np.zeros(1), 0.0
    *work, line_search = _work_arrays(1, 1, integer).values()
    for _ in range(20):
        setulb(1, x, bound, bound, kind, loss, gradient, 1e-6, 1e-7, *work, 20, line_search)
        if work[2][0] == EVALUATE:
            loss, gradient = float((x[0] - 1) ** 2), 2 * (x - 1)
        elif work[2][0] != NEW_ITERATE:
            return bool(work[2][0] == CONVERGED and x[0] == 1)
    return False
