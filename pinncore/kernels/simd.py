"""SIMD vectors as values in Numba-compiled code, so that kernels block their registers themselves.

`Vector` is a fixed number of float32 or float64 lanes: one hardware register (64 bytes with AVX-512, else 32). The
order of every operation is then written in the kernel and not left to an optimiser: a result depends neither on the
number of rows nor on where a loop is split. Products and sums fuse to one rounding where the hardware can (`fma`).

    lanes(array), load(array, at), store(array, at, v), splat(array, at), fill(array, x), v + w, fma(a, b, c), total(v)

Indices are elements of 1-D contiguous arrays and are not checked. Truths are numbers too: 1 or 0 in every lane.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import llvmlite.binding
import llvmlite.ir as ir
from numba import extending
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature


def intrinsic(function: Any) -> Any:
    """Apply Numba's decorator; for callers the arguments have any type, because the function's own are Numba types."""
    return extending.intrinsic(function)


VECTOR_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32


def lanes_of(bits: int) -> int:
    """Return the number of lanes of a vector of floats with `bits` bits."""
    return VECTOR_BYTES * 8 // bits


class Vector(types.Type):
    """The Numba type of a vector of `element`."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        super().__init__(name=f"Vector({element} x {lanes_of(element.bitwidth)})")


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        element = ir.FloatType() if fe_type.element.bitwidth == 32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, lanes_of(fe_type.element.bitwidth)))


def _binary(operation: Any, instruction: str) -> None:
    @infer_global(operation)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and args[0] == args[1] and isinstance(args[0], Vector):
                return signature(args[0], *args)
            return None

    @lower_builtin(operation, Vector, Vector)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


@infer_global(operator.neg)
class _NegativeTemplate(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], *args) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negative(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(*args)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [at], inbounds=True)


def vector_pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    kind = context.get_value_type(Vector(array_type.dtype))
    return builder.bitcast(pointer(context, builder, array_type, array, at), kind.as_pointer())


def broadcast(builder: Any, scalar: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)


def call(builder: Any, name: str, *args: Any) -> Any:
    kind = args[0].type
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(args)), f"llvm.{name}.v{kind.count}f{bits}"
    )
    return builder.call(function, args)


@intrinsic
def lanes(typingctx: Any, array: Any) -> Any:
    """Lanes of a vector of the array's type, a constant of the compiled code."""
    count = lanes_of(array.dtype.bitwidth)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(array), codegen


@intrinsic
def load(typingctx: Any, array: Any, at: Any) -> Any:
    """The vector that starts at element `at`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        return builder.load(vector_pointer(context, builder, sig.args[0], *args), align=size)

    return Vector(array.dtype)(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """Write a vector from element `at` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        builder.store(args[2], vector_pointer(context, builder, sig.args[0], args[0], args[1]), align=size)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def splat(typingctx: Any, array: Any, at: Any) -> Any:
    """One element in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = builder.load(pointer(context, builder, sig.args[0], *args))
        return broadcast(builder, scalar, context.get_value_type(sig.return_type))

    return Vector(array.dtype)(array, types.intp), codegen


@intrinsic
def fill(typingctx: Any, like: Any, value: Any) -> Any:
    """A number in every lane of a vector of the array's type."""
    element = like.dtype

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = context.cast(builder, args[1], sig.args[1], element)
        return broadcast(builder, scalar, context.get_value_type(sig.return_type))

    return Vector(element)(like, value), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where the hardware fuses."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return call(builder, "fmuladd", *args)

    return a(a, b, c), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Sum of the lanes by halves, a fixed tree."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (vector,) = args
        while vector.type.count > 1:
            half, undefined = vector.type.count // 2, ir.Constant(vector.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(
                    vector,
                    undefined,
                    ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(start, start + half))),
                )
                for start in (0, half)
            )
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return value.element(value), codegen


