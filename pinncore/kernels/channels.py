"""The channels of a unit as one value in Numba-compiled code: a tuple of SIMD vectors.

A channel set enters a kernel as a type, `ChannelType`, which holds `Channels.kind` only: how many first derivatives
there are and which of them every form multiplies. So one kernel serves every equation of a kind. Which coordinates the
derivatives are to, and the coefficients of forms that are not 1, are numbers that the kernel is given. Sums over
channels are unrolled, in the order value, first derivatives, forms.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.extending import NativeValue, unbox

from ..equations.channels import Channels
from .simd import Vector, broadcast, call, constant, intrinsic, pointer, vector_pointer

VECTORS = 4  # of a chunk of points: of 1, 2 and 4 the best on every shape tried; 4 x 64 bytes a unit and channel


class ChannelType(types.Type):
    """The Numba type of a kind of channel sets; the values of this type hold nothing."""

    def __init__(self, firsts: int, forms: tuple[tuple[tuple[int, int, bool], ...], ...]) -> None:
        self.firsts, self.forms = firsts, forms
        super().__init__(name=f"Channels({firsts}, {forms})")

    @property
    def count(self) -> int:
        """Return the number of channels of a unit."""
        return 1 + self.firsts + len(self.forms)


def type_of(channels: Channels) -> ChannelType:
    """Return the type of a channel set."""
    return ChannelType(*channels.kind)


@register_default(ChannelType)
class _ChannelModel(models.OpaqueModel):
    pass


@unbox(ChannelType)
def _unbox(kind: Any, value: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


def _parts(builder: Any, bundle: Any, count: int) -> list[Any]:
    return [builder.extract_value(bundle, channel) for channel in range(count)]


def _bundle(context: Any, builder: Any, kind: Any, parts: list[Any]) -> Any:
    bundle = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for channel, part in enumerate(parts):
        bundle = builder.insert_value(bundle, part, channel)
    return bundle


@intrinsic
def channel_count(typingctx: Any, ch: Any) -> Any:
    """Number of channels of a unit, a constant of the compiled code."""
    count = ch.count

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(ch), codegen


@intrinsic
def load_channels(typingctx: Any, ch: Any, array: Any, at: Any, step: Any) -> Any:
    """The vectors at `at`, `at + step`, ..., one for each channel."""
    bundle = types.UniTuple(Vector(array.dtype), ch.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, (_, source, place, step) = sig.args[1], args
        parts = []
        for _channel in range(bundle.count):
            where = vector_pointer(context, builder, kind, source, place)
            parts.append(builder.load(where, align=kind.dtype.bitwidth // 8))
            place = builder.add(place, step)
        return _bundle(context, builder, bundle, parts)

    return bundle(ch, array, types.intp, types.intp), codegen


@intrinsic
def store_channels(typingctx: Any, array: Any, at: Any, step: Any, bundle: Any) -> Any:
    """Write the channels to `at`, `at + step`, ..."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, (target, place, step, value) = sig.args[0], args
        for part in _parts(builder, value, bundle.count):
            builder.store(part, vector_pointer(context, builder, kind, target, place), align=kind.dtype.bitwidth // 8)
            place = builder.add(place, step)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, bundle), codegen


@intrinsic
def add_scaled(typingctx: Any, weight: Any, bundle: Any, sums: Any) -> Any:
    """weight v + s for every channel."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scaled, added = (_parts(builder, arg, bundle.count) for arg in args[1:])
        parts = [call(builder, "fmuladd", args[0], v, s) for v, s in zip(scaled, added, strict=True)]
        return _bundle(context, builder, sums, parts)

    return sums(weight, bundle, sums), codegen


@intrinsic
def add_products(typingctx: Any, a: Any, b: Any, total: Any) -> Any:
    """total + sum of a b over the channels."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = args[2]
        for x, y in zip(*(_parts(builder, arg, a.count) for arg in args[:2]), strict=True):
            result = call(builder, "fmuladd", x, y, result)
        return result

    return total(a, b, total), codegen


