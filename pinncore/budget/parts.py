"""The parts of a trained network's error, and which of them matters most.

The parts are measured apart, each by the relative L2 error or distance that it alone causes, and do not add up exactly:

    approximation    the same network fitted to the reference itself
    formulation      the exact minimiser of the same loss, where the equation is linear
    optimisation     the distance of the network to that minimiser; what the loss has left
    between points   the residual between the training points, over that at them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from ..errors import DataError
from ..problems import Problem
from ..problems.columns import Array, rms
from ..problems.nonlocal_strain import NonlocalStrain
from ..trained import TrainedNetwork
from .approximation import Approximation, Look, best_fit
from .linear import why_nonlinear
from .minimiser import Minimiser, minimisers
from .nodal import nodal_errors, nodal_minimiser

Part = Literal["approximation", "formulation", "optimisation", "between the points"]

LARGE: Final = 0.5  # share of what is left to explain from which the approximation explains it
PASSED: Final = 0.9  # of the exact minimiser's loss; on StrB100 the error falls until the loss is 0.7 to 0.9 of it
OVERFITTED: Final = 4.0  # residual between the points over that at them, from which the points are fitted


@dataclass(frozen=True)
class Formulation:
    """The exact minimiser of the loss, in bases of several sizes, and the network's distance to the largest.

    `distance` is the L2 norm of the difference over that of the reference: at the field points, with finite elements
    as the shape functions read nodal values there. So read, the network's error is `nodal[0]`, the minimiser's
    `nodal[1]`.
    """

    minimisers: tuple[Minimiser, ...]
    distance: float
    nodal: tuple[float, float] | None = None

    @property
    def exact(self) -> Minimiser:
        """Return the minimiser in the largest basis."""
        return self.minimisers[-1]


@dataclass(frozen=True)
class ErrorBudget:
    """The error of a network, and what it consists of.

    `formulation` is a text where it is not known, which says why. Residuals are RMS values over that of the forcing;
    both are None where no residual is held out.
    """

    rel_l2: float
    loss: float
    approximation: Approximation
    formulation: Formulation | str
    residual_at: float | None
    residual_between: float | None

    @property
    def fits_points(self) -> bool:
        """Return whether a smaller loss would fit the training points better, and not the solution."""
        has_passed = isinstance(self.formulation, Formulation) and self.loss < PASSED * self.formulation.exact.loss
        return has_passed or self.is_larger_between(OVERFITTED)

    def is_larger_between(self, times: float) -> bool:
        """Return whether the residual between the training points is over so many times that at them."""
        at, between = self.residual_at, self.residual_between
        return at is not None and between is not None and between > times * at

    @property
    def largest(self) -> Part:
        """Return the part to work on first."""
        left = self.rel_l2
        if isinstance(self.formulation, Formulation):
            left = self.formulation.distance
            if self.formulation.exact.rel_l2 >= left:
                return "formulation"
        if self.approximation.rel_l2 >= LARGE * left:
            return "approximation"
        return "between the points" if self.fits_points else "optimisation"


def error_budget(network: TrainedNetwork, look: Look | None = None) -> ErrorBudget:
    """Return the error budget of a network. Raises `DataError` where its problem has no reference.

    `look` is called with the pack of the fits from time to time.
    """
    problem = network.problem
    if (reason := _why_not(problem)) is not None:
        raise DataError(f"{problem.name}: an error budget needs a reference, and {reason}. {problem.reference_advice}")
    raw, metrics = network.raw(problem.field_points), network.metrics()
    error = problem.error(raw)
    assert error is not None
    return ErrorBudget(
        error,
        network.loss(),
        best_fit(network, look),
        _formulation(network, raw),
        metrics.get("trained_residual"),
        metrics.get("heldout_residual"),
    )


def _why_not(problem: Problem) -> str | None:
    if problem.solution is None:
        return "there is none"
    return None if problem.solution.any(axis=1).all() else "it is 0 everywhere"


def _formulation(network: TrainedNetwork, raw: Array) -> Formulation | str:
    """Return the exact minimiser of the network's loss; `raw` are its outputs [outputs, points] on the field points."""
    problem = network.problem
    if isinstance(problem, NonlocalStrain) and problem.loss_form == "energy":
        error, least, distance = nodal_errors(problem, network)
        return Formulation((nodal_minimiser(problem),), distance, (error, least))
    if (reason := why_nonlinear(problem)) is not None:
        return reason
    exact = tuple(minimisers(problem))
    if not exact:
        return "the points are too few"
    assert problem.solution is not None
    found, exactly = (problem.to_physical(each, problem.field_points) for each in (raw, exact[-1].raw))
    away = np.linalg.norm(found - exactly, axis=1) / np.linalg.norm(problem.solution, axis=1)
    return Formulation(exact, rms(away))
