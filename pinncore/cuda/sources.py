"""The text of GPU kernels: what is written by hand, and what is generated from a group of residuals.

A `LossKernel` is one entry point, whose width, number type and equation are known when it is compiled.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..equations.channels import Channels, Form, Group
from ..kernels.expressions import ScalarPrinter
from ..kernels.residuals import checked_residuals, residual_code
from .limits import ITEM_BYTES, TILES, WARPS, Shape

HERE: Final = Path(__file__).parent
STEP_THREADS: Final = 128  # of a block that adds up the sums of one network
TYPES: Final = {"float32": "float", "float64": "double"}
ACTIVATIONS: Final = {"tanh": "Tanh", "sin": "Sin", "silu": "Silu", "gelu": "Gelu"}

EQUATION = """struct Equation {{
  static constexpr int INPUTS = {inputs}, OUTPUTS = {outputs}, FIRSTS = {firsts}, FORMS = {forms};
  static constexpr int CHANNELS = 1 + FIRSTS + FORMS, COLUMNS = {columns}, PARAMETERS = {parameters};
  static constexpr int RESIDUALS = {residuals};
  static __host__ __device__ constexpr int coordinate(int k) {{ return {coordinate}; }}
  template <typename T, typename D>
  static __device__ __forceinline__ void squares(const T *z, const D &d, T *s) {{
{squares}
  }}
  template <typename T, typename D>
  static __device__ __forceinline__ void turn(const T *z, const D &d, const T *t, T *out) {{
{turn}
  }}
  template <typename R, typename D>
  static __device__ __forceinline__ void residual(const R *c, const D &d, const R *p, const R *w, bool is_live,
                                                  double *squares, R *bars) {{
{residual}
  }}
}};
"""


@dataclass(frozen=True)
class Equation:
    """The generated part of a kernel, and the sizes in it."""

    text: str
    inputs: int
    outputs: int
    channels: int
    residuals: int


@dataclass(frozen=True)
class LossKernel:
    """The kernel of an equation for networks of one width.

    `goes_back`: it gives gradients, not only residuals and outputs; `device_tape`: layers are kept in device memory;
    `columns_dtype`: of data columns and residuals, as `dtype` where it is empty.
    """

    equation: Equation
    activation: str
    dtype: str
    width: int  # a whole number of four
    goes_back: bool = True
    device_tape: bool = False
    columns_dtype: str = ""

    @functools.cached_property
    def source(self) -> str:
        """Return the text of the kernel, without what a compiler needs before it."""
        number, column = TYPES[self.dtype], TYPES[self.columns_dtype or self.dtype]
        activation = f"{ACTIVATIONS[self.activation]}<{number}>"
        flags = f"{str(self.device_tape).lower()}, {str(self.goes_back).lower()}"
        call = (
            f"loss<{number}, {column}, {self.width}, Equation, {activation}, {WARPS}, {flags}>(g, ({number} *)shared)"
        )
        entry = _entry("loss", f"LossArguments<{number}, {column}>", call, 32 * WARPS)
        return "\n".join([f"#define TILES_PER_BLOCK {TILES}", text_of("network.cuh"), self.equation.text, entry])

    @property
    def shape(self) -> Shape:
        """Return what the memory of a block depends on."""
        e, item = self.equation, ITEM_BYTES[self.dtype]
        return Shape(self.width, e.inputs, e.outputs, e.channels, item, e.residuals, self.activation == "tanh")

    def shared_bytes(self, depth: int) -> int:
        """Return the shared memory of a block for `depth` hidden layers."""
        return self.shape.shared_bytes(depth, goes_back=self.goes_back, device_tape=self.device_tape)

    def with_tape(self, depth: int, most: int, best: int) -> LossKernel:
        """Return the kernel with its tape in shared memory where a block then needs at most `best` bytes, or `most`.

        `most` is what a block may have, `best` what lets several run side by side. Two layers stay on chip anyway.
        """
        needs_device = self.goes_back and depth > 2 and self.shared_bytes(depth) > min(most, best)
        return replace(self, device_tape=True) if needs_device else self

    def tape_bytes(self, depth: int, blocks: int) -> int:
        """Return the device memory of the tape of so many blocks."""
        return blocks * self.shape.tape_bytes(depth) if self.device_tape else 0


@functools.cache
def step_source(dtype: str) -> str:
    """Return the text of the kernels `step`, `keep` and `pull`, without what a compiler needs before it."""
    number = TYPES[dtype]
    step = _entry("step", f"StepArguments<{number}>", "step(g, (double *)shared)", STEP_THREADS)
    pull = _entry("pull", f"PullArguments<{number}>", "pull(g)", STEP_THREADS)
    keep = _entry("keep", f"KeepArguments<{number}>", "keep(g)", STEP_THREADS)
    return "\n".join([text_of("step.cuh"), step, keep, pull])


def _entry(name: str, arguments: str, call: str, threads: int) -> str:
    """Return an entry point, which the text before it (device.h, host.h) makes of this."""
    return f"""using {name}_arguments = {arguments};