@intrinsic
def of_value(typingctx: Any, ch: Any, value: Any) -> Any:
    """The channels (value, 0, ..., 0)."""
    bundle = types.UniTuple(value, ch.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zeros = [constant(args[1].type, 0.0)] * (bundle.count - 1)
        return _bundle(context, builder, bundle, [args[1], *zeros])

    return bundle(ch, value), codegen


@intrinsic
def of_slopes(typingctx: Any, ch: Any, value: Any, array: Any, at: Any, step: Any) -> Any:
    """The channels of a linear function: its value, its constant slopes at `at`, `at + step`, ..., and forms 0."""
    bundle = types.UniTuple(value, ch.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, part, source, place, step = args
        parts = [part]
        for _first in range(ch.firsts):
            slope = builder.load(pointer(context, builder, sig.args[2], source, place))
            parts.append(broadcast(builder, slope, part.type))
            place = builder.add(place, step)
        parts += [constant(part.type, 0.0)] * len(ch.forms)
        return _bundle(context, builder, bundle, parts)

    return bundle(ch, value, array, types.intp, types.intp), codegen


@intrinsic
def value_of(typingctx: Any, bundle: Any) -> Any:
    """The first channel."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.extract_value(args[0], 0)

    return bundle.dtype(bundle), codegen


@intrinsic
def activated(
    typingctx: Any, ch: Any, z: Any, value: Any, first: Any, second: Any, data: Any, columns: Any, stride: Any, at: Any
) -> Any:
    """Channels of a = sigma(z) from those of z, `value` = sigma(z) and sigma', sigma'' there.

    a_i = sigma' z_i,  form' = sigma' form + sigma'' S  with  S = sum of c z_p z_q over the form's terms. Coefficients c
    other than 1 lie in `data` at `columns[n] * stride + at`, n counting them through all forms.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts, (_, _, a, s1, s2) = _parts(builder, args[1], ch.count), args[:5]
        squares, _ = _forms(builder, ch, parts, _coefficients(context, builder, ch, sig.args[5:], args[5:]))
        firsts, forms = parts[1 : 1 + ch.firsts], parts[1 + ch.firsts :]
        out = [a, *(builder.fmul(s1, part) for part in firsts)]
        for form, square in zip(forms, squares, strict=True):
            out.append(call(builder, "fmuladd", s1, form, builder.fmul(s2, square)))
        return _bundle(context, builder, z, out)

    return z(ch, z, value, first, second, data, columns, types.intp, types.intp), codegen


@intrinsic
def activated_reverse(
    typingctx: Any,
    ch: Any,
    bar: Any,
    z: Any,
    first: Any,
    second: Any,
    third: Any,
    data: Any,
    columns: Any,
    stride: Any,
    at: Any,
) -> Any:
    """Cotangents of the channels of z from `bar`, those of a = sigma(z), and sigma', sigma'', sigma''' at z.

    z:     sigma' a~ + sigma'' (sum of a~_i z_i + sum of form~ form) + sigma''' sum of form~ S
    z_i:   sigma' a~_i + sigma'' sum of form~ dS/dz_i        form:  sigma' form~
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bars, parts = (_parts(builder, arg, ch.count) for arg in args[1:3])
        s1, s2, s3 = args[3:6]
        coefficients = _coefficients(context, builder, ch, sig.args[6:], args[6:])
        squares, slopes = _forms(builder, ch, parts, coefficients)
        forms = bars[1 + ch.firsts :]
        value = builder.fmul(s1, bars[0])
        if ch.count > 1:
            inner = _products(builder, bars[1:], parts[1:])
            if forms:
                weighted = _products(builder, [builder.fmul(s3, square) for square in squares], forms)
                inner = call(builder, "fmuladd", s2, inner, weighted)
            else:
                inner = builder.fmul(s2, inner)
            value = call(builder, "fmuladd", s1, bars[0], inner)
        twists = [builder.fmul(s2, form) for form in forms]
        out = [value]
        for first_index in range(ch.firsts):
            added = None
            for twist, slope in zip(twists, slopes, strict=True):
                if first_index in slope:
                    added = _add(builder, twist, slope[first_index], added)
            x = bars[1 + first_index]
            out.append(builder.fmul(s1, x) if added is None else call(builder, "fmuladd", s1, x, added))
        out += [builder.fmul(s1, form) for form in forms]
        return _bundle(context, builder, bar, out)

    return bar(ch, bar, z, first, second, third, data, columns, types.intp, types.intp), codegen


def _add(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """Return a b + total; a b where there is no total yet."""
    return builder.fmul(a, b) if total is None else call(builder, "fmuladd", a, b, total)


def _products(builder: Any, a: list[Any], b: list[Any]) -> Any:
    """Return the sum of a b, the last product first."""
    total = None
    for x, y in zip(reversed(a), reversed(b), strict=True):
        total = _add(builder, x, y, total)
    return total


def _forms(builder: Any, ch: Any, parts: list[Any], coefficients: list[Any]) -> tuple[list[Any], list[dict[int, Any]]]:
    """Return S = sum of c z_p z_q of every form, the last term first, and its derivatives to the z_i by i."""
    firsts, left = parts[1 : 1 + ch.firsts], iter(coefficients)
    squares: list[Any] = []
    slopes: list[dict[int, Any]] = []
    for form in ch.forms:
        terms = [(p, q, next(left) if has_column else None) for p, q, has_column in form]
        square: Any = None
        slope: dict[int, Any] = {}
        for p, q, coefficient in reversed(terms):
            scaled = firsts[p] if coefficient is None else builder.fmul(coefficient, firsts[p])
            square = _add(builder, scaled, firsts[q], square)
            if p == q:
                parts_of_slope = [(p, builder.fadd(scaled, scaled))]
            else:
                other = firsts[q] if coefficient is None else builder.fmul(coefficient, firsts[q])
                parts_of_slope = [(q, scaled), (p, other)]
            for index, part in parts_of_slope:
                slope[index] = builder.fadd(slope[index], part) if index in slope else part
        squares.append(square)
        slopes.append(slope)
    return squares, slopes


def _coefficients(context: Any, builder: Any, ch: Any, kinds: Any, args: Any) -> list[Any]:
    """Return the vectors of the forms' coefficients that are not 1; the arguments are data, columns, stride, at."""
    data, columns, stride, at = args
    vectors = []
    for number in range(sum(has_column for form in ch.forms for *_, has_column in form)):
        place = pointer(context, builder, kinds[1], columns, context.get_constant(types.intp, number))
        start = builder.add(builder.mul(builder.load(place), stride), at)
        vectors.append(
            builder.load(vector_pointer(context, builder, kinds[0], data, start), align=kinds[0].dtype.bitwidth // 8)
        )
    return vectors
