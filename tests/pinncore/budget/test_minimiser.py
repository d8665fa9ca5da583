"""Exact minimisers of linear losses: known floors of the bundled data, a known solution, conditions of a minimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from pinncore import PROBLEMS, NonlocalStrain, Problem, problem_class
from pinncore.budget import minimiser
from pinncore.budget.basis import Basis, Kind
from pinncore.budget.linear import linear_terms, why_nonlinear
from pinncore.budget.minimiser import Minimiser, minimisers
from pinncore.equations.evaluation import evaluated
from pinncore.problems.columns import relative

from ..engines import every_kind

FLOORS = {20: 0.0129, 30: 0.0061}  # published for the 6400 Gauss points
BEST_FITS = {20: 0.0124, 30: 0.0041}  # of the truth itself


@pytest.fixture
def to_30(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give bases 20 and 30 functions of each coordinate."""
    monkeypatch.setattr(minimiser, "MOST_FUNCTIONS", {"cosines": 900, "polynomials": 900})
    monkeypatch.setattr(minimiser, "SIZES", (2 / 3, 1.0))


@pytest.mark.usefixtures("to_30")
def test_the_strong_form_on_strb100_has_its_known_floors() -> None:
    found = [*minimisers(NonlocalStrain(boundary_weight=0.05))]
    assert [(each.kind, each.functions) for each in found] == [("cosines", size**2) for size in FLOORS]
    assert [each.rel_l2 for each in found] == pytest.approx([*FLOORS.values()], abs=6e-5)


