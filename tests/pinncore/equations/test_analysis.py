"""Channels, columns and parameters are read off the expressions; derivatives collapse where that is possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from pinncore.equations.analysis import group
from pinncore.equations.channels import Group
from pinncore.equations.writing import Writer

X, Y, T, A, B = sp.symbols("x y t a b", real=True)


class Model:
    """What a `Writer` needs of a problem."""

    def __init__(self, equations: Any, transform: Any = None) -> None:
        self._equations, self._transform = equations, transform

    def equations(self, u: Any, v: Any) -> Any:
        return self._equations(u, v)

    def conditions(self) -> Any:
        return []

    def transform(self, u: Any, v: Any) -> Any:
        return self._transform(u, v) if self._transform else None


def grouped(equations: Any, transform: Any = None, coordinates: tuple[str, ...] = ("x", "y", "t")) -> Group:
    model = Model(equations, transform)
    writer = Writer(model, coordinates=coordinates, outputs=("u", "v"), known=("e",), settings=("a", "b"), sizes=())
    written = writer.written()
    return group(written, list(written.terms), {})


def test_a_value_alone_needs_one_channel() -> None:
    found = grouped(lambda u, v: {"both": u - v * sp.sin(X)})
    assert (found.channels.count, found.channels.firsts) == (1, ())
    assert found.columns == (-sp.sin(X),)


def test_laplacians_of_two_outputs_share_one_channel() -> None:
    def equations(u: Any, v: Any) -> Any:
        def laplacian(w: Any) -> Any:
            return w.diff(X, 2) + w.diff(Y, 2)

        return {"one": A * laplacian(u) + v, "two": -3 * laplacian(v) + u * u.diff(T)}

    found = grouped(equations)
    assert found.channels.firsts == (0, 1, 2)
    assert found.channels.forms == (((0, 0, None), (1, 1, None)),)
    assert found.parameters == (A,)


def test_a_laplacian_with_a_number_before_it_is_one() -> None:
    """To SymPy 1e-5 / 1e-5 is 1.0, which is not 1; a form of columns would be slower, and another kernel."""
    found = grouped(
        lambda u, v: {"both": 1e-5 * (u.diff(X, 2) + u.diff(Y, 2)) + 0.1 * v.diff(X, 2) + 0.1 * v.diff(Y, 2)}
    )
    assert found.channels.forms == (((0, 0, None), (1, 1, None)),)
    assert found.columns == ()


@pytest.mark.parametrize(
    ("operator", "forms", "columns"),
    [
        (lambda u: u.diff(T, 2) - A**2 * u.diff(X, 2), (((0, 0, 0), (1, 1, 1)),), (-(A**2), sp.Integer(1))),
        (lambda u: ((1 + u**2) * u.diff(X)).diff(X) + ((1 + u**2) * u.diff(Y)).diff(Y), ((0, 0), (1, 1)), ()),
        (lambda u: sp.exp(X) * u.diff(X, 2) + sp.cos(Y) * u.diff(Y, 2), (((0, 0, 0), (1, 1, 1)),), None),
        (lambda u: u.diff(X, 2) + 2 * u.diff(X, Y) + 5 * u.diff(Y, 2), (((0, 0, 0), (0, 1, 1), (1, 1, 2)),), None),
        (lambda u: u.diff(X, 2) + u * u.diff(Y, 2), (((0, 0, None),), ((1, 1, None),)), ()),
        (lambda u: u.diff(X, 2) * u.diff(Y, 2) - u.diff(X, Y) ** 2, ((0, 0), (0, 1), (1, 1)), ()),
    ],
    ids=["wave", "nonlinear diffusion", "variable", "mixed", "not proportional", "Monge-Ampere"],
)
def test_second_derivatives_collapse_where_their_ratios_are_free_of_the_solution(
    operator: Any, forms: Any, columns: Any
) -> None:
    found = grouped(lambda u, v: {"one": operator(u) + v})
    if isinstance(forms[0][0], int) and len(forms[0]) == 2:
        collapsed = [tuple(term[:2] for term in form) for form in found.channels.forms]
        assert collapsed in ([forms], [(pair,) for pair in forms])
        assert len(collapsed) == (1 if forms == ((0, 0), (1, 1)) else 3)
    else:
        assert found.channels.forms == forms
    if columns is not None:
        assert found.columns[: len(columns)] == columns


def test_nothing_is_divided_by_a_coefficient_that_may_be_zero() -> None:
    found = grouped(lambda u, v: {"one": A * u.diff(X, 2) + B * u.diff(Y, 2) + v})
    parts = (*found.columns, *found.parameters, *found.residuals)
    assert not any(power.exp.is_negative for part in parts for power in part.atoms(sp.Pow))


def test_what_is_free_of_the_solution_is_taken_out() -> None:
    found = grouped(lambda u, v: {"one": u * sp.exp(A * X) + A**2 * v + sp.Symbol("e", real=True)})
    outside = {*found.column_symbols, *found.parameter_symbols}
    channels = {symbol for symbols in found.channel_symbols for symbol in symbols}
    assert found.residuals[0].free_symbols <= outside | channels
    assert set(found.columns) == {sp.exp(A * X), sp.Symbol("e", real=True)}
    assert found.parameters == (A**2,)


def test_hard_conditions_are_substituted_and_keep_the_collapse() -> None:
    def equations(u: Any, v: Any) -> Any:
        return {"one": u.diff(X, 2) + u.diff(Y, 2) + v}

    plain, hard = grouped(equations), grouped(equations, lambda u, v: {"u": X * (1 - X) * u + sp.sin(Y)})
    assert hard.channels == plain.channels


def test_the_residual_in_channels_is_the_written_one() -> None:
    """With polynomials for the outputs, channels have known values."""
    found = grouped(
        lambda u, v: {"one": u.diff(T) + u * u.diff(X) - A * (u.diff(X, 2) + 2 * u.diff(Y, 2)) + v.diff(X, Y) ** 2}
    )
    outputs = (X**3 * Y**2 + T * X, X**2 * Y**2 * T)
    values = {X: 0.3, Y: -0.7, T: 1.1, A: 0.2}
    columns = {s: c.subs(values) for s, c in zip(found.column_symbols, found.columns, strict=True)}
    numbers = {**columns, **{s: p.subs(values) for s, p in zip(found.parameter_symbols, found.parameters, strict=True)}}
    coordinates = (X, Y, T)
    for output, symbols in zip(outputs, found.channel_symbols, strict=True):
        firsts = [output.diff(coordinates[i]) for i in found.channels.firsts]
        axes = [coordinates[i] for i in found.channels.firsts]
        forms = [
            sum((1 if c is None else found.columns[c]) * output.diff(axes[p], axes[q]) for p, q, c in form)
            for form in found.channels.forms
        ]
        numbers |= {s: e.subs(values) for s, e in zip(symbols, (output, *firsts, *forms), strict=True)}
    fields = dict(zip(found.fields, outputs, strict=True))
    expected = found.written[0].subs(fields).doit().subs(values)
    assert float(found.residuals[0].subs(numbers)) == pytest.approx(float(expected), rel=1e-12)
    assert np.isfinite(float(expected))
