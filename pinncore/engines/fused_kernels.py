"""The compiled loops of engine `fused`: forward Laplacian and its reverse pass over a stretch of points.

Points go through in chunks of `VECTORS` SIMD vectors. Each hidden layer keeps two arrays [units, 4, chunk] in a
workspace: its activation channels (a, a_x, a_y, lap a) and its z channels, which the reverse pass overwrites with
their cotangents. Products work on blocks of four units whose 16 sums stay in registers, and a finished block goes
straight on through the activation. Units are padded to blocks with zero weights, which is exact (sigma(0) = 0).

Weight gradients are summed lane by lane over a stretch, then over the lanes, then over the stretches: an order that
depends on the network and the points alone, not on other members, nor on threads.

`kind` is a tuple whose length names the activation: a type, so that each activation compiles into its own kernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..kernels.cache import kept
from ..kernels.simd import (
    absolute,
    copysign,
    cos,
    erfc,
    exp,
    expm1,
    fill,
    fma,
    lanes,
    load,
    sin,
    splat,
    store,
    total,
    where_negative,
)

BLOCK = 4
CHANNELS = 4
VECTORS = 4  # of a chunk: of 1, 2 and 4 the best on every shape tried; 4 x 64 bytes a unit and channel
KINDS = {"tanh": (), "sin": (0,), "silu": (0, 0), "gelu": (0, 0, 0)}

_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)

_inline = njit(forceinline=True)


@_inline
def _logistic(z: Any, like: Any) -> Any:
    """1 / (1 + exp(-z)), with the exponential of a negative number only."""
    e = exp(fill(like, 0.0) - absolute(z))
    positive = fill(like, 1.0) / (fill(like, 1.0) + e)
    return where_negative(z, e * positive, positive)


@_inline
def _value(z: Any, like: Any, kind: Any) -> Any:
    """sigma(z)."""
    if len(kind) == 0:
        t = expm1(fill(like, -2.0) * absolute(z))
        return copysign(t / (fill(like, 2.0) + t), z)
    if len(kind) == 1:
        return sin(z)
    if len(kind) == 2:
        return z * _logistic(z, like)
    return z * fill(like, 0.5) * erfc(fill(like, -_ROOT_HALF) * z)


@_inline
def _slopes(z: Any, a: Any, like: Any, kind: Any) -> Any:
    """sigma', sigma'', sigma''' at z, where a = sigma(z); the formulas stand in `activations`."""
    if len(kind) == 0:
        first = fill(like, 1.0) - a * a
        second = fill(like, -2.0) * a * first
        return first, second, fill(like, -2.0) * fma(first, first, a * second)
    if len(kind) == 1:
        first = cos(z)
        return first, fill(like, 0.0) - a, fill(like, 0.0) - first
    if len(kind) == 2:
        p = _logistic(z, like)
        p1 = p * (fill(like, 1.0) - p)
        q = fill(like, 1.0) - p - p
        p2 = p1 * q
        p3 = p1 * (q * q - p1 - p1)
        return fma(z, p1, p), fma(z, p2, p1 + p1), fma(z, p3, fill(like, 3.0) * p2)
    square = z * z
    density = fill(like, _DENSITY) * exp(fill(like, -0.5) * square)
    normal = fill(like, 0.5) * erfc(fill(like, -_ROOT_HALF) * z)
    return fma(z, density, normal), density * (fill(like, 2.0) - square), density * z * (square - fill(like, 4.0))


@_inline
def _load4(work: Any, at: Any, step: Any) -> Any:
    return load(work, at), load(work, at + step), load(work, at + 2 * step), load(work, at + 3 * step)


@_inline
def _store4(work: Any, at: Any, step: Any, v0: Any, v1: Any, v2: Any, v3: Any) -> None:
    store(work, at, v0)
    store(work, at + step, v1)
    store(work, at + 2 * step, v2)
    store(work, at + 3 * step, v3)


@_inline
def _add4(w: Any, v0: Any, v1: Any, v2: Any, v3: Any, s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
    return fma(w, v0, s0), fma(w, v1, s1), fma(w, v2, s2), fma(w, v3, s3)


@_inline
def _activate(z: Any, zx: Any, zy: Any, zl: Any, work: Any, at_a: Any, at_z: Any, step: Any, kind: Any) -> None:
    """a = sigma(z), a_x = sigma' z_x, a_y = sigma' z_y, lap a = sigma' lap z + sigma'' (z_x^2 + z_y^2)."""
    a = _value(z, work, kind)
    first, second, _ = _slopes(z, a, work, kind)
    square = fma(zx, zx, zy * zy)
    _store4(work, at_a, step, a, first * zx, first * zy, fma(first, zl, second * square))
    _store4(work, at_z, step, z, zx, zy, zl)


