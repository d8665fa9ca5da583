"""Real-valued SymPy expressions as text of SIMD code.

`normal_form` replaces what SymPy differentiates or prints in ways that a vector has no use for: absolute values, signs,
the larger of two, conditions and powers become functions of this module, whose derivatives are again such functions.
`SimdPrinter` writes normal forms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from ..errors import SettingError


class _Real(sp.Function):  # type: ignore[misc]
    """A real function of real arguments. `fdiff` gives its derivatives."""

    is_extended_real = True


class _Flat(_Real):
    """A function that is constant piece by piece: its derivative is 0."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.Integer(0)


class Absolute(_Real):
    def fdiff(self, argindex: int = 1) -> Any:
        return Sign(*self.args)


class Sign(_Flat):
    """-1, 0 or 1."""


class Step(_Flat):
    """0 below zero, 1 above, and its second argument at zero."""


class Less(_Flat):
    """1 where a < b, else 0."""


class LessEqual(_Flat):
    """1 where a <= b, else 0."""


class Equal(_Flat):
    """1 where a = b, else 0."""


class Where(_Real):
    """The second argument where the first, a truth, is not 0, else the third."""

    def _eval_derivative(self, symbol: Any) -> Any:
        truth, first, second = self.args
        slopes = first.diff(symbol), second.diff(symbol)
        return sp.Integer(0) if slopes == (0, 0) else Where(truth, *slopes)


class Larger(_Real):
    """The larger of two; where they are equal both share the derivative."""

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args
        return Step(a - b if argindex == 1 else b - a, sp.Rational(1, 2))


class Smaller(_Real):
    """The smaller of two; where they are equal both share the derivative."""

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args
        return Step(b - a if argindex == 1 else a - b, sp.Rational(1, 2))


class Power(_Real):
    """a to a power b that is no number, or a number without a shorter form."""

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args
        return b * power(a, b - 1) if argindex == 1 else sp.log(a) * Power(a, b)


def power(base: Any, exponent: Any) -> Any:
    """Return base ** exponent in normal form; exponents n and n/2 stay powers of SymPy."""
    if exponent.is_Float and exponent == int(exponent):
        exponent = sp.Integer(int(exponent))
    elif exponent.is_Float and 2 * exponent == int(2 * exponent):
        exponent = sp.Rational(int(2 * exponent), 2)
    if exponent.is_Rational and exponent.q <= 2:
        return sp.Pow(base, exponent)
    return Power(base, exponent)


class Whole(_Flat):
    """The largest whole number that is not above the argument."""


_TRIGONOMETRIC = (sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.atan2)
_HYPERBOLIC = (sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh)
_OWN = {
    Absolute: "absolute",
    Larger: "maximum",
    Smaller: "minimum",
    Power: "power",
    Where: "where",
    Less: "less",
    LessEqual: "less_equal",
    Equal: "equal",
    Whole: "floor",
}
NAMES = {  # the functions of `simd`
    **{kind: kind.__name__ for kind in (*_TRIGONOMETRIC, *_HYPERBOLIC, sp.exp, sp.log, sp.erf, sp.erfc)},
    **_OWN,
}


def normal_form(expression: Any) -> Any:
    """Return a real-valued expression in functions that `SimdPrinter` knows.

    Raises `SettingError` that names a function without a form.
    """
    if expression.is_Symbol or (expression.is_number and expression.is_Atom):
        if expression.is_Symbol or expression.is_real:
            return expression
        raise _unknown(expression)
    if expression.is_number and expression.is_real and not expression.has(sp.Function):
        return expression
    kind = expression.func
    if kind is sp.Piecewise:
        return _piecewise(expression)
    arguments = [normal_form(argument) for argument in expression.args]
    if expression.is_Add or expression.is_Mul:
        return kind(*arguments)
    if expression.is_Pow:
        return power(*arguments)
    if kind in REWRITTEN:
        return REWRITTEN[kind](*arguments)
    if kind in NAMES or kind in (Sign, Step):
        return kind(*arguments)
    raise _unknown(expression)


def _fold(kind: Any, *arguments: Any) -> Any:
    return functools.reduce(kind, sorted(arguments, key=sp.default_sort_key))


REWRITTEN: dict[Any, Callable[..., Any]] = {
    sp.Abs: Absolute,
    sp.sign: Sign,
    sp.Heaviside: Step,
    sp.DiracDelta: lambda *arguments: sp.Integer(0),  # the derivative of a jump, which no point meets
    sp.Max: functools.partial(_fold, Larger),
    sp.Min: functools.partial(_fold, Smaller),
    sp.floor: Whole,
    sp.ceiling: lambda value: -Whole(-value),
    sp.sec: lambda value: 1 / sp.cos(value),
    sp.csc: lambda value: 1 / sp.sin(value),
    sp.cot: lambda value: 1 / sp.tan(value),
    sp.sech: lambda value: 1 / sp.cosh(value),
    sp.csch: lambda value: 1 / sp.sinh(value),
    sp.coth: lambda value: 1 / sp.tanh(value),
}


def _piecewise(expression: Any) -> Any:
    *pieces, (last, condition) = expression.args
    result = normal_form(last)
    if condition != sp.true:
        result = Where(_truth(condition), result, sp.nan)
    for value, condition in reversed(pieces):
        result = Where(_truth(condition), normal_form(value), result)
    return result