def _elementwise(name: str) -> Any:
    """Return a function of one vector that calls the LLVM intrinsic `name`."""

    @intrinsic
    def function(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return call(builder, name, *args)

        return value(value), codegen

    return function


sin, cos, sqrt = _elementwise("sin"), _elementwise("cos"), _elementwise("sqrt")
absolute, floor = _elementwise("fabs"), _elementwise("floor")

# expm1 on [-ln2/2, ln2/2] is a Taylor polynomial: 1.5e-8 off in float32 and below 1e-17 in float64
_DEGREE = {32: 7, 64: 13}
_LOWEST = {32: -80.0, 64: -700.0}  # powers of two stay normal numbers down to here
_LIMITS = {32: (-104.0, 89.0), 64: (-746.0, 710.0)}  # exp is 0 below, infinite above
_LN2_HIGH = {32: 0.693359375, 64: float.fromhex("0x1.62e42fefa3800p-1")}  # few bits, so that k LN2_HIGH is exact
_LN2_LOW = {32: -2.12194440e-4, 64: float.fromhex("0x1.ef35793c76730p-45")}


def constant(kind: Any, number: float) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _reduced(builder: Any, bits: int, x: Any) -> tuple[Any, Any]:
    """Return `rest` and `shifted` of exp(x) = 2^k (1 + rest); the lowest bits of `shifted` are k + bias."""
    mantissa = 23 if bits == 32 else 52
    # adding `magic` rounds to a whole number k and leaves k + bias in the lowest bits
    magic = constant(x.type, 1.5 * 2**mantissa + (127 if bits == 32 else 1023))
    shifted = call(builder, "fmuladd", x, constant(x.type, 1 / math.log(2)), magic)
    k = builder.fsub(shifted, magic)
    r = call(builder, "fmuladd", k, constant(x.type, -_LN2_HIGH[bits]), x)
    r = call(builder, "fmuladd", k, constant(x.type, -_LN2_LOW[bits]), r)
    q = constant(x.type, 1 / math.factorial(_DEGREE[bits]))
    for n in range(_DEGREE[bits] - 1, 0, -1):
        q = call(builder, "fmuladd", q, r, constant(x.type, 1 / math.factorial(n)))
    whole = ir.VectorType(ir.IntType(bits), x.type.count)
    return builder.fmul(q, r), builder.bitcast(shifted, whole)


def _power_of_two(builder: Any, bits: int, biased: Any, kind: Any) -> Any:
    """Return 2^k from whole numbers whose lowest bits are k + bias."""
    mantissa = ir.Constant(biased.type, [23 if bits == 32 else 52] * kind.count)
    return builder.bitcast(builder.shl(biased, mantissa), kind)


def _exponential(less_one: bool) -> Any:
    """exp(x), or exp(x) - 1, for x <= 0 to an ulp or two; NaN stays NaN."""

    @intrinsic
    def function(typingctx: Any, value: Any) -> Any:
        bits = value.element.bitwidth

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (x,) = args
            lowest = constant(x.type, _LOWEST[bits])
            x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
            rest, shifted = _reduced(builder, bits, x)
            power = _power_of_two(builder, bits, shifted, x.type)
            one = builder.fsub(power, constant(x.type, 1.0)) if less_one else power
            return call(builder, "fmuladd", power, rest, one)

        return value(value), codegen

    return function


exp_negative, expm1_negative = _exponential(less_one=False), _exponential(less_one=True)


@intrinsic
def exp(typingctx: Any, value: Any) -> Any:
    """exp(x) to an ulp or two for every x, infinite where it is too large for a float; NaN stays NaN."""
    bits = value.element.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (x,) = args
        low, high = (constant(x.type, limit) for limit in _LIMITS[bits])
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
        x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
        rest, shifted = _reduced(builder, bits, x)
        whole = shifted.type
        # 2^k in two factors, because the largest and the smallest k are no exponents of a normal number
        bias = ir.Constant(whole, [127 if bits == 32 else 1023] * whole.count)
        magic = builder.bitcast(constant(x.type, 1.5 * 2 ** (23 if bits == 32 else 52)), whole)
        k = builder.sub(builder.sub(shifted, magic), bias)
        half = builder.ashr(k, ir.Constant(whole, [1] * whole.count))
        first = _power_of_two(builder, bits, builder.add(half, bias), x.type)
        second = _power_of_two(builder, bits, builder.add(builder.sub(k, half), bias), x.type)
        return builder.fmul(call(builder, "fmuladd", first, rest, first), second)

    return value(value), codegen


@intrinsic
def where_negative(typingctx: Any, sign: Any, a: Any, b: Any) -> Any:
    """a in the lanes where the first is below zero, else b."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, [0.0] * args[0].type.count)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), args[1], args[2])

    return a(sign, a, b), codegen


@intrinsic
def copysign(typingctx: Any, magnitude: Any, sign: Any) -> Any:
    """The magnitude of one with the signs of the other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return call(builder, "copysign", *args)

    return magnitude(magnitude, sign), codegen


def _library(name: str, operands: int = 1) -> Any:
    """Return a function of vectors that calls the function `name` of the C library lane by lane."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        scalar = kind.element
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(scalar, [scalar] * len(args)),
            f"{name}f" if isinstance(scalar, ir.FloatType) else name,
        )
        result = ir.Constant(kind, ir.Undefined)
        for lane in range(kind.count):
            at = ir.Constant(ir.IntType(32), lane)
            called = builder.call(function, [builder.extract_element(arg, at) for arg in args])
            result = builder.insert_element(result, called, at)
        return result

    @intrinsic
    def of_one(typingctx: Any, value: Any) -> Any:
        return value(value), lower

    @intrinsic
    def of_two(typingctx: Any, a: Any, b: Any) -> Any:
        return a(a, b), lower

    return of_one if operands == 1 else of_two


erf, erfc, log = _library("erf"), _library("erfc"), _library("log")
power, atan2 = _library("pow", operands=2), _library("atan2", operands=2)
tan, asin, acos, atan = _library("tan"), _library("asin"), _library("acos"), _library("atan")
sinh, cosh, tanh = _library("sinh"), _library("cosh"), _library("tanh")
asinh, acosh, atanh = _library("asinh"), _library("acosh"), _library("atanh")


def _comparison(sign: str) -> Any:
    """Return a function of two vectors: 1 in the lanes where the comparison holds, else 0."""

    @intrinsic
    def function(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = args[0].type
            return builder.select(builder.fcmp_ordered(sign, *args), constant(kind, 1.0), constant(kind, 0.0))

        return a(a, b), codegen

    return function


less, less_equal, equal = _comparison("<"), _comparison("<="), _comparison("==")


@intrinsic
def where(typingctx: Any, truth: Any, a: Any, b: Any) -> Any:
    """a in the lanes where `truth` is not 0, else b."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        nonzero = builder.fcmp_unordered("!=", args[0], constant(args[0].type, 0.0))
        return builder.select(nonzero, args[1], args[2])

    return a(truth, a, b), codegen


def _extreme(sign: str) -> Any:
    """Return a function of two vectors, the larger or the smaller one; NaN where one of them is NaN."""

    @intrinsic
    def function(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            x, y = args
            is_first = builder.or_(builder.fcmp_unordered("uno", x, x), builder.fcmp_ordered(sign, x, y))
            return builder.select(is_first, x, y)

        return a(a, b), codegen

    return function


maximum, minimum = _extreme(">"), _extreme("<")


@intrinsic
def first_lanes(typingctx: Any, value: Any, count: Any) -> Any:
    """The first `count` lanes (any whole number), 0 in the others."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        whole = ir.VectorType(ir.IntType(64), kind.count)
        number = builder.sext(args[1], whole.element) if args[1].type.width < 64 else args[1]
        inside = builder.icmp_signed(
            "<", ir.Constant(whole, list(range(kind.count))), broadcast(builder, number, whole)
        )
        return builder.select(inside, args[0], constant(kind, 0.0))

    return value(value, count), codegen


@intrinsic
def load_double(typingctx: Any, array: Any, at: Any) -> Any:
    """A vector of float64 from element `at` on, whichever float the array holds."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element, wide = sig.args[0].dtype, context.get_value_type(sig.return_type)
        kind = ir.VectorType(context.get_value_type(element), wide.count)
        place = builder.bitcast(pointer(context, builder, sig.args[0], *args), kind.as_pointer())
        vector = builder.load(place, align=element.bitwidth // 8)
        return vector if element.bitwidth == 64 else builder.fpext(vector, wide)

    return Vector(types.float64)(array, types.intp), codegen
