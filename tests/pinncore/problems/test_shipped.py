"""The shipped problems: short files whose solutions fulfil their own equations, and agree with a second method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy.fft import dst, idst
from scipy.integrate import solve_ivp

from pinncore import PROBLEMS, Problem, problem_class
from pinncore.equations.evaluation import evaluated
from pinncore.problems import DEFAULT
from pinncore.problems.columns import PointSet
from pinncore.references.allen_cahn import allen_cahn
from pinncore.references.burgers import burgers
from pinncore.references.heat import heat
from pinncore.settings import description, hints

Array = NDArray[np.float64]

NAMES = [name for name in PROBLEMS if name != DEFAULT]
OTHER_SETTINGS = {  # solutions must follow their settings
    "poisson": {"half_waves": 3},
    "helmholtz": {"wave_number": 3.0},
    "screened_poisson": {"length": 0.5, "transfer": 1.0},
    "heat": {"diffusivity": 0.1, "contrast": 0.8, "source": -2.0},
    "burgers": {"viscosity": 0.02},
    "allen_cahn": {"diffusion": 1e-3, "reaction": 3.0},
    "wave": {"speed": 0.7},
    "kovasznay": {"reynolds": 100.0},
    "regression": {"frequency": 7.0},
}
STEPS = {"heat": 5e-3, "burgers": 2e-4, "allen_cahn": 1e-3}  # of differences of solutions without a formula
TOLERANCES = {"heat": 1e-5, "burgers": 1e-4, "allen_cahn": 1e-4}  # of these differences; formulas: 1e-11


def derivative(function: Callable[..., Array], axis: str, step: float) -> Callable[..., Array]:
    """Differences of sixth order."""

    def differences(**at: Array) -> Array:
        shifts = np.array([-3, -2, -1, 1, 2, 3])
        weights = np.array([-1 / 60, 0.15, -0.75, 0.75, -0.15, 1 / 60]) / step
        many = {name: np.tile(values, len(shifts)) for name, values in at.items()}  # one call: solutions take time
        many[axis] = (at[axis] + step * shifts[:, None]).ravel()
        return np.asarray(weights @ function(**many).reshape(len(shifts), -1))

    return differences


def channels(problem: Problem, group: Any, points: PointSet) -> dict[str, Array]:
    """The channels of the solution itself, by the names of their symbols."""
    coordinates = [column.symbol for column in problem.coordinates]
    solution = problem._reference
    values = {}
    for number, output in enumerate(problem.outputs):
        if callable(solution):
            step = STEPS[problem.name]

            def differentiated(*axes: str, step: float = step, solution: Any = solution) -> Array:
                function = solution
                for axis in axes:
                    function = derivative(function, axis, step)
                return function(**{name: points.values[name] for name in coordinates})
        else:
            expression = solution[output.symbol] if isinstance(solution, Mapping) else solution

            def differentiated(*axes: str, expression: Any = expression) -> Array:
                symbols = [sp.Symbol(axis, real=True) for axis in axes]
                expressions = (sp.diff(expression, *symbols) if symbols else expression,)
                return evaluated(expressions, points.values)[0]

        record = group.channels
        firsts = [coordinates[axis] for axis in record.firsts]
        columns = problem.group_columns(problem.groups.index(group), points)
        found = [differentiated(), *(differentiated(axis) for axis in firsts)]
        for form in record.forms:
            terms = [
                (1.0 if column is None else columns[column]) * differentiated(firsts[p], firsts[q])
                for p, q, column in form
            ]
            found.append(np.sum(terms, axis=0))
        values |= {symbol.name: each for symbol, each in zip(group.channel_symbols[number], found, strict=True)}
    return values


def away_from_ends(problem: Problem, points: PointSet) -> PointSet:
    """Points that differences can be taken at: not within three steps of an end, but on faces where they lie there."""
    if not callable(problem._reference):
        return points
    step = STEPS[problem.name]
    inside = np.ones(len(points), dtype=bool)
    for name, (low, high) in problem._limits.items():
        inside &= (points.values[name] > low + 7 * step) & (points.values[name] < high - 7 * step)
    return problem.at(points.name, {name: values[inside] for name, values in points.values.items()})


@pytest.mark.parametrize("settings", ["defaults", "others"])
@pytest.mark.parametrize("name", NAMES)
def test_its_solution_fulfils_equations_and_conditions(name: str, settings: str) -> None:
    chosen: dict[str, Any] = OTHER_SETTINGS[name] if settings == "others" else {}
    problem = problem_class(name)(points=512, condition_points=64, **chosen)
    checked = []
    for index, (group, drawn) in enumerate(zip(problem.groups, problem.point_sets, strict=True)):
        points = away_from_ends(problem, drawn)
        if not len(points):  # a face, where differences lead out of the domain
            assert not group.channels.count > 1 or group.terms == ("insulated",)
            points = drawn
            if group.channels.count > 1:
                continue
        columns, parameters = problem.group_columns(index, points), problem.group_parameters(index)
        values = channels(problem, group, points)
        values |= {symbol.name: column for symbol, column in zip(group.column_symbols, columns, strict=True)}
        symbols = zip(group.parameter_symbols, parameters, strict=True)
        values |= {symbol.name: np.full(len(points), number) for symbol, number in symbols}
        for residual, found in zip(group.residuals, evaluated(group.residuals, values), strict=True):
            parts = evaluated(tuple(sp.Add.make_args(residual)), values)
            size = 1.0 + np.abs(parts).sum(axis=0).max()
            assert np.abs(found).max() <= TOLERANCES.get(name, 1e-11) * size, group.terms
        checked += group.terms
    assert set(problem.written.equations) <= set(checked)
    assert {"wave": 4, "heat": 3}.get(name, len(problem.terms)) == len(checked)


@pytest.mark.parametrize("name", NAMES)
def test_its_file_is_short_and_its_settings_are_described(name: str) -> None:
    kind = problem_class(name)
    assert kind.name == name
    assert len(Path(inspect.getfile(kind)).read_text().splitlines()) <= 40
    assert len(kind.title()) > 10 and not kind.title().endswith(kind.__name__)
    assert [setting for setting, hint in hints(kind).items() if not description(hint)] == []
    changed = kind(**OTHER_SETTINGS[name])
    if name != "helmholtz":  # whose source follows its wave number, and keeps the solution
        assert changed.solution is not None
        assert np.abs(changed.solution - kind().solution).max() > 0.01


@pytest.mark.parametrize("name", [name for name in NAMES if name != "regression"])
def test_weights_of_conditions_are_settings(name: str) -> None:
    kind = problem_class(name)
    weights = {setting: 2.0 + n for n, setting in enumerate(s for s in hints(kind) if s.endswith("_weight"))}
    plain, weighted = kind(), kind(**weights)
    assert weights and weighted.groups is plain.groups, "they are no structure: trials that differ in them share a pack"
    equations = len(plain.written.equations)
    assert weighted.weights[:equations] == plain.weights[:equations] == (1.0,) * equations
    assert set(weighted.weights[equations:]) == set(weights.values())


def test_hard_conditions_hold_for_every_network() -> None:
    kind = problem_class("allen_cahn")
    soft, hard = kind(), kind(constraints="hard")
    assert soft.terms == ("phase", "walls", "start") and hard.terms == ("phase",)
    raw = np.random.default_rng(0).normal(size=(1, 256))
    _, walls, start = soft.point_sets
    np.testing.assert_allclose(hard.to_physical(raw, walls), -1, atol=1e-15)
    expected = start.values["x"] ** 2 * np.cos(np.pi * start.values["x"])
    np.testing.assert_allclose(hard.to_physical(raw, start)[0], expected, atol=1e-15)
    assert np.array_equal(soft.to_physical(raw, walls), raw)


class TestReferences:
    def test_burgers_has_the_published_slope(self) -> None:
        """Basdevant et al. 1986: the largest slope at the origin is 152.00516, at pi t = 1.6037."""
        step, viscosity = 1e-4, 0.01 / np.pi
        x, t = np.array([step, 2 * step, 3 * step]), np.full(3, 1.6037 / np.pi)
        u = burgers(x, t, viscosity=viscosity)  # odd in x
        slope = 2 * np.dot([0.75, -0.15, 1 / 60], u) / step
        assert slope == pytest.approx(-152.00516, abs=2e-5)

    def test_burgers_beside_a_sine_series(self) -> None:
        """A smooth case by a Galerkin method in 48 sines, integrated in time."""
        viscosity, modes = 0.1, np.arange(1, 49)
        nodes = (np.arange(256) + 0.5) / 256

        def velocity(coefficients: Array, at: Array) -> Array:
            return np.sin(np.pi * np.outer(at, modes)) @ coefficients

        def rate(_: float, coefficients: Array) -> Array:
            flux = velocity(coefficients, nodes) ** 2 / 2
            projected = 2 * np.pi * modes * (np.cos(np.pi * np.outer(modes, nodes)) @ flux) / len(nodes)
            return projected - viscosity * (np.pi * modes) ** 2 * coefficients

        times = np.array([0.1, 0.5, 1.0])
        found = solve_ivp(rate, (0, 1), -1.0 * (modes == 1), "Radau", t_eval=times, rtol=1e-10, atol=1e-12)
        x = np.linspace(-1, 1, 41)
        for time, coefficients in zip(times, found.y.T, strict=True):
            u = burgers(x, np.full(41, time), viscosity=viscosity)
            np.testing.assert_allclose(u, velocity(coefficients, x), atol=1e-8, err_msg=f"t = {time}")

    def test_heat_beside_finite_volumes(self) -> None:
        """Second order on two grids, extrapolated."""

        def volumes(cells: int) -> Array:
            faces = np.linspace(0, 1, cells + 1)
            k = 0.5 * (1 + 0.5 * np.cos(2 * np.pi * faces)) * cells**2
            source = np.sin(np.pi * (faces[1:] + faces[:-1]) / 4)

            def rate(_: float, u: Array) -> Array:
                flux = np.concatenate([[k[0] * (3 * u[0] - u[1] / 3)], k[1:-1] * np.diff(u), [0.0]])
                return np.diff(flux) + source

            band = {"lband": 1, "uband": 1, "rtol": 1e-10, "atol": 1e-12}
            return np.asarray(solve_ivp(rate, (0, 0.4), source, "LSODA", **band).y[:, -1])

        coarse, fine = volumes(135), volumes(405)  # every third middle of a fine cell is that of a coarse one
        u = (9 * fine[1::3] - coarse) / 8
        x = (np.arange(135) + 0.5) / 135
        np.testing.assert_allclose(heat(x, np.full(135, 0.4), diffusivity=0.5, contrast=0.5, source=1.0), u, atol=1e-6)

    def test_allen_cahn_beside_splitting(self) -> None:
        """Strang's splitting: diffusion in sines of u + 1, the reaction by its formula; two steps, extrapolated."""
        diffusion, reaction, cells = 1e-4, 5.0, 2048
        x = np.linspace(-1, 1, cells + 1)[1:-1]
        waves = np.pi * np.arange(1, cells) / 2

        def split(steps: int) -> Array:
            u = x**2 * np.cos(np.pi * x)
            step = 0.6 / steps
            decay = np.exp(-diffusion * waves**2 * step)

            def react(u: Array, time: float) -> Array:
                return u / np.sqrt(u**2 + (1 - u**2) * np.exp(-2 * reaction * time))

            for _ in range(steps):
                u = react(u, step / 2)
                u = idst(decay * dst(u + 1, type=1), type=1) - 1
                u = react(u, step / 2)
            return u

        u = (4 * split(400) - split(200)) / 3
        found = allen_cahn(x, np.full(cells - 1, 0.6), diffusion=diffusion, reaction=reaction)
        np.testing.assert_allclose(found, u, atol=1e-6)