def test_both_forms_of_one_loss_term_have_one_minimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines have no boundary terms on StrB100."""
    monkeypatch.setattr(minimiser, "MOST_FUNCTIONS", {"cosines": 64})
    norm, squares = (_last(NonlocalStrain(loss=loss, boundary_weight=0.05)) for loss in ("norm", "mean_square"))
    assert norm.rel_l2 == pytest.approx(squares.rel_l2, rel=1e-8)
    assert norm.loss**2 / 6400 == pytest.approx(squares.loss, rel=1e-8)


def test_the_truth_on_strb100_has_its_known_best_fits() -> None:
    problem = NonlocalStrain()
    values, solution = problem.field_points.values, problem.solution
    assert solution is not None
    basis = Basis("cosines", np.zeros(2), np.full(2, 100.0), 30)
    functions = basis.values(np.stack([values["x"], values["y"]], axis=1), (0, 0))
    for size, expected in BEST_FITS.items():
        part = functions[:, : size**2]
        fit = part @ np.linalg.solve(part.T @ part, part.T @ solution[0])
        assert relative(fit, solution[0]) == pytest.approx(expected, abs=6e-5)


def test_with_the_local_strain_as_an_input_the_minimiser_is_the_local_strain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimiser, "MOST_FUNCTIONS", {"cosines": 64})
    last = _last(NonlocalStrain(inputs=("x", "y", "g", "elocal")))
    assert last.loss < 1e-9
    assert last.rel_l2 == pytest.approx(0.173, abs=5e-4)


@pytest.mark.parametrize("loss", ["mean_square", "norm"])
def test_a_known_solution_is_found(loss: str) -> None:
    first, *_, last = minimisers(problem_class("poisson")(loss=loss, points=1600))
    assert first.kind == "polynomials" and first.functions < last.functions
    assert last.rel_l2 < 1e-9
    assert last.loss < 1e-6 * first.loss


def test_several_outputs_and_a_varying_coefficient() -> None:
    """u'' = w, w'' = exp(x), u = 0 at both ends leaves u = exp(x) + a x³ + ... free: the loss can be zero."""
    problem = every_kind.OneInput(points=80)
    terms = [*linear_terms(problem)]
    basis = minimiser.basis_for(problem, terms)
    assert basis is not None and basis.kind == "polynomials"
    parts = [minimiser._reduced(problem, basis, term) for term in terms]
    unknowns, loss = minimiser._minimum(parts, np.ones(len(parts)), is_norm=False)
    assert loss < 1e-18
    x = np.linspace(0, 1, 50)[:, None]
    slope = basis.values(x, (2,)) @ unknowns.reshape(-1, 2)
    values = basis.values(x, (0,)) @ unknowns.reshape(-1, 2)
    assert slope[:, 0] == pytest.approx(values[:, 1], abs=1e-8)
    assert slope[:, 1] == pytest.approx(np.exp(x[:, 0]), abs=1e-7)


def test_the_sum_of_norms_is_smallest() -> None:
    """The gradient of sum(scale ||A c - b||) is zero."""
    generator, scales = np.random.default_rng(0), np.array([1.0, 0.3, 2.0])
    parts = [generator.normal(size=(rows, 8)) for rows in (30, 12, 9)]
    unknowns, loss = minimiser._minimum(parts, scales, is_norm=True)
    residuals = [part @ np.append(unknowns, -1.0) for part in parts]
    norms = [np.linalg.norm(each) for each in residuals]
    pulls = [s * part[:, :-1].T @ r / n for s, part, r, n in zip(scales, parts, residuals, norms, strict=True)]
    assert loss == pytest.approx(float(scales @ norms))
    assert np.abs(sum(pulls)).max() < 1e-2 * max(np.abs(pull).max() for pull in pulls)


def test_dependent_functions_do_no_harm() -> None:
    rows = np.random.default_rng(1).normal(size=(20, 4))
    unknowns, loss = minimiser._minimum([np.hstack([rows[:, :3], rows])], np.ones(1), is_norm=False)
    expected = np.linalg.lstsq(rows[:, :3], rows[:, 3], rcond=None)[1][0]
    assert loss == pytest.approx(expected)
    assert np.abs(unknowns).max() < 10


@pytest.mark.parametrize("kind", ["cosines", "polynomials"])
def test_derivatives_of_a_basis(kind: Kind) -> None:
    basis = Basis(kind, np.array([-1.0, 2.0]), np.array([3.0, 2.5]), 6)
    places, step = np.array([[0.3, 2.2], [2.9, 2.4]]), 1e-5
    for orders, axis in (((1, 0), 0), ((0, 1), 1), ((2, 0), 0), ((1, 1), 1)):
        lower = tuple(order - (number == axis) for number, order in enumerate(orders))
        shift = step * np.eye(2)[axis]
        slope = (basis.values(places + shift, lower) - basis.values(places - shift, lower)) / (2 * step)
        assert basis.values(places, orders) == pytest.approx(slope, rel=1e-6, abs=1e-5)
    assert basis.values(places, (0, 0))[:, :16] == pytest.approx(
        Basis(kind, basis.low, basis.high, 4).values(places, (0, 0))
    )


def test_which_shipped_problems_are_linear() -> None:
    reasons = {name: why_nonlinear(problem_class(name)()) for name in PROBLEMS}
    assert {name for name, reason in reasons.items() if reason} == {"allen_cahn", "burgers", "kovasznay"}
    assert reasons["burgers"] == "the equation momentum is not linear in u"
    assert "torch function" in str(why_nonlinear(every_kind.Clipped()))


@pytest.mark.parametrize("kind", [every_kind.Helmholtz, every_kind.VariableWave, every_kind.FourInputs])
def test_terms_are_those_that_the_problem_writes(kind: type[Problem]) -> None:
    """A polynomial put into the equation as it is written gives the same residuals."""
    problem = kind(points=20, condition_points=8)
    coordinates = problem.written.coordinates
    solution = sum((number + 1) * x**2 + x * coordinates[0] ** 3 for number, x in enumerate(coordinates))
    for term in linear_terms(problem):
        (field,) = problem.written.fields
        written: Any = problem.written.terms[term.name].subs(field, solution).doit()
        names = {**problem.symbol_values(), **term.points.values}
        found = term.free.copy()
        for (_, orders), factors in term.coefficients.items():
            pairs = [(x, order) for x, order in zip(coordinates, orders, strict=True) if order]
            slope = sp.diff(solution, *pairs) if pairs else solution
            found = found + factors * evaluated((slope,), names)[0]
        assert found == pytest.approx(evaluated((written,), names)[0], rel=1e-12)


def _last(problem: Problem) -> Minimiser:
    *_, last = minimisers(problem)
    return last