def _truth(condition: Any) -> Any:
    """Return a condition as a function that is 1 where it holds, else 0."""
    if condition in (sp.true, sp.false):
        return sp.Integer(int(bool(condition)))
    if condition.is_Symbol:  # that is free of the solution, and computed at the points already
        return condition
    if isinstance(condition, sp.Not):
        return 1 - _truth(condition.args[0])
    if isinstance(condition, sp.And | sp.Or):
        is_and = isinstance(condition, sp.And)
        truths = [_truth(part) for part in sorted(condition.args, key=sp.default_sort_key)]
        return sp.Mul(*truths) if is_and else 1 - sp.Mul(*(1 - truth for truth in truths))
    if not condition.is_Relational:
        raise _unknown(condition)
    a, b = (normal_form(side) for side in condition.args)
    match condition.rel_op:
        case "<":
            return Less(a, b)
        case "<=":
            return LessEqual(a, b)
        case ">":
            return Less(b, a)
        case ">=":
            return LessEqual(b, a)
        case "==":
            return Equal(a, b)
        case _:
            return 1 - Equal(a, b)


def _unknown(expression: Any) -> SettingError:
    name = expression if expression.is_Atom else getattr(expression.func, "__name__", str(expression.func))
    return SettingError(
        "engine", "fused", f"cannot compile {name}, which the equation uses", "Use engine: torch for this problem."
    )


class SimdPrinter(StrPrinter):  # type: ignore[misc]
    """Writes normal forms as vectors; `like` is the array whose kind of vector constants have."""

    def __init__(self, like: str) -> None:
        super().__init__()
        self._like = like

    def constant(self, value: Any) -> str:
        """Return a number in every lane."""
        return self.literal(float(value))

    def literal(self, number: float) -> str:
        """Return a number as it is written in code."""
        return f"fill({self._like}, {number!r})"

    def _print_Symbol(self, expr: Any) -> str:
        return expr.name

    def _print_Add(self, expr: Any, order: Any = None) -> str:
        """Print a sum: what is no product first, then products, each fused with the sum so far."""
        arguments = sorted(expr.args, key=sp.default_sort_key)
        code = " + ".join(self._print(argument) for argument in arguments if not argument.is_Mul)
        code = f"({code})" if code else ""
        for product in (argument for argument in arguments if argument.is_Mul):
            if code and (factors := self._factors(product)):
                code = f"fma({factors[0]}, {factors[1]}, {code})"
            elif code:
                code = f"({code} + {self._print(product)})"
            else:
                code = self._print(product)
        return code

    def _factors(self, product: Any) -> tuple[str, str] | None:
        """Return a product as two factors, None where it is a quotient or has one factor."""
        numerator, denominator = self._fraction(product)
        if denominator or len(numerator) < 2:
            return None
        return numerator[0], f"({' * '.join(numerator[1:])})"

    def _fraction(self, product: Any) -> tuple[list[str], list[str]]:
        """Return the factors above and below the line, numbers first; a factor -1 is a sign of the next one."""
        above: list[str] = []
        below: list[str] = []
        coefficient, rest = product.as_coeff_Mul()
        if abs(coefficient) != 1:
            above.append(self.constant(coefficient))
        for factor in sorted(sp.Mul.make_args(rest), key=sp.default_sort_key):
            if factor.is_Pow and factor.exp.is_Rational and factor.exp.is_negative and not factor.base.is_number:
                below.append(self._print(sp.Pow(factor.base, -factor.exp)))
            else:
                above.append(self._print(factor))
        if coefficient == -1:
            above = [f"(-{above[0]})", *above[1:]] if above else [self.constant(-1)]
        return above, below

    def _print_Mul(self, expr: Any) -> str:
        above, below = self._fraction(expr)
        numerator = " * ".join(above) if above else self.constant(1)
        return f"({numerator} / ({' * '.join(below)}))" if below else f"({numerator})"

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:
        """Print powers n and n/2 as products of repeated squares, and of a square root."""
        if expr.is_number:
            return self.constant(expr)
        base, exponent = expr.args
        code, whole = self._print(base), int(abs(exponent))
        factors = []
        if exponent.q == 2:
            factors.append(f"sqrt({code})")
        while whole:
            if whole & 1:
                factors.append(code)
            whole >>= 1
            if whole:
                code = f"({code} * {code})"
        product = factors[0] if len(factors) == 1 else f"({' * '.join(factors)})"
        return product if exponent > 0 else f"({self.constant(1)} / {product})"

    def _print_Function(self, expr: Any) -> str:
        if expr.is_number and not expr.has(*_OWN, Sign, Step):
            return self.constant(expr)
        arguments = [self._print(argument) for argument in expr.args]
        if expr.func is Sign:
            zero = self.constant(0)
            return f"(less({zero}, {arguments[0]}) - less({arguments[0]}, {zero}))"
        if expr.func is Step:
            zero, at_zero = self.constant(0), f"fma({arguments[1]}, equal({arguments[0]}, {self.constant(0)}), "
            return f"{at_zero}less({zero}, {arguments[0]}))"
        if expr.func not in NAMES:
            raise _unknown(expr)
        return f"{NAMES[expr.func]}({', '.join(arguments)})"

    def emptyPrinter(self, expr: Any) -> str:
        """Print what has no method of its own: numbers, or nothing that is known."""
        if getattr(expr, "is_number", False):
            return self.constant(expr)
        raise _unknown(expr)

    _print_Integer = _print_Rational = _print_Float = _print_NumberSymbol = _print_Half = constant
    _print_Zero = _print_One = _print_NegativeOne = _print_Pi = _print_Exp1 = _print_NaN = constant
    _print_Infinity = _print_NegativeInfinity = _print_GoldenRatio = _print_EulerGamma = _print_Catalan = constant


class ScalarPrinter(SimdPrinter):
    """Writes normal forms as C++ of single numbers of type `R`."""

    def __init__(self) -> None:
        super().__init__("")

    def literal(self, number: float) -> str:
        if math.isfinite(number):
            return f"R({number!r})"
        return "R(NAN)" if math.isnan(number) else f"R({'-' if number < 0 else ''}INFINITY)"
