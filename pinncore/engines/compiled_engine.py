"""The packed forward derivatives of `torch_engine`, compiled by `torch.compile`.

One compiled function takes a chunk of points forward, another one back; between them is the residual, in plain torch.
The compiler fuses all pointwise operations of a layer into one pass, including the first layer's constant derivatives.
So there is less memory traffic, and larger chunks are best: 1.3 to 1.9 times the speed of `torch` on one core, 2 x 16
to 3 x 32.

The first evaluation of a depth and a set of channels compiles, which takes seconds (2 layers) to half a minute (16),
and a third of that in later processes, which find the code in torch's cache. Sizes are dynamic: other widths and
numbers of members and points run the same code, except a single member, which has its own.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
import sysconfig
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..activations import ACTIVATIONS, Activation
from ..equations.channels import Channels, Form, Group
from ..errors import SettingError
from ..layouts import PackedLayout
from ..problems.base import Problem
from .stacked import StackedMembers, StackedPoints
from .torch_engine import TorchEngine, Views, residual

# value, first derivatives and forms, each [members, units, points]
_Channels = tuple[Tensor, list[Tensor], list[Tensor] | None]


class CompiledTorchEngine(TorchEngine):
    """`TorchEngine` with compiled work on a chunk. Raises `SettingError` on a CPU without a C++ compiler."""

    name = "torch_compiled"
    chunk_bytes = 300_000  # the best of 200,000, 300,000 and 500,000 for 2 x 16 and 8 x 8, packs of 1 and 4
    chunk_points = (128, 6400)

    def __init__(self, problems: Sequence[Problem], layout: PackedLayout, **options: Any) -> None:
        super().__init__(problems, layout, **options)
        if self.device.type == "cpu":
            self.check_machine()

    @classmethod
    def check_machine(cls) -> None:
        check_compiler()

    def _accumulate(
        self, weights: Views, gradient: Tensor, group: Group, points: StackedPoints, members: StackedMembers
    ) -> Tensor:
        forward, reverse = _compiled(self.activation, len(weights), self.dtype, torch.get_num_threads(), group.channels)
        output, saved = forward(weights, *points, members.seeds)
        square, cotangent = residual(group, points, members, output)
        gradient += reverse(weights, *points, members.seeds, saved, cotangent)
        return square


def check_compiler() -> None:
    """Raise `SettingError` where torch cannot compile for the CPU."""
    compiler = shlex.split(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    problem = None
    if shutil.which(compiler) is None:
        problem = f"the compiler {compiler} is missing"
    elif not header.is_file():
        problem = f"Python's header {header} is missing"
    if problem:
        raise SettingError(
            "engine",
            CompiledTorchEngine.name,
            f"needs a C++ compiler and Python's headers on a CPU, but {problem}",
            "Install them (Debian, Ubuntu: g++ python3-dev), name another compiler in CXX, or use engine: torch.",
        )


@functools.cache
def _compiled(
    activation: str, depth: int, dtype: torch.dtype, threads: int, channels: Channels
) -> tuple[Callable[..., Any], ...]:
    """Return the compiled forward and reverse functions for networks of `depth` weight matrices.

    Torch counts recompilations per code object and gives up after eight, so each function gets its own. On a CPU the
    number of threads is compiled in.
    """
    name = f"{activation}_{depth}_{str(dtype).rpartition('.')[2]}_{threads}_{channels.firsts}_{channels.forms}"
    compiled = []
    for function in (_forward, _reverse):
        code = function.__code__.replace(co_name=f"{function.__name__}_{name}")
        copy = types.FunctionType(code, globals(), code.co_name)
        copy.__kwdefaults__ = {"sigma": ACTIVATIONS[activation], "firsts": channels.firsts, "forms": channels.forms}
        compiled.append(torch.compile(copy, dynamic=True, options={"cpp.threads": threads}))
    return tuple(compiled)


def _forward(
    weights: Views,
    inputs: Tensor,
    columns: Tensor,
    seeds: Tensor,
    *,
    sigma: Activation,
    firsts: tuple[int, ...],
    forms: tuple[Form, ...],
) -> tuple[Tensor, list[Tensor]]:
    """Return the output channels [members, outputs, channels, points], and z and activation of each layer."""
    w, b = weights[0]
    count = 1 + len(firsts) + len(forms)
    z = torch.baddbmm(b[:, :, None], w.transpose(1, 2), inputs)
    channels: _Channels = (z, _seeded(w, seeds, firsts), None)
    saved = []
    for w, b in weights[1:]:
        activation = _activation(sigma, forms, columns, channels)
        saved += [z, activation]
        z = torch.bmm(w.transpose(1, 2), activation.flatten(2)).view(*w.shape[::2], count, -1)
        channels = _channels(z, b, len(firsts))
    value, slopes, seconds = channels
    if seconds is None:  # no hidden layer
        seconds = [torch.zeros_like(value) for _ in forms]
    return torch.stack([value, *(slope.expand_as(value) for slope in slopes), *seconds], dim=2), saved


def _reverse(
    weights: Views,
    inputs: Tensor,
    columns: Tensor,
    seeds: Tensor,
    saved: list[Tensor],
    cotangent: Tensor,
    *,
    sigma: Activation,
    firsts: tuple[int, ...],
    forms: tuple[Form, ...],
) -> Tensor:
    """Return the gradient [members, size] from the cotangent of the output channels."""
    gradients: list[Tensor] = []
    bars = list(cotangent.unbind(2))
    for level in range(len(weights) - 1, 0, -1):
        (w, _), (before, bias) = weights[level], weights[level - 1]
        z, activation = saved[2 * level - 2], saved[2 * level - 1]
        flat = torch.stack(bars, dim=2).flatten(2)
        gradients = [torch.bmm(activation.flatten(2), flat.transpose(1, 2)).flatten(1), bars[0].sum(dim=2), *gradients]
        incoming = torch.bmm(w, flat).view_as(activation)
        channels: _Channels = (z, _seeded(before, seeds, firsts), None)
        if level > 1:
            channels = _channels(z, bias, len(firsts))
        bars = _activation_reverse(sigma, forms, columns, channels, activation[:, :, 0], incoming)
    rows = list(torch.bmm(inputs, bars[0].transpose(1, 2)).unbind(1))
    for k, coordinate in enumerate(firsts, start=1):
        rows[coordinate] = rows[coordinate] + seeds[:, coordinate, None] * bars[k].sum(dim=2)
    return torch.cat([torch.stack(rows, dim=1).flatten(1), bars[0].sum(dim=2), *gradients], dim=1)


def _seeded(w: Tensor, seeds: Tensor, firsts: tuple[int, ...]) -> list[Tensor]:
    """Return the derivatives of z in the first layer, each [members, units, 1]."""
    return [(seeds[:, coordinate, None] * w[:, coordinate])[:, :, None] for coordinate in firsts]


def _channels(z: Tensor, b: Tensor, firsts: int) -> _Channels:
    value, *others = z.unbind(2)
    return value + b[:, :, None], others[:firsts], others[firsts:]


def _square(form: Form, slopes: list[Tensor], columns: Tensor) -> Tensor:
    """Return sum of c_pq z_p z_q."""
    parts = [
        slopes[p] * slopes[q] if column is None else columns[:, None, column] * (slopes[p] * slopes[q])
        for p, q, column in form
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _activation(sigma: Activation, forms: tuple[Form, ...], columns: Tensor, channels: _Channels) -> Tensor:
    """Return the channels of the activation [members, units, channels, points]; forms of None are zero."""
    z, slopes_of_z, seconds = channels
    a = sigma.value(z)
    slopes = sigma.slopes(z, a)
    out = [a, *(slopes.first * slope for slope in slopes_of_z)]
    for place, form in enumerate(forms):
        second = slopes.second * _square(form, slopes_of_z, columns)
        out.append(second if seconds is None else slopes.first * seconds[place] + second)
    return torch.stack(out, dim=2)


def _activation_reverse(
    sigma: Activation, forms: tuple[Form, ...], columns: Tensor, channels: _Channels, a: Tensor, cotangent: Tensor
) -> list[Tensor]:
    """Return the cotangents of the channels of z by the formulas in `torch_engine`."""
    z, slopes_of_z, seconds = channels
    slopes = sigma.slopes(z, a)
    first, second = slopes.first, slopes.second
    bar, *bars = cotangent.unbind(2)
    count = len(slopes_of_z)
    value = first * bar
    for slope, slope_bar in zip(slopes_of_z, bars[:count], strict=True):
        value = value + second * (slope_bar * slope)
    out = [first * each for each in bars]
    for place, form in enumerate(forms):
        form_bar = bars[count + place]
        value = value + sigma.third(slopes) * _square(form, slopes_of_z, columns) * form_bar
        if seconds is not None:
            value = value + second * (form_bar * seconds[place])
        for p, q, column in form:
            twist = second * form_bar
            if column is not None:
                twist = twist * columns[:, None, column]
            out[p] = out[p] + twist * slopes_of_z[q]
            out[q] = out[q] + twist * slopes_of_z[p]
    return [value, *out]
