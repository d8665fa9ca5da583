"""Generated residuals against torch's derivatives of the same expressions, function by function."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from numpy.typing import NDArray

from pinncore.engines.fused_points import aligned
from pinncore.equations.channels import Channels, Group, TorchCall
from pinncore.equations.torch_code import torch_function
from pinncore.errors import SettingError
from pinncore.kernels.channels import VECTORS
from pinncore.kernels.residuals import compiled_residual, residual_source
from pinncore.kernels.simd import lanes_of
from tests import ROOT
from tests.cluster.waiting import WAIT_S

Array = NDArray[Any]
U, UX, UXX = (sp.Symbol(name, real=True) for name in ("u", "u_x", "u_xx"))
H, P = sp.Symbol("h0", real=True), sp.Symbol("p0", real=True)

SMOOTH = (
    U * UX - P * UXX + H,
    sp.sin(U) * sp.cos(UX) + sp.tan(U / 3),
    sp.exp(-H * U) + sp.exp(U * UX),
    sp.log(1 + U**2) / (2 + sp.cos(UX)),
    sp.sqrt(1 + U**2) + (2 + UX**2) ** sp.Rational(3, 2) + (1 + U**2) ** sp.Rational(-1, 2),
    U**3.0 + UX**-2 + U**7 + 3.5 * U**2 * UX,
    (1 + U**2) ** P + (1 + U**2) ** sp.Rational(1, 3),
    sp.sinh(U) + sp.cosh(UX) + sp.tanh(U * UX),
    sp.asin(U / 5) + sp.acos(UX / 5) + sp.atan(U * UX) + sp.atan2(U, 1 + UX**2),
    sp.asinh(U) + sp.acosh(2 + U**2) + sp.atanh(U / 5),
    sp.erf(U) + sp.erfc(UX),
    sp.sec(U / 4) + sp.coth(2 + U**2) + sp.sech(U),
    sp.pi * U - sp.E * UX + sp.Rational(1, 3) + sp.sqrt(2) * UXX,
    -U - UX - 2 * UXX,
    -U,
    sp.Integer(1) + 0 * U,
    U / (1 + U**2) ** 2 / P,
)
BROKEN = (
    sp.Abs(U) * UX + sp.sign(U) * UXX,
    sp.Max(U, UX, 0) + sp.Min(U, UX**2),
    sp.Piecewise((sp.sqrt(sp.Max(U, 0) + 1) * UX, U > 0), (U**2, U <= -1), (UXX, True)),
    sp.Piecewise((sp.log(U), U > 0), (0, True)),
    sp.Piecewise((U, (U > 0) & (UX < 1) | sp.Ne(H, H)), (UX, ~(U > 1)), (0, True)),
    sp.Heaviside(U) * UX + sp.floor(U) * UX + sp.ceiling(UX),
    sp.Max(U, 0) ** 1.5,
)


def group(*residuals: Any) -> Group:
    return Group(
        tuple(f"r{i}" for i in range(len(residuals))),
        Channels((0,), (((0, 0, None),),)),
        tuple(map(sp.sympify, residuals)),
        ((U, UX, UXX),),
        (H,),
        (H,),
        (P,),
        (P,),
    )


def called(found: Group, channels: Array, column: Array, parameter: float, weights: Array) -> tuple[Array, Array]:
    """Sums of squares [residuals] and cotangents [channels, points] of a chunk of points, by the compiled code."""
    dtype = channels.dtype
    lanes = lanes_of(8 * dtype.itemsize)
    chunk, points = VECTORS * lanes, channels.shape[1]
    out, cotangents, data = (aligned((rows, chunk), dtype) for rows in (3, 3, 1))
    for target, source in ((out, channels), (data[0], column)):
        target[..., :points], target[..., points:] = source, source[..., -1:]
    sums = np.zeros((len(weights), lanes), dtype)
    numbers = [np.ascontiguousarray(each, dtype) for each in ([parameter], weights)]
    pointers = [each.ctypes.data for each in (out, cotangents, data)]
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    function = ctypes.CFUNCTYPE(None, *[pointer] * 3, *[whole] * 3, *[pointer] * 3)
    compiled = compiled_residual(found, dtype)
    function(compiled.address)(*pointers, 0, points, chunk, *(each.ctypes.data for each in (*numbers, sums)))
    assert not cotangents[:, points:].any()
    return sums.sum(axis=1), cotangents[:, :points]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("residuals", [SMOOTH, BROKEN], ids=["smooth", "broken"])
def test_residuals_and_their_derivatives(residuals: tuple[Any, ...], dtype: str) -> None:
    generator = np.random.default_rng(0)
    points = VECTORS * lanes_of(64 if dtype == "float64" else 32) - 5
    channels = generator.uniform(-2, 2, (3, points)).astype(dtype)
    column, parameter = generator.uniform(0.5, 2, points).astype(dtype), 0.75
    found, tolerance = group(*residuals), 1e-13 if dtype == "float64" else 1e-4
    for index, residual in enumerate(residuals):
        weights = np.zeros(len(residuals))
        weights[index] = 0.5
        squares, cotangents = called(found, channels, column, parameter, weights)
        exact = [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in channels]
        arguments = (*exact, torch.tensor(column, dtype=torch.float64), torch.tensor(parameter, dtype=torch.float64))
        (value,) = torch_function((U, UX, UXX, H, P), (residual,))(*arguments)
        value = torch.as_tensor(value, dtype=torch.float64) + 0 * exact[0]
        slopes = torch.autograd.grad((0.25 * value**2).sum(), exact, allow_unused=True, materialize_grads=True)
        expected = torch.nan_to_num(torch.stack(slopes)).numpy()  # torch's derivative of what `where` leaves out
        assert squares[index] == pytest.approx(float((value**2).sum().detach()), rel=tolerance), residual
        scale = max(np.abs(expected).max(), 1e-3)
        assert np.abs(cotangents - expected).max() / scale < tolerance, residual


def test_ties_and_zeros() -> None:
    """Where functions have no derivative it is the one that torch takes, and powers stay finite at 0."""
    residuals = (1 + sp.Max(U, UX), 1 + sp.Min(U, UX), 1 + sp.Abs(U), 1 + U**2.5, 1 + U**P)
    zeros, found = np.zeros((3, 1)), []
    for index in range(len(residuals)):
        weights = np.eye(len(residuals))[index]
        found.append(called(group(*residuals), zeros, np.zeros(1), 2.5, weights)[1][:2, 0].tolist())
    assert found == [[0.5, 0.5], [0.5, 0.5], [0, 0], [0, 0], [0, 0]]


def test_one_residual_has_no_weight() -> None:
    channels = np.ones((3, 4))
    squares, cotangents = called(group(U + UX), channels, np.ones(4), 1.0, np.array([5.0]))
    assert squares.tolist() == [16.0] and cotangents.tolist() == [[2.0] * 4, [2.0] * 4, [0.0] * 4]


def test_a_point_that_is_not_finite_is_seen_and_a_filled_lane_is_not() -> None:
    channels = np.ones((3, 4))
    channels[0, 1] = np.nan
    squares, _ = called(group(U * UX), channels, np.ones(4), 1.0, np.ones(1))
    assert np.isnan(squares[0])


@pytest.mark.parametrize(
    ("residual", "name"),
    [(sp.besselj(0, U), "besselj"), (sp.zeta(UX), "zeta"), (U + sp.I, "I"), (sp.Function("f")(U), "f")],
)
def test_what_is_not_known_is_named_with_the_way_out(residual: Any, name: str) -> None:
    with pytest.raises(SettingError, match=rf"engine: cannot compile {name}\b.*Use engine: torch"):
        residual_source(group(residual))


def test_a_torch_function_needs_torch() -> None:
    with pytest.raises(SettingError, match=r"torch function.*Use engine: torch"):
        residual_source(Group(("wall",), Channels(), (TorchCall(torch.sin, (U,)),), ((U,),)))


def test_the_text_is_the_same_in_every_process() -> None:
    """A text in another order would be another kernel, with other last digits."""
    code = (
        "import hashlib; from tests.pinncore.kernels.test_residuals import *;"
        "print(hashlib.sha256(residual_source(group(*SMOOTH, *BROKEN)).encode()).hexdigest())"
    )
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=WAIT_S)
        found.add(done.stdout)
    assert len(found) == 1
