"""The parts of an error, on networks whose parts are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from pinncore import Box, DataError, NonlocalStrain, Problem, TrainedNetwork, TrainSettings
from pinncore.budget import approximation, parts
from pinncore.budget.approximation import Approximation, best_fit
from pinncore.budget.minimiser import Minimiser
from pinncore.budget.parts import ErrorBudget, Formulation, error_budget


class Bump(Problem):
    """u' = f with u = 0 at both ends by construction; a unit of tanh is the solution, within the hard conditions."""

    coordinates = {"x": "m"}
    outputs = {"u": "K"}
    domain = Box(x=(0, 2))
    stretch: float = 1.0

    def transform(self, u: Any, x: Any) -> Any:
        return x * (2 - x) * u

    def equations(self, u: Any, x: Any) -> Any:
        return {"slope": u.diff(x) - self.stretch * self.reference(x).diff(x)}

    def reference(self, x: Any) -> Any:
        return x * (2 - x) * (3 * sp.tanh(2 * x - 1) - 1)


class Unknown(Bump):
    def reference(self, x: Any) -> Any:
        return x**2

    @property
    def solution(self) -> None:
        return None


def network(problem: Problem, *parameters: float) -> TrainedNetwork:
    """Return a network of one unit: w1, b1, w2, b2, in inputs from -1 to 1."""
    return TrainedNetwork(problem, TrainSettings(width=1, depth=1, engine="torch"), np.array(parameters))


def test_the_fit_keeps_hard_conditions_and_starts_from_the_network_too() -> None:
    exact = network(Bump(points=64), 2.0, 1.0, 3.0, -1.0)
    fit = best_fit(exact)
    assert fit.rel_l2 < 1e-12 and fit.start == "the weights of the trial"
    assert best_fit(network(Bump(points=64), 2.4, 0.6, 1.5, 0.0)).rel_l2 < 1e-5


def test_a_budget_of_an_exact_network() -> None:
    budget = error_budget(network(Bump(points=64), 2.0, 1.0, 3.0, -1.0))
    assert isinstance(budget.formulation, Formulation)
    assert budget.rel_l2 < 1e-14 and budget.loss < 1e-25
    assert budget.formulation.exact.kind == "polynomials"
    assert budget.formulation.distance == pytest.approx(budget.formulation.exact.rel_l2)


def test_the_formulation_is_blamed_where_the_equation_is_another() -> None:
    """The loss of the network with the truth is not the smallest one; the minimiser is 1.2 times the truth."""
    budget = error_budget(network(Bump(points=64, stretch=1.2), 2.0, 1.0, 3.6, -1.2))
    assert isinstance(budget.formulation, Formulation)
    assert budget.rel_l2 == pytest.approx(0.2)
    assert budget.formulation.exact.rel_l2 == pytest.approx(0.2, rel=1e-3)
    assert budget.formulation.distance < 1e-3
    assert budget.approximation.rel_l2 < 1e-5
    assert budget.largest == "formulation"


def test_finite_elements_have_their_solution_as_the_exact_minimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth is that solution; the network u = 0 is 100 % away from it."""
    monkeypatch.setattr(parts, "best_fit", lambda *_: Approximation(0.001, "new weights", 6400))
    problem = NonlocalStrain(formulation="fe")
    zero = TrainedNetwork(problem, TrainSettings(width=1, depth=1), np.zeros(5))
    budget = error_budget(zero)
    assert isinstance(budget.formulation, Formulation) and budget.formulation.nodal is not None
    assert budget.formulation.nodal == (1.0, pytest.approx(0, abs=1e-10))
    assert budget.formulation.distance == pytest.approx(1.0)
    assert budget.formulation.exact.rel_l2 == pytest.approx(0.0073, abs=1e-3)
    solution = problem.nodes.values["u_h"]
    assert budget.loss == pytest.approx(solution @ (problem.coupling @ solution) / 2)
    assert (budget.rel_l2, budget.residual_at, budget.residual_between) == (1.0, None, None)
    assert budget.largest == "optimisation"


def test_without_a_reference_there_is_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximation, "Pack", None)  # nothing is trained
    with pytest.raises(DataError, match=r"unknown: an error budget needs a reference.*Give the problem a reference"):
        error_budget(network(Unknown(points=8), 1.0, 0.0, 1.0, 0.0))


EXACT = Minimiser("cosines", 16, 4.0, 0.005, np.zeros((1, 1)))
BUDGET = ErrorBudget(0.02, 5.0, Approximation(0.001, "new weights", 10), Formulation((EXACT,), 0.018), 0.05, 0.04)


@pytest.mark.parametrize(
    ("changes", "largest"),
    [
        ({}, "optimisation"),
        ({"loss": 3.7}, "optimisation"),
        ({"loss": 3.5}, "between the points"),
        ({"residual_between": 0.19}, "optimisation"),
        ({"residual_between": 0.21}, "between the points"),
        ({"approximation": Approximation(0.01, "new weights", 10)}, "approximation"),
        ({"formulation": Formulation((EXACT,), 0.004)}, "formulation"),
        ({"formulation": "the equation is not linear"}, "optimisation"),
        ({"formulation": "the equation is not linear", "loss": 0.0}, "optimisation"),
        ({"formulation": "the equation is not linear", "residual_between": 0.21}, "between the points"),
        ({"formulation": "not linear", "approximation": Approximation(0.011, "new weights", 1)}, "approximation"),
        ({"residual_between": None}, "optimisation"),
    ],
)
def test_the_part_to_look_at_first(changes: dict[str, Any], largest: str) -> None:
    assert replace(BUDGET, **changes).largest == largest
