"""Residuals of a group as compiled code, generated from their SymPy expressions and called by address.

One call takes a chunk of points: it reads the channels of the outputs, data columns and parameters, adds the squares of
every residual to its sums and writes the cotangents w r dr/dchannel, summed over the residuals. Common subexpressions
are computed once. The text depends on the expressions alone, so that members with other parameters or data share it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.ir as ir
import numpy as np
import sympy as sp
from numba import types
from numpy.typing import DTypeLike

from ..equations.channels import Group
from ..errors import SettingError
from .cache import generated_module, kept_callback
from .channels import VECTORS
from .expressions import SimdPrinter, normal_form
from .simd import intrinsic

TEMPLATE = '''"""A generated residual."""

from math import inf, nan

from numba import carray

from pinncore.kernels.simd import *


def residual(out, cotangents, data, at, points, stride, parameters, weights, sums):
    out, cotangents, data = carray(out, 1), carray(cotangents, 1), carray(data, 1)
    parameters, weights, sums = carray(parameters, 1), carray(weights, 1), carray(sums, 1)
    count = lanes(out)
    step = {vectors} * count
{before}
    for v in range({vectors}):
        here = v * count
{body}
{after}
'''


_Step = tuple[Any, Any, tuple[str, ...]]  # a symbol, the expression that it is, lines after the assignment


class Residual(NamedTuple):
    """A compiled residual: its address, and what keeps the code at that address alive."""

    address: int
    callback: Any


def compiled_residual(group: Group, dtype: DTypeLike) -> Residual:
    """Return the residuals of a group in a precision, compiled once on a machine.

    Raises `SettingError` where an expression has no form in vectors.
    """
    return compiled_source(residual_source(group), np.dtype(dtype).name)


def residual_source(group: Group) -> str:
    """Return the text of the module with the residuals of a group. Raises `SettingError` as `compiled_residual`."""
    return _source(checked_residuals(group), group.channel_symbols, group.column_symbols, group.parameter_symbols)


def checked_residuals(group: Group) -> tuple[Any, ...]:
    """Return the residuals of a group. Raises `SettingError` where one is a torch function."""
    if group.needs_torch:
        raise SettingError(
            "engine",
            "fused",
            f"cannot evaluate a torch function, which is the residual of {', '.join(group.terms)}",
            "Use engine: torch for this problem.",
        )
    return group.residuals


@functools.cache
def compiled_source(source: str, dtype: str) -> Residual:
    """Return the residual of a text from `residual_source` for arrays of `dtype`, compiled once on a machine."""
    module = generated_module(f"residual_{hashlib.sha256(source.encode()).hexdigest()[:24]}", source)
    number = types.CPointer(types.float32 if dtype == "float32" else types.float64)
    whole = types.int64
    signature = types.void(number, number, number, whole, whole, whole, number, number, number)
    callback = kept_callback(signature)(module.residual)
    return Residual(callback.address, callback)


@functools.cache
def _source(
    residuals: tuple[Any, ...],
    channel_symbols: tuple[tuple[Any, ...], ...],
    column_symbols: tuple[Any, ...],
    parameter_symbols: tuple[Any, ...],
) -> str:
    printer = SimdPrinter("out")

    def after(i: int) -> tuple[str, ...]:
        bar = f"b{i} = r{i}" if len(residuals) == 1 else f"b{i} = w{i} * r{i}"
        return (f"r{i} = first_lanes(r{i}, points - here)", f"s{i} = fma(r{i}, r{i}, s{i})", bar)

    code = residual_code(residuals, channel_symbols, column_symbols, parameter_symbols, printer, after)
    numbers, channels = range(len(residuals)), range(sum(map(len, channel_symbols)))
    before = [f"{symbol} = splat(parameters, {number})" for symbol, number in code.used("p")]
    before += [f"s{i} = load(sums, {i} * count)" for i in numbers]
    if len(residuals) > 1:
        before += [f"w{i} = splat(weights, {i})" for i in numbers]
    body = [f"{c} = load(out, {number} * step + here)" for c, number in code.used("c")]
    body += [f"{d} = load(data, {number} * stride + at + here)" for d, number in code.used("d")]
    body += code.lines
    zero = printer.constant(0)
    body += [f"store(cotangents, {i} * step + here, {code.cotangents.get(i, zero)})" for i in channels]
    return TEMPLATE.format(
        vectors=VECTORS,
        before="\n".join(f"    {line}" for line in before),
        body="\n".join(f"        {line}" for line in body),
        after="\n".join(f"    store(sums, {i} * count, s{i})" for i in numbers),
    )


class ResidualCode(NamedTuple):
    """Residuals as lines of code, each an assignment, and the cotangents of channels, by number, that are not 0.

    c1 is channel 1, d1 data column 1, p1 parameter 1, r1 residual 1, w1 its weight, b1 their product, s1 its sum of
    squares and x1 a common subexpression.
    """

    symbols: tuple[str, ...]
    lines: list[str]
    cotangents: dict[int, str]

    def used(self, letter: str) -> list[tuple[str, int]]:
        """Return the channels, columns or parameters that occur, with their numbers."""
        return [(name, _number(name)) for name in self.symbols if name[0] == letter]


def residual_code(
    residuals: Sequence[Any],
    channel_symbols: Sequence[Sequence[Any]],
    column_symbols: Sequence[Any],
    parameter_symbols: Sequence[Any],
    printer: SimdPrinter,
    after: Callable[[int], tuple[str, ...]],
    define: str = "",
) -> ResidualCode:
    """Return residuals of these symbols as `printer` writes them.

    `after(i)` are the lines behind the assignment of residual i, which give b_i; `define` stands before every new name.
    Raises `SettingError` where an expression has no form.
    """
    channels = _named("c", [symbol for output in channel_symbols for symbol in output])
    names = {**channels, **_named("d", column_symbols), **_named("p", parameter_symbols)}
    values = [normal_form(sp.sympify(residual).xreplace(names)) for residual in residuals]
    bars = [sp.Symbol(f"b{i}", real=True) for i in range(len(values))]
    used = sorted(set().union(*(value.free_symbols for value in values)), key=lambda symbol: _number(symbol.name))
    seen = [symbol for symbol in used if symbol.name[0] == "c"]
    slopes = [sp.Add(*(bar * value.diff(c) for bar, value in zip(bars, values, strict=True))) for c in seen]
    shared, reduced = sp.cse([*values, *slopes], symbols=sp.numbered_symbols("x", real=True))
    steps: list[_Step] = [(symbol, expression, ()) for symbol, expression in shared]
    steps += [(sp.Symbol(f"r{i}"), reduced[i], after(i)) for i in range(len(values))]
    origins = {bar: symbol for bar, (symbol, *_) in zip(bars, steps[len(shared) :], strict=True)}
    cotangents = zip(seen, reduced[len(values) :], strict=True)
    return ResidualCode(
        tuple(symbol.name for symbol in used),
        _in_order(steps, origins, printer, define),
        {_number(c.name): printer.doprint(slope) for c, slope in cotangents},
    )


def _named(letter: str, symbols: Sequence[Any]) -> dict[Any, Any]:
    """Return symbols by number for symbols of any name."""
    return {symbol: sp.Symbol(f"{letter}{i}", real=True) for i, symbol in enumerate(symbols)}


def _number(name: str) -> int:
    return int(name[1:])


def _in_order(steps: Sequence[_Step], origins: dict[Any, Any], printer: Any, define: str) -> list[str]:
    """Return the lines of steps, each after those that it needs.

    `origins` are the steps that define a symbol in the lines after them.
    """
    waiting = {symbol for symbol, _, _ in steps}
    pending, lines = list(steps), []
    while pending:
        for step in pending:
            symbol, expression, following = step
            needed = {origins.get(needs, needs) for needs in expression.free_symbols}
            if not needed & waiting:
                break
        lines += [f"{define}{symbol} = {printer.doprint(expression)}", *following]
        waiting.remove(symbol)
        pending.remove(step)
    return lines


@intrinsic
def call_residual(
    typingctx: Any,
    address: Any,
    out: Any,
    cotangents: Any,
    data: Any,
    at: Any,
    points: Any,
    stride: Any,
    parameters: Any,
    weights: Any,
    sums: Any,
) -> Any:
    """Call the residual at an address; see `TEMPLATE` for its arguments."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        passed = []
        for kind, value in zip(sig.args[1:], args[1:], strict=True):
            is_array = isinstance(kind, types.Array)
            passed.append(context.make_array(kind)(context, builder, value).data if is_array else value)
        function = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), passed)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(whole, out, cotangents, data, whole, whole, whole, parameters, weights, sums), codegen