@_inline
def _reverse(
    bar: Any, bar_x: Any, bar_y: Any, bar_l: Any, work: Any, at_a: Any, at_z: Any, step: Any, kind: Any
) -> None:
    """Cotangents of the z channels, in their place, from those of a unit's activation channels.

    z:     sigma' a~ + sigma'' (a~_x z_x + a~_y z_y + l~ lap z) + sigma''' l~ (z_x^2 + z_y^2)
    z_x:   sigma' a~_x + 2 sigma'' z_x l~        lap z:  sigma' l~        with ~ the cotangents of a, a_x, a_y, lap a
    """
    z, zx, zy, zl = _load4(work, at_z, step)
    first, second, third = _slopes(z, load(work, at_a), work, kind)
    square = fma(zx, zx, zy * zy)
    twist = second * bar_l
    twist = twist + twist
    inner = fma(bar_x, zx, fma(bar_y, zy, bar_l * zl))
    _store4(
        work,
        at_z,
        step,
        fma(first, bar, fma(second, inner, third * square * bar_l)),
        fma(first, bar_x, twist * zx),
        fma(first, bar_y, twist * zy),
        first * bar_l,
    )


@njit(nogil=True)
def _arrange(layers: Any, step: Any, count: Any) -> Any:
    """Where things lie in the workspace: columns of [levels + 1, 6], and its length.

    Columns: padded units, activations, z channels (of hidden layer l), sums, weights and biases (of level l, from
    layer l to layer l + 1). Vectors come first, so that every one of them is aligned.
    """
    levels = len(layers) - 1
    place = np.zeros((levels + 1, 6), np.int64)
    place[0, 0], place[levels, 0] = layers[0], 1
    at = 0
    for level in range(1, levels):
        units = (layers[level] + BLOCK - 1) // BLOCK * BLOCK
        place[level, 0] = units
        place[level, 1], place[level, 2] = at, at + units * CHANNELS * step
        at += 2 * units * CHANNELS * step
    for level in range(levels):
        place[level, 3] = at
        at += (place[level, 0] + 1) * place[level + 1, 0] * count
    for level in range(levels):
        place[level, 4] = at
        place[level, 5] = at + place[level, 0] * place[level + 1, 0]
        at = place[level, 5] + place[level + 1, 0]
    return place, at


@njit(nogil=True)
def _unfold(parameters: Any, layers: Any, place: Any, work: Any) -> None:
    """Weights and biases into the workspace at their padded shape; sums to zero."""
    levels = len(layers) - 1
    source = 0
    for at in range(place[0, 3], place[levels - 1, 5] + 1):
        work[at] = 0
    for level in range(levels):
        n_in, n = layers[level], layers[level + 1]
        for i in range(n_in):
            for j in range(n):
                work[place[level, 4] + i * place[level + 1, 0] + j] = parameters[source + i * n + j]
        source += n_in * n
        for j in range(n):
            work[place[level, 5] + j] = parameters[source + j]
        source += n


@njit(nogil=True)
def _fold(gradient: Any, layers: Any, place: Any, work: Any) -> None:
    """The sums, lanes added up, as a flat gradient [parameters]."""
    count, target = lanes(work), 0
    for level in range(len(layers) - 1):
        n_in, n, wide = layers[level], layers[level + 1], place[level + 1, 0]
        for i in range(n_in):
            for j in range(n):
                gradient[target + i * n + j] = total(load(work, place[level, 3] + (i * wide + j) * count))
        target += n_in * n
        for j in range(n):
            gradient[target + j] = total(load(work, place[level, 3] + (place[level, 0] * wide + j) * count))
        target += n


@_inline
def _first_layer(work: Any, place: Any, inputs: Any, stride: Any, point: Any, kind: Any) -> None:
    count = lanes(work)
    step, n_in, n, w = VECTORS * count, place[0, 0], place[1, 0], place[0, 4]
    for j in range(n):
        zx, zy = splat(work, w + j), splat(work, w + n + j)
        for v in range(VECTORS):
            z = splat(work, place[0, 5] + j)
            for k in range(n_in):
                z = fma(splat(work, w + k * n + j), load(inputs, k * stride + point + v * count), z)
            at = j * CHANNELS * step + v * count
            _activate(z, zx, zy, fill(work, 0.0), work, place[1, 1] + at, place[1, 2] + at, step, kind)


