"""SymPy expressions as functions of torch tensors, differentiable and without generated text.

An expression becomes a list of operations, each on earlier results; equal subexpressions are computed once. Numbers are
doubles (pi and rationals are rounded once), so a function keeps the precision of the tensors it is given.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import sympy as sp
import torch
from sympy.logic.boolalg import And, BooleanFalse, BooleanTrue, Not, Or
from torch import Tensor

from ..errors import SettingError
from .channels import Group, TorchCall

Value = Any  # a tensor, or a number
Function = Callable[..., Value]


def _step(x: Tensor, middle: Value = 0.5) -> Tensor:
    return (x > 0).to(x.dtype) + middle * (x == 0).to(x.dtype)


def _chosen(like: Tensor, *parts: Value) -> Tensor:
    """Return the first value whose condition holds at each point, from value, condition, value, condition, ..."""
    chosen = torch.full_like(like, torch.nan)
    for value, condition in reversed(list(zip(parts[::2], parts[1::2], strict=True))):
        chosen = torch.where(_as(like, condition, torch.bool), _as(like, value), chosen)
    return chosen


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda like, *values: functools.reduce(function, [_as(like, value) for value in values])


def _as(like: Tensor, value: Value, dtype: torch.dtype | None = None) -> Tensor:
    return torch.as_tensor(value, dtype=dtype or like.dtype, device=like.device)


FUNCTIONS: Final[dict[Any, Function]] = {
    sp.sin: torch.sin,
    sp.cos: torch.cos,
    sp.tan: torch.tan,
    sp.cot: lambda x: 1 / torch.tan(x),
    sp.sec: lambda x: 1 / torch.cos(x),
    sp.csc: lambda x: 1 / torch.sin(x),
    sp.asin: torch.asin,
    sp.acos: torch.acos,
    sp.atan: torch.atan,
    sp.sinh: torch.sinh,
    sp.cosh: torch.cosh,
    sp.tanh: torch.tanh,
    sp.coth: lambda x: 1 / torch.tanh(x),
    sp.sech: lambda x: 1 / torch.cosh(x),
    sp.csch: lambda x: 1 / torch.sinh(x),
    sp.asinh: torch.asinh,
    sp.acosh: torch.acosh,
    sp.atanh: torch.atanh,
    sp.exp: torch.exp,
    sp.log: torch.log,
    sp.Abs: torch.abs,
    sp.sign: torch.sign,
    sp.floor: torch.floor,
    sp.ceiling: torch.ceil,
    sp.erf: torch.erf,
    sp.erfc: torch.erfc,
    sp.Heaviside: _step,
    sp.StrictGreaterThan: operator.gt,
    sp.GreaterThan: operator.ge,
    sp.StrictLessThan: operator.lt,
    sp.LessThan: operator.le,
    sp.Equality: operator.eq,
    sp.Unequality: operator.ne,
    And: lambda *values: functools.reduce(operator.and_, values),
    Or: lambda *values: functools.reduce(operator.or_, values),
    Not: torch.logical_not,
}
WITH_LIKE: Final[dict[Any, Function]] = {  # functions that may be given numbers only, and need a tensor to go by
    sp.Max: _extreme(torch.maximum),
    sp.Min: _extreme(torch.minimum),
    sp.atan2: lambda like, y, x: torch.atan2(_as(like, y), _as(like, x)),
    sp.Piecewise: _chosen,
}


class _Operations:
    """The operations of expressions of `symbols`: results are the symbols' values, then one number or tensor each."""

    def __init__(self, symbols: Sequence[sp.Symbol]) -> None:
        self._places: dict[Any, int] = {symbol: place for place, symbol in enumerate(symbols)}
        self._count = len(self._places)
        self._constants: dict[int, Value] = {}
        self._steps: list[tuple[int, Function, tuple[int, ...]]] = []

    def run(self, values: Sequence[Value]) -> list[Value]:
        results = [*values, *[None] * (self._count - len(values))]
        for place, constant in self._constants.items():
            results[place] = constant
        for place, function, arguments in self._steps:
            results[place] = function(*[results[argument] for argument in arguments])
        return results

    def place(self, expression: Any) -> int:
        """Return where the result of an expression is. Raises `SettingError` for what torch cannot evaluate."""
        if expression not in self._places:
            self._places[expression] = self._add(expression)
        return self._places[expression]

    def _add(self, expression: Any) -> int:
        if isinstance(expression, (BooleanTrue, BooleanFalse)):
            return self._constant(bool(expression))
        if getattr(expression, "is_number", False):
            return self._constant(_number(expression))
        if expression.is_Add or expression.is_Mul:
            join = operator.add if expression.is_Add else operator.mul
            first, *others = map(self.place, expression.args)
            return functools.reduce(lambda a, b: self._do(join, a, b), others, first)
        if expression.is_Pow:
            return self._power(*expression.as_base_exp())
        if isinstance(expression, sp.Piecewise):
            parts = [self.place(part) for pair in expression.args for part in pair]
            return self._do(WITH_LIKE[sp.Piecewise], 0, *parts)
        kind = expression.func
        if kind in FUNCTIONS:
            return self._do(FUNCTIONS[kind], *map(self.place, expression.args))
        if kind in WITH_LIKE:
            return self._do(WITH_LIKE[kind], 0, *map(self.place, expression.args))
        what = "symbol" if expression.is_Symbol else "function"
        raise SettingError(
            "equations",
            str(expression),
            f"has a {what} that torch cannot evaluate",
            "Use functions of SymPy such as sin, exp, sqrt, Abs, Max or Piecewise, or a residual that is a torch "
            "function.",
        )

    def _power(self, base: Any, exponent: Any) -> int:
        if exponent == sp.Rational(1, 2):
            return self._do(torch.sqrt, self.place(base))
        if exponent == sp.Rational(-1, 2):
            return self._do(torch.rsqrt, self.place(base))
        if exponent == 2:
            return self._do(torch.square, self.place(base))
        if exponent.is_Integer and exponent < 0:
            return self._do(operator.truediv, self._constant(1.0), self.place(base**-exponent))
        if exponent.is_Integer:
            return self._do(operator.pow, self.place(base), self._constant(int(exponent)))
        return self._do(torch.pow, self.place(base), self.place(exponent))

    def _constant(self, value: Value) -> int:
        self._constants[self._count] = value
        self._count += 1
        return self._count - 1

    def _do(self, function: Function, *arguments: int) -> int:
        self._steps.append((self._count, function, arguments))
        self._count += 1
        return self._count - 1


