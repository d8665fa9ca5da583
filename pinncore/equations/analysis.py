"""From residuals in symbols to what engines evaluate: the channels that they need, columns of data, parameters.

Where second derivatives enter as one combination whose coefficients' ratios are free of the solution, they collapse
into one channel: a Laplacian costs as much as one second derivative. What is free of the solution is computed once at
every point (a column) or once for a network (a parameter).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy as sp

from .channels import Channels, Form, Group, TorchCall
from .writing import Written

_Pair = tuple[int, int]


def group(written: Written, terms: Sequence[str], factors: Mapping[str, Any]) -> Group:
    """Return the residuals `terms` at common points as a group; `factors` are symbols that multiply residuals."""
    residuals = tuple(_scaled(written.terms[name], factors.get(name)) for name in terms)
    expressions = [part for residual in residuals for part in _parts(residual)]
    needs = _Needs(written, expressions, collapse=not any(isinstance(each, TorchCall) for each in residuals))
    lowering = _Lowering(written, needs)
    lowered = tuple(lowering.lower(residual) for residual in residuals)
    return Group(
        tuple(terms),
        Channels(needs.firsts, lowering.forms),
        lowered,
        needs.symbols,
        tuple(lowering.columns),
        tuple(lowering.columns.values()),
        tuple(lowering.parameters),
        tuple(lowering.parameters.values()),
        residuals,
        written.fields,
    )


def _parts(residual: Any) -> tuple[Any, ...]:
    return residual.arguments if isinstance(residual, TorchCall) else (residual,)


def _scaled(residual: Any, factor: Any) -> Any:
    if factor is None:
        return residual
    if isinstance(residual, TorchCall):
        function = residual.function
        return TorchCall(lambda scale, *values: scale * function(*values), (factor, *residual.arguments))
    return factor * residual


class _Needs:
    """The derivatives in some expressions, as channels: which first ones, which second-order forms."""

    def __init__(self, written: Written, expressions: Sequence[Any], *, collapse: bool) -> None:
        self._fields, self._coordinates = written.fields, written.coordinates
        found: set[Any] = set().union(*(each.atoms(sp.Derivative) for each in expressions)) if expressions else set()
        derivatives = sorted(found, key=sp.default_sort_key)
        self.first = [each for each in derivatives if each.derivative_count == 1]
        self.second = [each for each in derivatives if each.derivative_count == 2]
        self.dummies = {each: sp.Dummy(f"d{number}", real=True) for number, each in enumerate(derivatives)}
        self.values = {field: sp.Dummy(f"n{number}", real=True) for number, field in enumerate(self._fields)}
        used = {i for each in self.second for i in self.pair(each)} | {self._axis(each) for each in self.first}
        self.firsts = tuple(sorted(used))
        self.solution = {*self.dummies.values(), *self.values.values()}
        self.pairs = sorted({self.pair(each) for each in self.second})
        forms = self._collapsed(expressions) if collapse and len(self.pairs) > 1 else None
        self.is_collapsed = forms is not None
        self.forms = forms if forms is not None else [{pair: sp.Integer(1)} for pair in self.pairs]
        count = 1 + len(self.firsts) + len(self.forms)
        self.symbols = tuple(
            tuple(sp.Symbol(f"c{output}_{channel}", real=True) for channel in range(count))
            for output in range(len(self._fields))
        )

    def pair(self, derivative: Any) -> _Pair:
        first, second = sorted(self._coordinates.index(variable) for variable in derivative.variables)
        return first, second

    def _axis(self, derivative: Any) -> int:
        return self._coordinates.index(derivative.variables[0])

    def bare(self, expression: Any) -> Any:
        """Return an expression with symbols for outputs and their derivatives."""
        return expression.xreplace(self.dummies).xreplace(self.values)

    def channel(self, derivative: Any) -> Any:
        """Return the symbol of the channel that holds a derivative alone."""
        symbols = self.symbols[self._fields.index(derivative.expr)]
        if derivative.derivative_count == 1:
            return symbols[1 + self.firsts.index(self._axis(derivative))]
        return symbols[1 + len(self.firsts) + self.forms.index({self.pair(derivative): sp.Integer(1)})]

    def form(self, field: Any, form: Mapping[_Pair, Any]) -> Any:
        """Return the symbol of the channel of a form of an output."""
        return self.symbols[self._fields.index(field)][1 + len(self.firsts) + self.forms.index(dict(form))]

    def rows(self, bare: Any) -> list[tuple[Any, Any, dict[_Pair, Any]]] | None:
        """Return [(output, common factor, form)] of the second derivatives of a bare expression; None: no such forms.

        The expression is then affine in them, with the sum of common factor times form of every output.
        """
        found = []
        second = {self.dummies[each]: each for each in self.second if bare.has(self.dummies[each])}
        for field in self._fields:
            coefficients: dict[_Pair, Any] = {}
            for symbol, derivative in second.items():
                if derivative.expr != field:
                    continue
                coefficient = sp.factor_terms(sp.diff(bare, symbol))
                if coefficient.free_symbols & second.keys():
                    return None
                pair = self.pair(derivative)
                coefficients[pair] = coefficients.get(pair, sp.Integer(0)) + coefficient
            coefficients = {pair: each for pair, each in coefficients.items() if each != 0}
            if not coefficients:
                continue
            common = _common(coefficients, self.solution)
            if common is None:
                return None
            found.append((field, *common))
        return found

    def _collapsed(self, expressions: Sequence[Any]) -> list[dict[_Pair, Any]] | None:
        """Return the forms of all expressions, None where single second derivatives are no more channels."""
        forms: list[dict[_Pair, Any]] = []
        for expression in expressions:
            rows = self.rows(self.bare(expression))
            if rows is None:
                return None
            for _, _, form in rows:
                if form not in forms:
                    forms.append(form)
        return forms if len(forms) < len(self.pairs) else None


def _common(coefficients: Mapping[_Pair, Any], solution: set[Any]) -> tuple[Any, dict[_Pair, Any]] | None:
    """Split coefficients into a common factor and a form that is free of the solution; None where that is impossible.

    Nothing is divided by a coefficient that could be zero for some values of the settings or at some points.
    """
    split = {}
    for pair, coefficient in coefficients.items():
        free, bound = sp.factor(coefficient).as_independent(*solution, as_Add=False)
        split[pair] = (free, bound)
    lead_free, lead = split[min(split)]
    ratios = {pair: sp.cancel(bound / lead) for pair, (_, bound) in split.items()}
    if not all(ratio.is_number for ratio in ratios.values()):
        return None
    free_parts = {pair: free * ratios[pair] for pair, (free, _) in split.items()}
    numbers = {pair: _whole(sp.cancel(free / lead_free)) for pair, free in free_parts.items()}
    if all(number.is_number for number in numbers.values()):
        return lead * lead_free, numbers
    return lead, free_parts


def _whole(number: Any) -> Any:
    """Return a floating-point number that is whole as an integer: to SymPy 1.0 is not 1."""
    return sp.Integer(number) if number.is_Float and float(number).is_integer() else number


class _Lowering:
    """Residuals in channels, with what is free of the solution taken out as columns and parameters."""

    def __init__(self, written: Written, needs: _Needs) -> None:
        self._needs, self._at_points = needs, set(written.point_symbols)
        self.columns: dict[Any, Any] = {}
        self.parameters: dict[Any, Any] = {}
        self.forms = tuple(self._form(form) for form in needs.forms)

    def lower(self, residual: Any) -> Any:
        if isinstance(residual, TorchCall):
            return replace(residual, arguments=tuple(self._lower(each) for each in residual.arguments))
        return self._lower(residual)

    def _lower(self, expression: Any) -> Any:
        needs = self._needs
        bare = needs.bare(expression)
        if needs.is_collapsed:
            rows = needs.rows(bare)
            assert rows is not None
            without = {needs.dummies[each]: sp.Integer(0) for each in needs.second}
            bare = bare.xreplace(without) + sp.Add(*(lead * needs.form(field, form) for field, lead, form in rows))
            alone = needs.first
        else:
            alone = [*needs.first, *needs.second]
        channels = {needs.dummies[each]: needs.channel(each) for each in alone}
        channels |= {symbol: symbols[0] for symbol, symbols in zip(needs.values.values(), needs.symbols, strict=True)}
        solution = {symbol for symbols in needs.symbols for symbol in symbols}
        return self._hoist(bare.xreplace(channels), solution)

    def _form(self, form: Mapping[_Pair, Any]) -> Form:
        """Return a form whose coefficients are all 1 or all columns, so that few kernels serve all equations."""
        place = {axis: position for position, axis in enumerate(self._needs.firsts)}
        is_plain = all(coefficient == 1 for coefficient in form.values())
        terms = sorted(form.items())
        return tuple((place[p], place[q], None if is_plain else self._column_of(c)) for (p, q), c in terms)

    def _column_of(self, coefficient: Any) -> int:
        self._column(coefficient)
        return list(self.columns).index(coefficient)

    def _column(self, expression: Any) -> Any:
        return self.columns.setdefault(expression, sp.Symbol(f"h{len(self.columns)}", real=True))

    def _outside(self, expression: Any) -> Any:
        """Return the symbol of an expression that is free of the solution, or the number that it is."""
        if expression.is_number:
            return expression
        if expression.free_symbols & self._at_points:
            return self._column(expression)
        return self.parameters.setdefault(expression, sp.Symbol(f"p{len(self.parameters)}", real=True))

    def _hoist(self, expression: Any, solution: set[Any]) -> Any:
        if isinstance(expression, sp.Expr) and not expression.free_symbols & solution:
            return self._outside(expression)
        if not expression.args:  # a symbol, or a condition that always holds
            return expression
        arguments: Iterable[Any] = expression.args
        if expression.is_Add or expression.is_Mul:
            free = [each for each in arguments if not each.free_symbols & solution]
            bound = [self._hoist(each, solution) for each in arguments if each.free_symbols & solution]
            if free:
                bound.append(self._outside(expression.func(*free)))
            return expression.func(*bound)
        return expression.func(*(self._hoist(each, solution) for each in arguments))
