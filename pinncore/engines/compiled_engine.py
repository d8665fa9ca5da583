"""The packed forward Laplacian of `torch_engine`, compiled by `torch.compile`.

One compiled function takes a chunk of points forward, another one back; between them is the residual, which a problem
writes in plain torch. The compiler fuses all pointwise operations of a layer into one pass, including the first layer's
constant derivatives. So there is less memory traffic, and larger chunks are best: 1.3 to 1.9 times the speed of `torch`
on one core, 2 x 16 to 3 x 32.

The first evaluation of a depth compiles, which takes seconds (2 layers) to half a minute (16), and a third of that in
later processes, which find the code in torch's cache. Sizes are dynamic: other widths and numbers of members and points
run the same code, except a single member, which has its own.
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
from ..errors import SettingError
from ..layouts import PackedLayout
from ..problems.base import Problem
from .torch_engine import CHANNELS, StackedSet, TorchEngine, Views

_Channels = tuple[Tensor, Tensor, Tensor, Tensor | None]  # value, slopes and Laplacian [members, units, points]


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

    def _accumulate(self, weights: Views, gradient: Tensor, points: StackedSet) -> Tensor:
        forward, reverse = _compiled(self.activation, len(weights), self.dtype, torch.get_num_threads())
        output, saved = forward(weights, points.inputs)
        square, cotangent = self._residual(points, output)
        gradient += reverse(weights, points.inputs, saved, cotangent)
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
def _compiled(activation: str, depth: int, dtype: torch.dtype, threads: int) -> tuple[Callable[..., Any], ...]:
    """Return the compiled forward and reverse functions for networks of `depth` weight matrices.

    Torch counts recompilations per code object and gives up after eight, so each function gets its own. On a CPU the
    number of threads is compiled in.
    """
    sigma, name = ACTIVATIONS[activation], f"{activation}_{depth}_{str(dtype).rpartition('.')[2]}_{threads}"
    compiled = []
    for function in (_forward, _reverse):
        code = function.__code__.replace(co_name=f"{function.__name__}_{name}")
        copy = types.FunctionType(code, globals(), code.co_name)
        copy.__kwdefaults__ = {"sigma": sigma}
        compiled.append(torch.compile(copy, dynamic=True, options={"cpp.threads": threads}))
    return tuple(compiled)


def _forward(weights: Views, inputs: Tensor, *, sigma: Activation) -> tuple[Tensor, list[Tensor]]:
    """Return the output channels [members, 1, 4, points], and z and activation of each layer for the reverse pass."""
    w, b = weights[0]
    z = torch.baddbmm(b[:, :, None], w.transpose(1, 2), inputs)
    channels: _Channels = (z, w[:, 0, :, None], w[:, 1, :, None], None)
    saved = []
    for w, b in weights[1:]:
        activation = _activation(sigma, channels)
        saved += [z, activation]
        z = torch.bmm(w.transpose(1, 2), activation.flatten(2)).view(*w.shape[::2], CHANNELS, -1)
        channels = _channels(z, b)
    value, x, y, laplacian = channels
    if laplacian is None:  # no hidden layer
        laplacian = torch.zeros_like(value)
    return torch.stack([value, x.expand_as(value), y.expand_as(value), laplacian], dim=2), saved


def _reverse(weights: Views, inputs: Tensor, saved: list[Tensor], cotangent: Tensor, *, sigma: Activation) -> Tensor:
    """Return the gradient [members, size] from the cotangent of the output channels."""
    gradients: list[Tensor] = []
    bar, bar_x, bar_y, bar_laplacian = cotangent.unbind(2)
    for level in range(len(weights) - 1, 0, -1):
        (w, _), (before, bias) = weights[level], weights[level - 1]
        z, activation = saved[2 * level - 2], saved[2 * level - 1]
        flat = torch.stack([bar, bar_x, bar_y, bar_laplacian], dim=2).flatten(2)
        gradients = [torch.bmm(activation.flatten(2), flat.transpose(1, 2)).flatten(1), bar.sum(dim=2), *gradients]
        incoming = torch.bmm(w, flat).view_as(activation)
        channels = _channels(z, bias) if level > 1 else (z, before[:, 0, :, None], before[:, 1, :, None], None)
        bar, bar_x, bar_y, bar_laplacian = _activation_reverse(sigma, channels, activation[:, :, 0], incoming)
    first = torch.bmm(inputs, bar.transpose(1, 2))
    slopes = torch.stack([bar_x.sum(dim=2), bar_y.sum(dim=2)], dim=1)
    first = torch.cat([first[:, :2] + slopes, first[:, 2:]], dim=1)
    return torch.cat([first.flatten(1), bar.sum(dim=2), *gradients], dim=1)


def _channels(z: Tensor, b: Tensor) -> _Channels:
    value, x, y, laplacian = z.unbind(2)
    return value + b[:, :, None], x, y, laplacian


def _activation(sigma: Activation, channels: _Channels) -> Tensor:
    """Return the channels of the activation [members, units, 4, points]; a Laplacian of None is zero."""
    z, x, y, laplacian = channels
    a = sigma.value(z)
    slopes = sigma.slopes(z, a)
    out = slopes.second * (x * x + y * y)
    if laplacian is not None:
        out = slopes.first * laplacian + out
    return torch.stack([a, slopes.first * x, slopes.first * y, out], dim=2)


def _activation_reverse(
    sigma: Activation, channels: _Channels, a: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the cotangents of the channels of z by the formulas in `torch_engine`."""
    z, x, y, laplacian = channels
    slopes = sigma.slopes(z, a)
    first, second = slopes.first, slopes.second
    bar, bar_x, bar_y, bar_laplacian = cotangent.unbind(2)
    twist = 2 * second * bar_laplacian
    inner = bar_x * x + bar_y * y
    if laplacian is not None:
        inner = inner + bar_laplacian * laplacian
    value = first * bar + second * inner + sigma.third(slopes) * (x * x + y * y) * bar_laplacian
    return value, first * bar_x + twist * x, first * bar_y + twist * y, first * bar_laplacian
