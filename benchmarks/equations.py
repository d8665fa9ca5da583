"""Cases of other equations: their residuals alone, at points in physical units, with a coefficient for each member."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pinncore import Condition, Problem, problem_class

from .case import Answers, Array, Case, reference_answers
from .options import Shape

COEFFICIENTS: Final = {  # the setting of each equation that members differ in
    "burgers": "viscosity",
    "helmholtz": "wave_number",
    "allen_cahn": "diffusion",
    "kovasznay": "reynolds",
}
POINTS: Final = 4096
STEP: Final = 0.1  # between the coefficients of two members, relative to the first


@dataclass(frozen=True, kw_only=True)
class EquationCase(Answers):
    """Mean squares of an equation's residuals: `equation` [], `points` [points, 2], `coefficients` [members].

    Networks see the physical coordinates as they are.
    """

    each: ClassVar[tuple[str, ...]] = (*Answers.each, "coefficients")

    equation: NDArray[np.str_]
    points: Array
    coefficients: Array

    @property
    def name(self) -> str:
        """Return the name of the shipped problem."""
        return str(self.equation)


def build_equation_case(name: str, shape: Shape, *, members: int, step: float = STEP) -> EquationCase:
    """Build a case of the shipped problem `name`; coefficients are 1, 1 + step, ... times the default."""
    kind = problem_class(name)
    low, high = np.array(list(kind.domain.limits.values())).T
    points = low + (high - low) * np.random.default_rng(0).random((POINTS, 2))
    coefficients = getattr(kind(), COEFFICIENTS[name]) * (1 + step * np.arange(members))
    layers = (*shape.layers[:-1], len(kind.outputs))
    answers = reference_answers(problems_of(name, points, coefficients), layers)
    return EquationCase(equation=np.array(name), points=points, coefficients=coefficients, **answers)


def problems_of(name: str, points: Array, coefficients: Array) -> list[Problem]:
    """Return a problem for each coefficient."""
    problems = []
    for coefficient in coefficients:
        chosen: dict[str, Any] = {COEFFICIENTS[name]: float(coefficient)}
        problem = _alone(name)(**chosen)
        symbols = [column.symbol for column in problem.coordinates]
        vars(problem)["point_sets"] = (problem.at("inside", dict(zip(symbols, points.T, strict=True))),)
        problems.append(problem)
    return problems


@functools.cache
def _alone(name: str) -> type[Problem]:
    kind = problem_class(name)

    class Alone(kind):  # type: ignore[misc, valid-type]
        """A shipped problem without its conditions, whose network sees the coordinates as they are."""

        def conditions(self) -> list[Condition]:
            return []

        @property
        def scales(self) -> Mapping[str, tuple[float, float]]:
            return {column.symbol: (0.0, 1.0) for column in self.coordinates}

    return Alone


def load_case(path: str | Path) -> Case | EquationCase:
    """Read a case of either kind."""
    with np.load(path) as archive:
        kind = EquationCase if "equation" in archive.files else Case
    return kind.load(path)