@_inline
def _hidden_layer(work: Any, place: Any, level: Any, kind: Any) -> None:
    """z = W a + b for all channels, four units at a time, and their activations."""
    count = lanes(work)
    step = VECTORS * count
    n_in, n, before = place[level, 0], place[level + 1, 0], place[level, 1]
    for j in range(0, n, BLOCK):
        bias = place[level, 5] + j
        for v in range(VECTORS):
            z00, z10, z20, z30 = splat(work, bias), splat(work, bias + 1), splat(work, bias + 2), splat(work, bias + 3)
            z01 = z02 = z03 = z11 = z12 = z13 = z21 = z22 = z23 = z31 = z32 = z33 = fill(work, 0.0)
            for i in range(n_in):
                a0, a1, a2, a3 = _load4(work, before + i * CHANNELS * step + v * count, step)
                w = place[level, 4] + i * n + j
                z00, z01, z02, z03 = _add4(splat(work, w), a0, a1, a2, a3, z00, z01, z02, z03)
                z10, z11, z12, z13 = _add4(splat(work, w + 1), a0, a1, a2, a3, z10, z11, z12, z13)
                z20, z21, z22, z23 = _add4(splat(work, w + 2), a0, a1, a2, a3, z20, z21, z22, z23)
                z30, z31, z32, z33 = _add4(splat(work, w + 3), a0, a1, a2, a3, z30, z31, z32, z33)
            unit = CHANNELS * step
            a, z = place[level + 1, 1] + j * unit + v * count, place[level + 1, 2] + j * unit + v * count
            _activate(z00, z01, z02, z03, work, a, z, step, kind)
            _activate(z10, z11, z12, z13, work, a + unit, z + unit, step, kind)
            _activate(z20, z21, z22, z23, work, a + 2 * unit, z + 2 * unit, step, kind)
            _activate(z30, z31, z32, z33, work, a + 3 * unit, z + 3 * unit, step, kind)


@_inline
def _hidden_reverse(work: Any, place: Any, level: Any, kind: Any) -> None:
    """a~ = W' z~ for all channels, four units at a time, and on to the cotangents of the layer before."""
    count = lanes(work)
    step = VECTORS * count
    n_in, n, bars = place[level, 0], place[level + 1, 0], place[level + 1, 2]
    for i in range(0, n_in, BLOCK):
        for v in range(VECTORS):
            a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = fill(work, 0.0)
            a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = fill(work, 0.0)
            for j in range(n):
                z0, z1, z2, z3 = _load4(work, bars + j * CHANNELS * step + v * count, step)
                w = place[level, 4] + i * n + j
                a00, a01, a02, a03 = _add4(splat(work, w), z0, z1, z2, z3, a00, a01, a02, a03)
                a10, a11, a12, a13 = _add4(splat(work, w + n), z0, z1, z2, z3, a10, a11, a12, a13)
                a20, a21, a22, a23 = _add4(splat(work, w + 2 * n), z0, z1, z2, z3, a20, a21, a22, a23)
                a30, a31, a32, a33 = _add4(splat(work, w + 3 * n), z0, z1, z2, z3, a30, a31, a32, a33)
            unit = CHANNELS * step
            a, z = place[level, 1] + i * unit + v * count, place[level, 2] + i * unit + v * count
            _reverse(a00, a01, a02, a03, work, a, z, step, kind)
            _reverse(a10, a11, a12, a13, work, a + unit, z + unit, step, kind)
            _reverse(a20, a21, a22, a23, work, a + 2 * unit, z + 2 * unit, step, kind)
            _reverse(a30, a31, a32, a33, work, a + 3 * unit, z + 3 * unit, step, kind)


