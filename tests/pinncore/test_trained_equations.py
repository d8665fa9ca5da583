"""Trained networks of several outputs, with hard conditions, in domains: as functions, and as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

from pinncore import Condition, Disk, Problem, SettingError, Table, TrainedNetwork, TrainSettings
from pinncore.initialisation import initial_parameters
from pinncore.weight_files import about, write_network

from .helpers import assert_close

X, Y = np.random.default_rng(0).uniform(0.1, 0.9, (2, 30))
GRID = np.stack(np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 1, 21))).reshape(2, -1)
GRID = GRID[:, np.abs(GRID - 0.5).max(axis=0) > 0.2]  # with a hole


class Flow(Problem):
    """Two outputs, one with a reference size and a hard condition that needs data at points."""

    coordinates = {"x": "m", "y": "s"}
    outputs = {"u": "m/s", "p": "Pa"}
    known = {"e": "1"}
    sized = ("p",)
    strength: float = 0.4
    domain = Table({"x": GRID[0], "y": 100 * GRID[1], "e": GRID[0] * GRID[1]})  # two units of different size

    def equations(self, u: Any, p: Any, x: Any, y: Any, e: Any) -> Any:
        return {"first": u.diff(x) + self.strength * p, "second": p.diff(y, 2) - u * x}

    def transform(self, u: Any, p: Any, x: Any, y: Any, e: Any) -> Any:
        return {"u": e + sp.sin(sp.pi * x) * sp.exp(-y) * u + self.strength * sp.Abs(x - 2) / (1 + y**2)}

    @property
    def output_sizes(self) -> dict[str, float]:
        return {"p": 50.0}


class Line(Problem):
    coordinates = {"x": "m"}
    outputs = {"u": "m"}
    domain = Table({"x": [0.0, 0.5, 2.0]})

    def equations(self, u: Any, x: Any) -> Any:
        return {"line": u.diff(x) - 1}


class Round(Problem):
    coordinates = {"x": "m", "y": "m"}
    outputs = {"u": "m"}
    domain = Disk(x=0, y=0, r=1.0)

    def equations(self, u: Any, x: Any, y: Any) -> Any:
        return {"laplace": u.diff(x, 2) + u.diff(y, 2)}

    def conditions(self, u: Any, x: Any, y: Any) -> Any:
        return [Condition("rim", u - x, on=self.domain.boundary)]


def network(kind: type[Problem], *, dtype: str = "float64", engine: str = "torch") -> TrainedNetwork:
    problem = kind(scale_factor=1.5)
    settings = TrainSettings(width=6, depth=2, activation="sin", engine=engine, dtype=dtype)  # type: ignore[arg-type]
    shape = (len(kind.coordinates), 6, 6, len(kind.outputs))
    return TrainedNetwork(problem, settings, initial_parameters("torch", shape, seed=4))


def test_hard_conditions_hold_and_sizes_multiply() -> None:
    trained = network(Flow)
    zero = np.zeros_like(Y)
    at_wall = trained.predict(zero, Y, e=zero + 0.7)
    assert isinstance(at_wall, dict) and list(at_wall) == ["u", "p"]
    assert_close(at_wall["u"], 0.7 + 0.4 * 2 / (1 + Y**2), 1e-14)
    (_, raw) = trained._predictor.value(trained.points(X, Y, e=X).inputs)
    assert_close(trained.predict(X, Y, e=X)["p"], 50 * raw, 1e-15)


def test_the_gradient_is_that_of_the_prediction() -> None:
    trained, step = network(Flow), 1e-5
    slopes = trained.gradient(X, Y, e=X)
    for axis, (dx, dy) in enumerate(((step, 0.0), (0.0, step))):
        above, below = (trained.predict(X + s * dx, Y + s * dy, e=X) for s in (1, -1))
        for name in ("u", "p"):
            assert slopes[name].shape == (30, 2)
            expected = (above[name] - below[name]) / (2 * step)
            assert np.abs(slopes[name][:, axis] - expected).max() < 1e-8 * np.abs(slopes[name]).max()


def test_residuals_are_those_of_the_written_equations() -> None:
    trained = network(Flow)
    values, slopes = trained.predict(X, Y, e=X), trained.gradient(X, Y, e=X)
    residual = trained.residual(X, Y, e=X)
    assert isinstance(residual, dict) and list(residual) == ["first", "second"]
    assert_close(residual["first"], slopes["u"][:, 0] + 0.4 * values["p"], 1e-13)


def test_what_a_hard_condition_needs_must_be_given() -> None:
    with pytest.raises(SettingError, match="e: must be given: the inputs of this network are x, y, e"):
        network(Flow).predict(X, Y)


def test_the_domain_says_where_the_network_was_trained() -> None:
    assert network(Round).covers([0.0, 0.6, 0.9], [0.0, 0.6, 0.9]).tolist() == [True, True, False]
    assert network(Flow).covers([0.1, 0.5, 0.5, 1.1], [10.0, 10.0, 50.0, 10.0]).tolist() == [True, True, False, False]
    assert network(Line).covers([-0.1, 0.0, 1.9, 2.1]).tolist() == [False, True, True, False]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", [Flow, Round])
def test_onnx_is_the_whole_function(tmp_path: Path, kind: type[Problem], dtype: str) -> None:
    reference = pytest.importorskip("onnx.reference")
    trained = network(kind, dtype=dtype)
    write_network(trained, tmp_path / "n.onnx")
    feed = {"x": X, "y": Y} | ({"e": X} if kind is Flow else {})
    predicted = trained.predict(**feed)
    expected = {"predicted": predicted}
    if isinstance(predicted, dict):
        expected = {f"predicted_{name}": values for name, values in predicted.items()}
    found = reference.ReferenceEvaluator(str(tmp_path / "n.onnx")).run(list(expected), feed)
    for name, values in zip(expected, found, strict=True):
        assert values.dtype == np.float64
        assert_close(values, expected[name], 1e-13 if dtype == "float64" else 1e-5, name)


class Gamma(Round):
    def transform(self, u: Any, x: Any, y: Any) -> Any:
        return sp.gamma(x + 3) * u


def test_a_function_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(SettingError, match="gamma") as caught:
        write_network(network(Gamma), tmp_path / "n.onnx")
    assert "another format" in caught.value.way_out
    assert list(tmp_path.iterdir()) == []


def test_metadata_say_how_outputs_follow_from_those_of_the_bare_network() -> None:
    stated = about(network(Flow))
    assert stated["fields"] == ["N_u", "N_p"] and stated["symbols"] == {"size_p": 50.0, "strength": 0.4}
    assert [output["unit"] for output in stated["outputs"]] == ["m/s", "Pa"]
    assert stated["outputs"][1] == {"name": "p", "unit": "Pa", "expression": "N_p*size_p"}