def _number(expression: Any) -> float:
    try:
        return float(expression)
    except TypeError:
        raise SettingError(
            "equations", str(expression), "must be a real number", "Write the real and the imaginary part apart."
        ) from None


@functools.lru_cache(maxsize=4096)
def torch_function(symbols: tuple[sp.Symbol, ...], expressions: tuple[Any, ...]) -> Callable[..., list[Value]]:
    """Return a function of the values of symbols, in order, that returns the values of expressions.

    Values are tensors of shapes that broadcast; those of constant expressions are numbers. An expression may be a
    `TorchCall`; its arguments are broadcast to one shape. Raises `SettingError` for what torch cannot evaluate.
    """
    operations = _Operations(symbols)
    places = [
        [operations.place(part) for part in (each.arguments if isinstance(each, TorchCall) else (each,))]
        for each in expressions
    ]

    def function(*values: Value) -> list[Value]:
        results = operations.run(values)
        found = []
        for expression, at in zip(expressions, places, strict=True):
            parts = [results[place] for place in at]
            found.append(_called(expression, parts, values) if isinstance(expression, TorchCall) else parts[0])
        return found

    return function


def _called(call: TorchCall, arguments: list[Value], values: Sequence[Value]) -> Tensor:
    tensors = [value for value in (*arguments, *values) if isinstance(value, Tensor)]
    shape = np.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors))
    found = call.function(*(_as(tensors[0], argument).expand(shape) for argument in arguments))
    if not isinstance(found, Tensor) or found.shape != shape:
        name = getattr(call.function, "__name__", "the torch function")
        raise SettingError(
            "equations",
            name,
            f"must return a tensor of the shape of its arguments, {list(shape)}",
            "Compute one value at each point, with torch functions that keep the shape.",
        )
    return found


def group_residuals(
    group: Group, channels: Sequence[Sequence[Tensor]], columns: Sequence[Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """Return the residuals of a group stacked in front of the shape of its points.

    `channels` by output and channel [..., points], `columns` [..., points] and `parameters` [..., 1] hold the values of
    the group's symbols.
    """
    symbols = (
        *(s for output in group.channel_symbols for s in output),
        *group.column_symbols,
        *group.parameter_symbols,
    )
    values = [*(value for output in channels for value in output), *columns, *parameters]
    like = channels[0][0]
    return torch.stack([_as(like, r).expand(like.shape) for r in torch_function(symbols, group.residuals)(*values)])