@_inline
def _weight_gradient(work: Any, place: Any, level: Any) -> None:
    """Add a[i] z~[j] over channels and points to the sums of W[i, j], 16 at a time, and z~ to those of the biases."""
    count = lanes(work)
    length = CHANNELS * VECTORS * count
    n_in, n, sums = place[level, 0], place[level + 1, 0], place[level, 3]
    for j in range(0, n, BLOCK):
        z = place[level + 1, 2] + j * length
        for i in range(0, n_in, BLOCK):
            a, s, down = place[level, 1] + i * length, sums + (i * n + j) * count, n * count
            s00, s01, s02, s03 = _load4(work, s, count)
            s10, s11, s12, s13 = _load4(work, s + down, count)
            s20, s21, s22, s23 = _load4(work, s + 2 * down, count)
            s30, s31, s32, s33 = _load4(work, s + 3 * down, count)
            for t in range(0, length, count):
                z0, z1, z2, z3 = _load4(work, z + t, length)
                a0, a1, a2, a3 = _load4(work, a + t, length)
                s00, s01, s02, s03 = _add4(a0, z0, z1, z2, z3, s00, s01, s02, s03)
                s10, s11, s12, s13 = _add4(a1, z0, z1, z2, z3, s10, s11, s12, s13)
                s20, s21, s22, s23 = _add4(a2, z0, z1, z2, z3, s20, s21, s22, s23)
                s30, s31, s32, s33 = _add4(a3, z0, z1, z2, z3, s30, s31, s32, s33)
            _store4(work, s, count, s00, s01, s02, s03)
            _store4(work, s + down, count, s10, s11, s12, s13)
            _store4(work, s + 2 * down, count, s20, s21, s22, s23)
            _store4(work, s + 3 * down, count, s30, s31, s32, s33)
    for j in range(n):
        at = sums + (n_in * n + j) * count
        s = load(work, at)
        for v in range(VECTORS):
            s = s + load(work, place[level + 1, 2] + j * length + v * count)
        store(work, at, s)


@_inline
def _first_gradient(work: Any, place: Any, inputs: Any, stride: Any, point: Any) -> None:
    """The same for the inputs: the channels of input k are x_k and its slopes, 1 or 0; their Laplacian is 0."""
    count = lanes(work)
    step, n_in, n = VECTORS * count, place[0, 0], place[1, 0]
    for j in range(n):
        z = place[1, 2] + j * CHANNELS * step
        for k in range(n_in):
            at = place[0, 3] + (k * n + j) * count
            s = load(work, at)
            for v in range(VECTORS):
                s = fma(load(inputs, k * stride + point + v * count), load(work, z + v * count), s)
                if k < 2:
                    s = s + load(work, z + (k + 1) * step + v * count)
            store(work, at, s)
        at = place[0, 3] + (n_in * n + j) * count
        s = load(work, at)
        for v in range(VECTORS):
            s = s + load(work, z + v * count)
        store(work, at, s)


@_inline
def _forward(work: Any, place: Any, inputs: Any, stride: Any, point: Any, kind: Any) -> None:
    _first_layer(work, place, inputs, stride, point, kind)
    for level in range(1, len(place) - 2):
        _hidden_layer(work, place, level, kind)


@_inline
def _output(work: Any, place: Any, v: Any) -> Any:
    """u, u_x, u_y, lap u of one vector of points."""
    count, last = lanes(work), len(place) - 2
    step = VECTORS * count
    u, ux, uy, ul = splat(work, place[last, 5]), fill(work, 0.0), fill(work, 0.0), fill(work, 0.0)
    for i in range(place[last, 0]):
        a0, a1, a2, a3 = _load4(work, place[last, 1] + i * CHANNELS * step + v * count, step)
        u, ux, uy, ul = _add4(splat(work, place[last, 4] + i), a0, a1, a2, a3, u, ux, uy, ul)
    return u, ux, uy, ul


@_inline
def _output_reverse(work: Any, place: Any, v: Any, bar: Any, bar_x: Any, bar_y: Any, bar_l: Any, kind: Any) -> None:
    """Cotangents of the output to its weights and to the z channels of the last hidden layer."""
    count, last = lanes(work), len(place) - 2
    step, sums = VECTORS * count, place[last, 3]
    for i in range(place[last, 0]):
        at = i * CHANNELS * step + v * count
        a0, a1, a2, a3 = _load4(work, place[last, 1] + at, step)
        s = fma(a3, bar_l, fma(a2, bar_y, fma(a1, bar_x, fma(a0, bar, load(work, sums + i * count)))))
        store(work, sums + i * count, s)
        w = splat(work, place[last, 4] + i)
        _reverse(w * bar, w * bar_x, w * bar_y, w * bar_l, work, place[last, 1] + at, place[last, 2] + at, step, kind)
    at = sums + place[last, 0] * count
    store(work, at, load(work, at) + bar)


