"""Every mistake in the class of a problem is one message with its file and line, and what to write instead."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinncore import ProblemError
from pinncore.problems import Problem

HEAD = """
import math
import numpy as np
import sympy as sp
from pinncore import Box, Condition, Problem


class Mine(Problem):
    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "m/s"}
    viscosity: float = 0.1
    cells: int = 3
    domain = Box(x=(-1, 1), t=(0, 1))
"""
EQUATIONS = """
    def equations(self, u, x, t):
        return {"momentum": u.diff(t) - self.viscosity * u.diff(x, 2)}
"""
CONDITIONS = """
    def conditions(self, u, x, t):
        return [Condition("walls", u, on=self.domain.faces("x"))]
"""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Any]:
    names: list[str] = []

    def load(text: str) -> type[Problem]:
        file = tmp_path / "mine.py"
        file.write_text(text)
        name = f"mine_{len(names)}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module.Mine

    yield load
    for name in names:
        sys.modules.pop(name, None)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


IN_METHODS = {
    "unknown symbol": ('u - sp.Symbol("q")', r"the symbol q is unknown; known are"),
    "undeclared coordinate": ('u.diff(sp.Symbol("y"))', r"differentiated to y, which is no coordinate; x, t are"),
    "numpy": ("np.sin(u)", r"use those of sympy, such as sympy\.sin"),
    "math": ("math.sin(u)", r"use those of sympy, such as sympy\.sin"),
    "order": ("u.diff(x, 4)", r"Derivative\(u\(x, t\), \(x, 4\)\) is of order 4; the engines go to order 2"),
    "division": ("u / sp.Integer(0)", r"is not finite and real"),
    "imaginary": ("u + sp.I", r"is not finite and real"),
    "None": ("None", r"must be an expression, not None"),
    "text": ('"u"', r"must be an expression, not str 'u'"),
    "truth": ("(u if u < 0 else x)", r"a float setting is a symbol here.*Piecewise"),
    "setting": ("(u if self.viscosity > 0 else x)", r"a float setting is a symbol here.*Piecewise"),
    "own exception": ("[][0]", r"IndexError: list index out of range"),
    "elsewhere": ("u.subs(x, 0)", r"u\(0, t\) is not an output at the point itself"),
}


@pytest.mark.parametrize(("expression", "message"), IN_METHODS.values(), ids=IN_METHODS.keys())
@pytest.mark.parametrize("method", ["equations", "conditions"])
def test_mistakes_in_expressions(load: Any, method: str, expression: str, message: str) -> None:
    if method == "equations":
        text = f'{HEAD}\n    def equations(self, u, x, t):\n        return {{"momentum": {expression}}}\n{CONDITIONS}'
    else:
        text = (
            f"{HEAD}{EQUATIONS}\n    def conditions(self, u, x, t):\n"
            f'        return [Condition("walls", {expression}, on=self.domain.faces("x"))]\n'
        )
    with pytest.raises(ProblemError, match=message) as caught:
        _ = load(text)().groups
    place = re.match(r"(.*mine\.py), line (\d+): Mine\.(\w+): ", str(caught.value))
    assert place is not None
    first = line_of(text, f"def {method}")
    assert (place[3], int(place[2]) in (first, first + 1)) == (method, True)
    assert str(caught.value).count("\n") == 0


OTHERS = {
    "not a dictionary": ("    def equations(self, u): return [u]\n", r"must return a dictionary of expressions"),
    "bad name": ('    def equations(self, u): return {"a b": u}\n', r"must have a name of letters, digits and _"),
    "unknown parameter": ('    def equations(self, u, z): return {"a": u}\n', r"its parameter z is neither an output"),
    "nothing used": ('    def equations(self, x): return {"a": x}\n', r"the output u is in no equation"),
    "no condition": (
        f"{EQUATIONS}    def conditions(self, u): return [u]\n",
        r"must return a list of Condition",
    ),
    "same name": (
        f'{EQUATIONS}    def conditions(self, u): return [Condition("momentum", u, on=self.domain.faces("x"))]\n',
        r"momentum is the name of an equation too",
    ),
    "transform": (
        f"{EQUATIONS}    def transform(self, u): return {{'v': u}}\n",
        r"must return expressions by output, u",
    ),
}


@pytest.mark.parametrize(("methods", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_mistakes_of_methods(load: Any, methods: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message) as caught:
        _ = load(HEAD + methods)().terms
    assert re.match(r".*mine\.py, line \d+: ", str(caught.value))


CLASSES = {
    "train": ("    width: int = 3\n", r"the setting width has the name of a setting of train"),
    "metric": ("    rel_l2: float = 3.0\n", r"the setting rel_l2 has the name of a metric"),
    "column": ("    predicted: float = 3.0\n", r"the setting predicted has the name of a column of the table fields"),
    "symbol": ("    u: float = 3.0\n", r"the setting u has the name of a coordinate, an output or known data"),
    "no default": ("    speed: float\n", r"the setting speed needs a default"),
    "kind": ("    speed: complex = 1j\n", r"the setting speed must be a float, int, bool, str or Literal"),
    "outputs": ("    outputs = {}\n", r"outputs must name at least one quantity"),
    "coordinates": ("    coordinates = ['x']\n", r"coordinates must be a dictionary of names and units"),
    "twice": ("    known = {'x': '1'}\n", r"x is the name of two of coordinates, outputs and known data"),
    "base": ("    known = {'points': '1'}\n", r"points is the name of a setting that every problem has"),
    "too many": ("    coordinates = dict.fromkeys('abcde', 'm')\n", r"coordinates must be 1 to 4, not 5"),
}


def test_a_class_without_coordinates(load: Any) -> None:
    text = HEAD.replace("coordinates", "inputs") + EQUATIONS
    with pytest.raises(ProblemError, match=r"mine\.py, line 8: Mine: it needs coordinates, which the network sees"):
        load(text)


@pytest.mark.parametrize(("declaration", "message"), CLASSES.values(), ids=CLASSES.keys())
def test_mistakes_of_classes(load: Any, declaration: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message) as caught:
        load(HEAD + declaration + EQUATIONS)
    assert re.match(r".*mine\.py, line \d+: Mine: ", str(caught.value))


POINTS = {
    "no region": ('Condition("walls", u)', r"walls: it needs on=, the region it stands on"),
    "weight": ('Condition("walls", u, on=self.domain.faces("x"), weight=-1)', r"weight must be a number of at least 0"),
    "no points": ('Condition("walls", u, on=self.domain.where(lambda x, t: x > 5))', r"walls.*must have points"),
    "division at a point": ('Condition("walls", u / t, on=self.domain.face(t=0))', r"walls: .* is not finite at x = "),
    "no such face": ('Condition("walls", u, on=self.domain.face(t=0.5))', r"0\.5"),
}


@pytest.mark.parametrize(("condition", "message"), POINTS.values(), ids=POINTS.keys())
def test_mistakes_at_points(load: Any, condition: str, message: str) -> None:
    text = f"{HEAD}{EQUATIONS}\n    def conditions(self, u, x, t):\n        return [{condition}]\n"
    with pytest.raises(ProblemError, match=message) as caught:
        load(text)().check_at_points()
    assert re.match(r".*mine\.py, line \d+: ", str(caught.value))
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("1 / sp.sinh(0)", r"is not finite"),
        ("sp.log(x - 5)", r"is not finite at some of its points"),
        ('sp.Symbol("q")', r"there is no value of q"),
        ("lambda x, t: [][0]", r"IndexError: list index out of range"),
        ("lambda x, t: x[:3]", r"has 3 values of u at 10,000 points"),
        ("lambda x, t: 'text'", r"u is no array of numbers"),
        ("{'v': x}", r"has no values of u"),
        ("5j", r"must be an expression, a table or a function, not complex"),
    ],
)
def test_mistakes_in_references(load: Any, returned: str, message: str) -> None:
    text = f"{HEAD}{EQUATIONS}\n    def reference(self, x, t):\n        return {returned}\n"
    with pytest.raises(ProblemError, match=message) as caught:
        _ = load(text)().solution
    assert re.match(r".*mine\.py, line \d+: Mine\.reference: ", str(caught.value))
