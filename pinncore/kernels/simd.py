"""SIMD vectors as values in Numba-compiled code, so that kernels block their registers themselves.

`Vector` is a fixed number of float32 or float64 lanes: one hardware register (64 bytes with AVX-512, else 32). The
order of every operation is then written in the kernel and not left to an optimiser: a result depends neither on the
number of rows nor on where a loop is split. Products and sums fuse to one rounding where the hardware can (`fma`).

    lanes(array), load(array, at), store(array, at, v), splat(array, at), fill(array, x), v + w, fma(a, b, c), total(v)

Indices are elements of 1-D contiguous arrays and are not checked.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import llvmlite.binding
import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic


def _intrinsic(function: Any) -> Any:
    """Apply Numba's decorator; for callers the arguments have any type, because the function's own are Numba types."""
    return intrinsic(function)


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


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [at], inbounds=True)


def _vector_pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    kind = context.get_value_type(Vector(array_type.dtype))
    return builder.bitcast(_pointer(context, builder, array_type, array, at), kind.as_pointer())


def _broadcast(builder: Any, scalar: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)


def _call(builder: Any, name: str, *args: Any) -> Any:
    kind = args[0].type
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(args)), f"llvm.{name}.v{kind.count}f{bits}"
    )
    return builder.call(function, args)


@_intrinsic
def lanes(typingctx: Any, array: Any) -> Any:
    """Lanes of a vector of the array's type, a constant of the compiled code."""
    count = lanes_of(array.dtype.bitwidth)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(array), codegen


@_intrinsic
def load(typingctx: Any, array: Any, at: Any) -> Any:
    """The vector that starts at element `at`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        return builder.load(_vector_pointer(context, builder, sig.args[0], *args), align=size)

    return Vector(array.dtype)(array, types.intp), codegen


@_intrinsic
def store(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """Write a vector from element `at` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        builder.store(args[2], _vector_pointer(context, builder, sig.args[0], args[0], args[1]), align=size)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@_intrinsic
def splat(typingctx: Any, array: Any, at: Any) -> Any:
    """One element in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = builder.load(_pointer(context, builder, sig.args[0], *args))
        return _broadcast(builder, scalar, context.get_value_type(sig.return_type))

    return Vector(array.dtype)(array, types.intp), codegen


@_intrinsic
def fill(typingctx: Any, like: Any, value: Any) -> Any:
    """A number in every lane of a vector of the array's type."""
    element = like.dtype

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = context.cast(builder, args[1], sig.args[1], element)
        return _broadcast(builder, scalar, context.get_value_type(sig.return_type))

    return Vector(element)(like, value), codegen


@_intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where the hardware fuses."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "fmuladd", *args)

    return a(a, b, c), codegen


@_intrinsic
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

    @_intrinsic
    def function(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _call(builder, name, *args)

        return value(value), codegen

    return function


sin, cos, absolute = _elementwise("sin"), _elementwise("cos"), _elementwise("fabs")

# expm1 on [-ln2/2, ln2/2] is a Taylor polynomial: 1.5e-8 off in float32 and below 1e-17 in float64
_DEGREE = {32: 7, 64: 13}
_LOWEST = {32: -80.0, 64: -700.0}  # powers of two stay normal numbers down to here
_LN2_HIGH = {32: 0.693359375, 64: float.fromhex("0x1.62e42fefa3800p-1")}  # few bits, so that k LN2_HIGH is exact
_LN2_LOW = {32: -2.12194440e-4, 64: float.fromhex("0x1.ef35793c76730p-45")}


def _exponential(less_one: bool) -> Any:
    """exp(x), or exp(x) - 1, for x <= 0 to an ulp or two; NaN stays NaN."""

    @_intrinsic
    def function(typingctx: Any, value: Any) -> Any:
        bits = value.element.bitwidth
        mantissa = 23 if bits == 32 else 52
        # adding `magic` rounds to a whole number k and leaves k + bias in the lowest bits
        magic = 1.5 * 2**mantissa + (127 if bits == 32 else 1023)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (x,) = args
            kind, whole = x.type, ir.VectorType(ir.IntType(bits), x.type.count)

            def constant(number: float) -> Any:
                return ir.Constant(kind, [number] * kind.count)

            too_low = builder.fcmp_ordered("<", x, constant(_LOWEST[bits]))
            x = builder.select(too_low, constant(_LOWEST[bits]), x)
            shifted = _call(builder, "fmuladd", x, constant(1 / math.log(2)), constant(magic))
            k = builder.fsub(shifted, constant(magic))
            power = builder.shl(builder.bitcast(shifted, whole), ir.Constant(whole, [mantissa] * kind.count))
            power = builder.bitcast(power, kind)
            r = _call(builder, "fmuladd", k, constant(-_LN2_HIGH[bits]), x)
            r = _call(builder, "fmuladd", k, constant(-_LN2_LOW[bits]), r)
            q = constant(1 / math.factorial(_DEGREE[bits]))
            for n in range(_DEGREE[bits] - 1, 0, -1):
                q = _call(builder, "fmuladd", q, r, constant(1 / math.factorial(n)))
            rest = builder.fsub(power, constant(1.0)) if less_one else power
            return _call(builder, "fmuladd", power, builder.fmul(q, r), rest)

        return value(value), codegen

    return function


exp, expm1 = _exponential(less_one=False), _exponential(less_one=True)


@_intrinsic
def where_negative(typingctx: Any, sign: Any, a: Any, b: Any) -> Any:
    """a in the lanes where the first is below zero, else b."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, [0.0] * args[0].type.count)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), args[1], args[2])

    return a(sign, a, b), codegen


@_intrinsic
def copysign(typingctx: Any, magnitude: Any, sign: Any) -> Any:
    """The magnitude of one with the signs of the other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "copysign", *args)

    return magnitude(magnitude, sign), codegen


@_intrinsic
def erfc(typingctx: Any, value: Any) -> Any:
    """The complementary error function, lane by lane by the C library."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (vector,) = args
        scalar = vector.type.element
        name = "erfcf" if isinstance(scalar, ir.FloatType) else "erfc"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(scalar, [scalar]), name)
        result = ir.Constant(vector.type, ir.Undefined)
        for lane in range(vector.type.count):
            at = ir.Constant(ir.IntType(32), lane)
            result = builder.insert_element(result, builder.call(function, [builder.extract_element(vector, at)]), at)
        return result

    return value(value), codegen


@_intrinsic
def load_double(typingctx: Any, array: Any, at: Any) -> Any:
    """A vector of float64 from element `at` on, whichever float the array holds."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element, wide = sig.args[0].dtype, context.get_value_type(sig.return_type)
        kind = ir.VectorType(context.get_value_type(element), wide.count)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], *args), kind.as_pointer())
        vector = builder.load(pointer, align=element.bitwidth // 8)
        return vector if element.bitwidth == 64 else builder.fpext(vector, wide)

    return Vector(types.float64)(array, types.intp), codegen