@njit(nogil=True)
def _stretch(
    work: Any, place: Any, inputs: Any, coefficients: Any, start: Any, stop: Any, affine: Any, kind: Any
) -> Any:
    """Sum of squared residuals over points [start, stop), whole chunks; adds sum(r dr/dp) to the sums."""
    count, stride = lanes(work), len(coefficients) // 5
    squares = fill(work, 0.0)
    for point in range(start, stop, VECTORS * count):
        _forward(work, place, inputs, stride, point, kind)
        for v in range(VECTORS):
            c0, cx, cy, cl = _load4(coefficients, point + v * count, stride)
            if affine:
                u, ux, uy, ul = _output(work, place, v)
                r = fma(c0, u, fma(cx, ux, fma(cy, uy, cl * ul))) - load(coefficients, 4 * stride + point + v * count)
                squares = fma(r, r, squares)
                c0, cx, cy, cl = r * c0, r * cx, r * cy, r * cl
            _output_reverse(work, place, v, c0, cx, cy, cl, kind)
        for level in range(len(place) - 3, 0, -1):
            _weight_gradient(work, place, level)
            _hidden_reverse(work, place, level, kind)
        _first_gradient(work, place, inputs, stride, point)
    return total(squares)


@kept()
def evaluate(
    parameters: Any,
    layers: Any,
    inputs: Any,
    coefficients: Any,
    stretches: Any,
    affine: Any,
    work: Any,
    kind: Any,
    share: Any,
    shares: Any,
    squares: Any,
    gradients: Any,
) -> None:
    """Sums of squares [members, stretches] and gradients [members, stretches, size]; every `shares`-th task.

    parameters [members, size], layers [members, levels + 1], inputs [members, inputs * points], coefficients
    [members, 5 * points] of u, u_x, u_y, lap u and the right-hand side (where not `affine`: the cotangents of the
    four), stretches [stretches, 2] of points, whole chunks. `work` is this share's own.
    """
    for task in range(share, squares.size, shares):
        member, stretch = task // len(stretches), task % len(stretches)
        place, _ = _arrange(layers[member], VECTORS * lanes(work), lanes(work))
        _unfold(parameters[member], layers[member], place, work)
        squares[member, stretch] = _stretch(
            work,
            place,
            inputs[member],
            coefficients[member],
            stretches[stretch, 0],
            stretches[stretch, 1],
            affine,
            kind,
        )
        _fold(gradients[member, stretch], layers[member], place, work)


@kept()
def jets(parameters: Any, layers: Any, inputs: Any, work: Any, kind: Any, out: Any) -> None:
    """u, u_x, u_y, lap u, into `out` [4 * points], at inputs [inputs * points], whole chunks; parameters [size]."""
    count, stride = lanes(work), len(out) // CHANNELS
    place, _ = _arrange(layers, VECTORS * count, count)
    _unfold(parameters, layers, place, work)
    for point in range(0, stride, VECTORS * count):
        _forward(work, place, inputs, stride, point, kind)
        for v in range(VECTORS):
            u, ux, uy, ul = _output(work, place, v)
            _store4(out, point + v * count, stride, u, ux, uy, ul)


@kept()
def reduce(
    squares: Any, gradients: Any, terms_of: Any, weights: Any, averages: Any, loss: Any, terms: Any, gradient: Any
) -> None:
    """Loss [members], terms [members, terms] and gradient [members, size] from the sums of every stretch.

    `terms_of` [stretches] says to which term each belongs; weights and averages [members, terms] as in `combine`.
    Sums are in float64, stretch after stretch.
    """
    members, stretches, size = gradients.shape
    sums = np.empty(size)
    for member in range(members):
        gradient[member] = 0
        whole, value = np.zeros(size), 0.0
        for term in range(weights.shape[1]):
            square, sums[:] = 0.0, 0.0
            for stretch in range(stretches):
                if terms_of[stretch] == term:
                    square += squares[member, stretch]
                    for p in range(size):
                        sums[p] += gradients[member, stretch, p]
            weight, average = weights[member, term], averages[member, term]
            root = math.sqrt(square) if square >= 0 else math.nan
            if average == 0:  # a norm; at zero the subgradient 0
                result, factor = root, (weight / root if root != 0 else 0.0)
            else:
                result, factor = square * average, 2 * weight * average
            terms[member, term] = result
            value += weight * result
            for p in range(size):
                whole[p] += factor * sums[p]
        loss[member] = value
        gradient[member] = whole


@kept()
def workspace(layers: Any, count: Any) -> int:
    """Numbers in the workspace of a network, for vectors of `count` lanes."""
    _, length = _arrange(layers, VECTORS * count, count)
    return length