static __device__ __forceinline__ void {name}_body(const {name}_arguments &g, void *shared) {{ {call}; }}
ENTRY({name}, {threads})
"""


@functools.cache
def text_of(name: str) -> str:
    """Return the text of a source beside this module."""
    return (HERE / name).read_text()


def equation_of(group: Group, inputs: int) -> Equation:
    """Return the equation of the residuals of a group, for a network with so many inputs.

    Raises `SettingError` where an expression has no form.
    """
    symbols = group.channel_symbols, group.column_symbols, group.parameter_symbols
    return _equation(group.channels, inputs, checked_residuals(group), *symbols, is_coupled=group.is_coupled)


@functools.cache
def outputs_equation(channels: Channels, inputs: int, outputs: int, columns: int = 0) -> Equation:
    """Return the equation of the channels of outputs, without residuals that mean anything."""
    return _text(channels, inputs, outputs, columns, 0, 1, [])


@functools.cache
def values_equation(inputs: int, outputs: int) -> Equation:
    """Return the equation of the values of outputs n, with residuals d_2n + d_2n+1 c_n."""
    body = [f"const R r{o} = is_live ? d[{2 * o}] + d[{2 * o + 1}] * c[{o}] : R(0);" for o in range(outputs)]
    body += [f"squares[{o}] += double(r{o}) * double(r{o});" for o in range(outputs)]
    return _text(Channels(), inputs, outputs, 2 * outputs, 0, outputs, body)


@functools.cache
def _equation(
    channels: Channels,
    inputs: int,
    residuals: tuple[Any, ...],
    channel_symbols: tuple[tuple[Any, ...], ...],
    column_symbols: tuple[Any, ...],
    parameter_symbols: tuple[Any, ...],
    *,
    is_coupled: bool,
) -> Equation:
    pull = f"d[{len(column_symbols)}]"  # M r, in a column of its own

    def after(i: int) -> tuple[str, ...]:
        if is_coupled:
            return (f"const R b{i} = is_live ? {pull} : R(0);", f"squares[{i}] += double(r{i} * b{i});")
        factor = "" if len(residuals) == 1 else f"w[{i}] * "
        return (
            f"if (!is_live) r{i} = R(0);",
            f"squares[{i}] += double(r{i} * r{i});",
            f"const R b{i} = {factor}r{i};",
        )

    code = residual_code(
        *(residuals, channel_symbols, column_symbols, parameter_symbols), ScalarPrinter(), after, define="R "
    )
    body = [f"const R {letter}{number} = {letter}[{number}];" for letter in "cdp" for _, number in code.used(letter)]
    lines = [f"{line};" if line[-1] != ";" else line for line in code.lines]
    count = sum(map(len, channel_symbols))
    lines += [f"bars[{i}] = {code.cotangents.get(i, 'R(0)')};" for i in range(count)]
    sizes = len(channel_symbols), len(column_symbols) + is_coupled, len(parameter_symbols), len(residuals)
    return _text(channels, inputs, *sizes, [*body, *lines])


def _text(
    channels: Channels, inputs: int, outputs: int, columns: int, parameters: int, residuals: int, body: Sequence[str]
) -> Equation:
    coordinate = "0"
    for k, axis in reversed(list(enumerate(channels.firsts))):
        coordinate = f"k == {k} ? {axis} : {coordinate}"
    squares = [f"s[{f}] = {_square(form)};" for f, form in enumerate(channels.forms)]
    turn = [f"out[{k}] = {_turned(channels.forms, k)};" for k in range(len(channels.firsts))]
    text = EQUATION.format(
        inputs=inputs,
        outputs=outputs,
        firsts=len(channels.firsts),
        forms=len(channels.forms),
        columns=columns,
        parameters=parameters,
        residuals=residuals,
        coordinate=coordinate,
        squares=_indented(squares),
        turn=_indented(turn),
        residual=_indented(body),
    )
    return Equation(text, inputs, outputs, channels.count, residuals)


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _square(form: Form) -> str:
    """Return the sum of c z_p z_q."""
    return " + ".join(f"{_coefficient(column)}z[{p}] * z[{q}]" for p, q, column in form)


def _turned(forms: Sequence[Form], k: int) -> str:
    """Return the sum over forms of t times the derivative of their squares to z_k."""
    parts = []
    for f, form in enumerate(forms):
        slopes = []
        for p, q, column in form:
            slopes += [f"{_coefficient(column)}z[{q}]"] * (p == k) + [f"{_coefficient(column)}z[{p}]"] * (q == k)
        if slopes:
            parts.append(f"t[{f}] * ({' + '.join(slopes)})")
    return " + ".join(parts) or "T(0)"


def _coefficient(column: int | None) -> str:
    return "" if column is None else f"T(d[{column}]) * "


def digest_of(*texts: str) -> str:
    """Return a name for what is compiled from texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
