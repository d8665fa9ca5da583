"""The functions of a vector against NumPy in long double, and the order of a sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import njit

from pinncore.kernels import simd

FLOATS = (np.float32, np.float64)


@njit
def _expm1(x: Any, out: Any) -> None:
    for at in range(0, len(x), simd.lanes(x)):
        simd.store(out, at, simd.expm1_negative(simd.load(x, at)))


@njit
def _exp(x: Any, out: Any) -> None:
    for at in range(0, len(x), simd.lanes(x)):
        simd.store(out, at, simd.exp(simd.load(x, at)))


@njit
def _chosen(x: Any, y: Any, count: Any, out: Any) -> None:
    a, b = simd.load(x, 0), simd.load(y, 0)
    truth = simd.less(a, b) + simd.less_equal(a, b) + simd.equal(a, b)
    larger = simd.where(simd.less(a, b), simd.maximum(a, b), -simd.minimum(a, b))
    simd.store(out, 0, simd.first_lanes(larger + truth, count))


@njit
def _erfc(x: Any, out: Any) -> None:
    for at in range(0, len(x), simd.lanes(x)):
        simd.store(out, at, simd.erfc(simd.load(x, at)))


@njit
def _wave(x: Any, out: Any) -> None:
    for at in range(0, len(x), simd.lanes(x)):
        v = simd.load(x, at)
        simd.store(out, at, simd.fma(simd.sin(v), simd.sin(v), simd.cos(v) * simd.cos(v)))


@njit
def _total(x: Any) -> Any:
    return simd.total(simd.load(x, 0))


@njit
def _arithmetic(x: Any, out: Any) -> None:
    v, w = simd.load(x, 0), simd.splat(x, 1)
    simd.store(out, 0, (v - w) * simd.absolute(v) / (simd.fill(x, 2.0) + w) + simd.copysign(w, v))


@pytest.mark.parametrize("kind", FLOATS)
def test_expm1(kind: type) -> None:
    sizes = np.concatenate([np.geomspace(1e-30, 100, 4000), np.linspace(0, 60, 4000), [0.0, np.inf]])
    x = np.resize(-sizes, -(-len(sizes) // 64) * 64).astype(kind)
    out = np.empty_like(x)
    _expm1(x, out)
    exact = np.expm1(x.astype(np.longdouble))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(exact == 0, np.abs(out), np.abs(out - exact) / np.abs(exact))
    assert error.max() < 2 * np.finfo(kind).eps
    x[:] = np.nan
    _expm1(x, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("kind", FLOATS)
def test_exp(kind: type) -> None:
    """Every float: down to 0 through numbers that are not normal, up to the largest and to infinity."""
    largest, least = float(np.log(np.finfo(kind).max)), float(np.log(np.finfo(kind).tiny))
    x = np.concatenate([np.linspace(least, largest, 6393), [0.0, -0.0, largest, least, 1e-30, 1.0, -1.0]]).astype(kind)
    out = np.empty_like(x)
    _exp(x, out)
    exact = np.exp(x.astype(np.longdouble))
    inside = (exact < np.finfo(kind).max) & (exact > np.finfo(kind).tiny)
    assert inside.mean() > 0.99
    assert (np.abs(out - exact) / exact)[inside].max() < 2 * np.finfo(kind).eps
    x[:64] = np.resize([np.inf, 1e4, -np.inf, -1e4, np.nan, 2 * largest, 2 * least, least - 3], 64)
    _exp(x, out)
    assert np.array_equal(out[:7], np.array([np.inf, np.inf, 0, 0, np.nan, np.inf, 0], kind), equal_nan=True)
    assert out[7] == pytest.approx(float(np.exp(x[7].astype(np.longdouble))), rel=1e-4)


@pytest.mark.parametrize("kind", FLOATS)
def test_comparisons(kind: type) -> None:
    count = simd.lanes_of(8 * np.dtype(kind).itemsize)
    x = np.resize([1.0, 2.0, 3.0, np.nan], count).astype(kind)
    y, out = np.resize([2.0, 2.0, 1.0, 1.0], count).astype(kind), np.empty(count, kind)
    _chosen(x, y, count, out)
    expected = np.resize([2.0 + 2.0, -2.0 + 2.0, -1.0, np.nan], count).astype(kind)
    assert np.array_equal(out, expected, equal_nan=True)
    for kept in (-3, 0, 1, count - 1, 10**12):
        _chosen(x, y, kept, out)
        inside = np.arange(count) < kept
        assert np.array_equal(out[inside], expected[inside], equal_nan=True) and not out[~inside].any()


@pytest.mark.parametrize("kind", FLOATS)
def test_functions_of_the_c_library(kind: type) -> None:
    x = np.linspace(-6, 6, 640).astype(kind)
    out = np.empty_like(x)
    _erfc(x, out)
    assert out == pytest.approx([math.erfc(v) for v in x], rel=4 * float(np.finfo(kind).eps))
    _wave(x, out)
    assert np.abs(out - 1).max() < 4 * np.finfo(kind).eps


@pytest.mark.parametrize("kind", FLOATS)
def test_arithmetic(kind: type) -> None:
    count = simd.lanes_of(8 * np.dtype(kind).itemsize)
    x = np.random.default_rng(0).normal(size=count).astype(kind)
    out = np.empty_like(x)
    _arithmetic(x, out)
    assert np.allclose(out, (x - x[1]) * np.abs(x) / (2 + x[1]) + np.copysign(x[1], x), rtol=8 * np.finfo(kind).eps)


@pytest.mark.parametrize("kind", FLOATS)
def test_total_adds_halves(kind: type) -> None:
    count = simd.lanes_of(8 * np.dtype(kind).itemsize)
    x = np.random.default_rng(1).normal(size=count).astype(kind)
    folded = x.copy()
    while len(folded) > 1:
        folded = folded[: len(folded) // 2] + folded[len(folded) // 2 :]
    assert _total(x) == folded[0]
