"""The compiled loops of engine `fused`: forward derivatives and their reverse pass over a stretch of points.

Points go through in chunks of `VECTORS` SIMD vectors. Each hidden layer keeps two arrays [units, channels, chunk] in a
workspace: its activation channels and its z channels, which the reverse pass overwrites with their cotangents. Products
work on blocks of four units whose sums stay in registers, and a finished block goes straight on through the activation.
Units are padded to blocks with zero weights, which is exact (sigma(0) = 0).

Weight gradients are summed lane by lane over a stretch, then over the lanes, then over the stretches: an order that
depends on the network and the points alone, not on other members, nor on threads.

`ch` is the kind of channel set (see `kernels.channels`) and `kind` a tuple whose length names the activation: types, so
that each pair compiles into its own kernel. The residual is called by its address, so that one kernel serves all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..kernels.cache import kept
from ..kernels.channels import (
    VECTORS,
    activated,
    activated_reverse,
    add_products,
    add_scaled,
    channel_count,
    load_channels,
    of_slopes,
    of_value,
    store_channels,
    value_of,
)
from ..kernels.residuals import call_residual
from ..kernels.simd import (
    absolute,
    copysign,
    cos,
    erfc,
    exp_negative,
    expm1_negative,
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
KINDS = {"tanh": (), "sin": (0,), "silu": (0, 0), "gelu": (0, 0, 0)}

_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)

_inline = njit(forceinline=True)


@_inline
def _logistic(z: Any, like: Any) -> Any:
    """1 / (1 + exp(-z)), with the exponential of a negative number only."""
    e = exp_negative(fill(like, 0.0) - absolute(z))
    positive = fill(like, 1.0) / (fill(like, 1.0) + e)
    return where_negative(z, e * positive, positive)


@_inline
def _value(z: Any, like: Any, kind: Any) -> Any:
    """sigma(z)."""
    if len(kind) == 0:
        t = expm1_negative(fill(like, -2.0) * absolute(z))
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
    density = fill(like, _DENSITY) * exp_negative(fill(like, -0.5) * square)
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
def _activate(ch: Any, z: Any, work: Any, at_a: Any, at_z: Any, step: Any, kind: Any, table: Any, point: Any) -> None:
    """Write the channels of a = sigma(z) and those of z."""
    data, columns, stride = table
    value = _value(value_of(z), work, kind)
    first, second, _ = _slopes(value_of(z), value, work, kind)
    store_channels(work, at_a, step, activated(ch, z, value, first, second, data, columns, stride, point))
    store_channels(work, at_z, step, z)


@_inline
def _reverse(ch: Any, bar: Any, work: Any, at_a: Any, at_z: Any, step: Any, kind: Any, table: Any, point: Any) -> None:
    """Write the cotangents of the z channels, in their place, from those of a unit's activation channels."""
    data, columns, stride = table
    z = load_channels(ch, work, at_z, step)
    first, second, third = _slopes(value_of(z), load(work, at_a), work, kind)
    cotangents = activated_reverse(ch, bar, z, first, second, third, data, columns, stride, point)
    store_channels(work, at_z, step, cotangents)


@njit(nogil=True)
def arrange(channels: Any, layers: Any, step: Any, count: Any) -> Any:
    """Where things lie in the workspace: columns of [levels + 1, 6], and its length.

    Columns: padded units, activations, z channels (of hidden layer l; of the last one: outputs and their cotangents),
    sums, weights and biases (of level l, from layer l to layer l + 1). Activations of layer 0: the slopes of the first
    layer. Vectors come first, so that every one of them is aligned.
    """
    levels = len(layers) - 1
    place = np.zeros((levels + 1, 6), np.int64)
    place[0, 0] = layers[0]
    at = 0
    for level in range(1, levels + 1):
        units = layers[level] if level == levels else (layers[level] + BLOCK - 1) // BLOCK * BLOCK
        place[level, 0] = units
        place[level, 1], place[level, 2] = at, at + units * channels * step
        at += 2 * units * channels * step
    for level in range(levels):
        place[level, 3] = at
        at += (place[level, 0] + 1) * place[level + 1, 0] * count
    for level in range(levels):
        place[level, 4] = at
        place[level, 5] = at + place[level, 0] * place[level + 1, 0]
        at = place[level, 5] + place[level + 1, 0]
    place[0, 1] = at
    return place, at + channels * place[1, 0]


@njit(nogil=True)
def _unfold(parameters: Any, layers: Any, slots: Any, seeds: Any, place: Any, work: Any) -> None:
    """Weights and biases into the workspace at their padded shape; sums to zero; slopes of the first layer.

    `slots` [inputs] says which channel is the derivative to each input, 0 for none, and `seeds` [inputs] what a slope
    of the network's input is multiplied by there.
    """
    levels = len(layers) - 1
    source = 0
    for at in range(place[0, 3], place[levels - 1, 5] + place[levels, 0]):
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
    n = place[1, 0]
    for k in range(layers[0]):
        if slots[k] > 0:
            for j in range(n):
                work[place[0, 1] + (slots[k] - 1) * n + j] = seeds[k] * work[place[0, 4] + k * n + j]


@njit(nogil=True)
def _fold(gradient: Any, layers: Any, place: Any, work: Any) -> None:
    """The sums, lanes added up, as a flat gradient [parameters], and zeros after it."""
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
    gradient[target:] = 0


@_inline
def _first_layer(
    ch: Any, work: Any, place: Any, inputs: Any, stride: Any, point: Any, kind: Any, data: Any, columns: Any
) -> None:
    count = lanes(work)
    step, n_in, n, w = VECTORS * count, place[0, 0], place[1, 0], place[0, 4]
    for j in range(n):
        for v in range(VECTORS):
            z = splat(work, place[0, 5] + j)
            for k in range(n_in):
                z = fma(splat(work, w + k * n + j), load(inputs, k * stride + point + v * count), z)
            at, table = j * channel_count(ch) * step + v * count, (data, columns, stride)
            slopes = of_slopes(ch, z, work, place[0, 1] + j, n)
            _activate(ch, slopes, work, place[1, 1] + at, place[1, 2] + at, step, kind, table, point + v * count)


@_inline
def _hidden_layer(
    ch: Any, work: Any, place: Any, level: Any, stride: Any, point: Any, kind: Any, data: Any, columns: Any
) -> None:
    """z = W a + b for all channels, four units at a time, and their activations."""
    count = lanes(work)
    step = VECTORS * count
    unit, table = channel_count(ch) * step, (data, columns, stride)
    n_in, n, before = place[level, 0], place[level + 1, 0], place[level, 1]
    for j in range(0, n, BLOCK):
        bias = place[level, 5] + j
        for v in range(VECTORS):
            z0, z1 = of_value(ch, splat(work, bias)), of_value(ch, splat(work, bias + 1))
            z2, z3 = of_value(ch, splat(work, bias + 2)), of_value(ch, splat(work, bias + 3))
            for i in range(n_in):
                a = load_channels(ch, work, before + i * unit + v * count, step)
                w = place[level, 4] + i * n + j
                z0, z1 = add_scaled(splat(work, w), a, z0), add_scaled(splat(work, w + 1), a, z1)
                z2, z3 = add_scaled(splat(work, w + 2), a, z2), add_scaled(splat(work, w + 3), a, z3)
            at_a, at_z = place[level + 1, 1] + j * unit + v * count, place[level + 1, 2] + j * unit + v * count
            q = point + v * count
            _activate(ch, z0, work, at_a, at_z, step, kind, table, q)
            _activate(ch, z1, work, at_a + unit, at_z + unit, step, kind, table, q)
            _activate(ch, z2, work, at_a + 2 * unit, at_z + 2 * unit, step, kind, table, q)
            _activate(ch, z3, work, at_a + 3 * unit, at_z + 3 * unit, step, kind, table, q)


@_inline
def _hidden_reverse(
    ch: Any, work: Any, place: Any, level: Any, stride: Any, point: Any, kind: Any, data: Any, columns: Any
) -> None:
    """a~ = W' z~ for all channels, four units at a time, and on to the cotangents of the layer before."""
    count = lanes(work)
    step = VECTORS * count
    unit, table = channel_count(ch) * step, (data, columns, stride)
    n_in, n, bars = place[level, 0], place[level + 1, 0], place[level + 1, 2]
    for i in range(0, n_in, BLOCK):
        for v in range(VECTORS):
            a0 = a1 = a2 = a3 = of_value(ch, fill(work, 0.0))
            for j in range(n):
                z = load_channels(ch, work, bars + j * unit + v * count, step)
                w = place[level, 4] + i * n + j
                a0, a1 = add_scaled(splat(work, w), z, a0), add_scaled(splat(work, w + n), z, a1)
                a2, a3 = add_scaled(splat(work, w + 2 * n), z, a2), add_scaled(splat(work, w + 3 * n), z, a3)
            at_a, at_z = place[level, 1] + i * unit + v * count, place[level, 2] + i * unit + v * count
            q = point + v * count
            _reverse(ch, a0, work, at_a, at_z, step, kind, table, q)
            _reverse(ch, a1, work, at_a + unit, at_z + unit, step, kind, table, q)
            _reverse(ch, a2, work, at_a + 2 * unit, at_z + 2 * unit, step, kind, table, q)
            _reverse(ch, a3, work, at_a + 3 * unit, at_z + 3 * unit, step, kind, table, q)


@_inline
def _weight_gradient(ch: Any, work: Any, place: Any, level: Any) -> None:
    """Add a[i] z~[j] over channels and points to the sums of W[i, j], 16 at a time, and z~ to those of the biases."""
    count = lanes(work)
    length = channel_count(ch) * VECTORS * count
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
def _first_gradient(
    ch: Any, work: Any, place: Any, inputs: Any, stride: Any, point: Any, slots: Any, seeds: Any
) -> None:
    """The same for the inputs: the channels of input k are its value, its seed as slope to itself, and else 0."""
    count = lanes(work)
    step, n_in, n = VECTORS * count, place[0, 0], place[1, 0]
    for j in range(n):
        z = place[1, 2] + j * channel_count(ch) * step
        for k in range(n_in):
            at = place[0, 3] + (k * n + j) * count
            s = load(work, at)
            for v in range(VECTORS):
                s = fma(load(inputs, k * stride + point + v * count), load(work, z + v * count), s)
                if slots[k] > 0:
                    s = fma(splat(seeds, k), load(work, z + slots[k] * step + v * count), s)
            store(work, at, s)
        at = place[0, 3] + (n_in * n + j) * count
        s = load(work, at)
        for v in range(VECTORS):
            s = s + load(work, z + v * count)
        store(work, at, s)


@_inline
def _outputs(ch: Any, work: Any, place: Any) -> None:
    """The channels of every output."""
    count, last = lanes(work), len(place) - 2
    step, outputs = VECTORS * count, place[last + 1, 0]
    unit = channel_count(ch) * step
    for o in range(outputs):
        for v in range(0, VECTORS, 2):  # two sums at once: each waits for itself
            u0 = of_value(ch, splat(work, place[last, 5] + o))
            u1 = u0
            for i in range(place[last, 0]):
                w, at = splat(work, place[last, 4] + i * outputs + o), place[last, 1] + i * unit + v * count
                u0 = add_scaled(w, load_channels(ch, work, at, step), u0)
                u1 = add_scaled(w, load_channels(ch, work, at + count, step), u1)
            at = place[last + 1, 1] + o * unit + v * count
            store_channels(work, at, step, u0)
            store_channels(work, at + count, step, u1)


@_inline
def _outputs_reverse(
    ch: Any, work: Any, place: Any, stride: Any, point: Any, kind: Any, data: Any, columns: Any
) -> None:
    """Cotangents of the outputs to their weights and to the z channels of the last hidden layer."""
    count, last = lanes(work), len(place) - 2
    step, outputs, sums = VECTORS * count, place[last + 1, 0], place[last, 3]
    unit, table, bars = channel_count(ch) * step, (data, columns, stride), place[last + 1, 2]
    for v in range(VECTORS):
        for i in range(place[last, 0]):
            at = i * unit + v * count
            a = load_channels(ch, work, place[last, 1] + at, step)
            bar = of_value(ch, fill(work, 0.0))
            for o in range(outputs):
                u = load_channels(ch, work, bars + o * unit + v * count, step)
                s = sums + (i * outputs + o) * count
                store(work, s, add_products(a, u, load(work, s)))
                bar = add_scaled(splat(work, place[last, 4] + i * outputs + o), u, bar)
            at_a, at_z = place[last, 1] + at, place[last, 2] + at
            _reverse(ch, bar, work, at_a, at_z, step, kind, table, point + v * count)
        for o in range(outputs):
            s = sums + (place[last, 0] * outputs + o) * count
            store(work, s, load(work, s) + load(work, bars + o * unit + v * count))


@_inline
def _copy_outputs(ch: Any, work: Any, place: Any, point: Any, out: Any) -> None:
    """The channels of every output of a chunk into `out` [outputs * channels * points]."""
    count, last = lanes(work), len(place) - 2
    rows = place[last + 1, 0] * channel_count(ch)
    stride = len(out) // rows
    for row in range(rows):
        for v in range(VECTORS):
            value = load(work, place[last + 1, 1] + (row * VECTORS + v) * count)
            store(out, row * stride + point + v * count, value)


@kept()
def evaluate(
    ch: Any,
    kind: Any,
    residual: Any,
    parameters: Any,
    members: Any,
    places: Any,
    layers: Any,
    slots: Any,
    seeds: Any,
    inputs: Any,
    columns: Any,
    data: Any,
    coefficients: Any,
    weights: Any,
    points: Any,
    stretches: Any,
    work: Any,
    task: Any,
    shares: Any,
    offset: Any,
    squares: Any,
    gradients: Any,
    out: Any,
) -> None:
    """Sums of squares [rows, stretches, residuals] and gradients [rows, stretches, size] of one group of residuals.

    Row i has parameters [rows, size], belongs to member `members[i]` and sees the points at `places[i]`. Of each
    member: layers [members, levels + 1], seeds [members, inputs], coefficients [members, coefficients] of the
    equation, weights [members, residuals]; of each place: inputs [places, inputs * points] and data [places,
    columns * points], of which `columns` are the forms' coefficients. Only the first `points` of the points count; the
    others fill the last chunk. `slots` as in `_unfold`; stretches [stretches, 2] of points, whole chunks; the first
    is number `offset` in the sums. Every `shares`-th pair of row and stretch from `task` on is computed; `work` is
    this share's own. With 0 for the address of the residual, the channels of the outputs go into `out` [rows, outputs *
    channels * points] instead.
    """
    count = lanes(work)
    step, residuals = VECTORS * count, weights.shape[1]
    for number in range(task, len(members) * len(stretches), shares):
        row, stretch = number // len(stretches), number % len(stretches)
        member, points_of = members[row], places[row]
        place, _ = arrange(channel_count(ch), layers[member], step, count)
        _unfold(parameters[row], layers[member], slots, seeds[member], place, work)
        x, table, stride = inputs[points_of], data[points_of], inputs.shape[1] // layers[member, 0]
        top = len(place) - 1
        sums = np.zeros(residuals * count, work.dtype)
        for point in range(stretches[stretch, 0], stretches[stretch, 1], step):
            _first_layer(ch, work, place, x, stride, point, kind, table, columns)
            for level in range(1, top - 1):
                _hidden_layer(ch, work, place, level, stride, point, kind, table, columns)
            _outputs(ch, work, place)
            if residual == 0:
                _copy_outputs(ch, work, place, point, out[row])
                continue
            channels, cotangents = work[place[top, 1] :], work[place[top, 2] :]
            call_residual(
                residual,
                channels,
                cotangents,
                table,
                point,
                points - point,
                stride,
                coefficients[member],
                weights[member],
                sums,
            )
            _outputs_reverse(ch, work, place, stride, point, kind, table, columns)
            for level in range(top - 2, 0, -1):
                _weight_gradient(ch, work, place, level)
                _hidden_reverse(ch, work, place, level, stride, point, kind, table, columns)
            _first_gradient(ch, work, place, x, stride, point, slots, seeds[member])
        if residual != 0:
            for r in range(residuals):
                squares[row, offset + stretch, r] = total(load(sums, r * count))
            _fold(gradients[row, offset + stretch], layers[member], place, work)


@kept()
def evaluate_coupled(
    ch: Any,
    kind: Any,
    parameters: Any,
    members: Any,
    layers: Any,
    slots: Any,
    seeds: Any,
    inputs: Any,
    solution: Any,
    starts: Any,
    columns: Any,
    entries: Any,
    work: Any,
    task: Any,
    shares: Any,
    squares: Any,
    gradients: Any,
) -> None:
    """r' M r [rows, 1, 1] and its gradient / 2 [rows, 1, size], where r is the network's value minus `solution`.

    Arguments are as in `evaluate`, but for: solution [members, points] and the sparse rows of M, starts [members,
    points + 1], columns and entries [members, entries]. M r needs r at all points: the activations of all chunks are
    kept in `work` until the reverse pass, and every `shares`-th row from `task` on is computed.
    """
    count = lanes(work)
    step, points = VECTORS * count, solution.shape[1]
    r, pull = np.empty(points, work.dtype), np.empty(points, work.dtype)
    for row in range(task, len(members), shares):
        member = members[row]
        place, _ = arrange(channel_count(ch), layers[member], step, count)
        x, stride = inputs[member], inputs.shape[1] // layers[member, 0]
        chunk, chunks, top = place[0, 3], stride // step, len(place) - 1
        place[:, 3:] += (chunks - 1) * chunk
        place[0, 1] += (chunks - 1) * chunk
        _unfold(parameters[row], layers[member], slots, seeds[member], place, work)
        for point in range(0, stride, step):
            _first_layer(ch, work, place, x, stride, point, kind, x, slots)
            for level in range(1, top - 1):
                _hidden_layer(ch, work, place, level, stride, point, kind, x, slots)
            _outputs(ch, work, place)
            for at in range(point, min(point + step, points)):
                r[at] = work[place[top, 1] + at - point] - solution[member, at]
            place[1:, 1:3] += chunk
        square = 0.0
        for at in range(points):
            value = 0.0
            for entry in range(starts[member, at], starts[member, at + 1]):
                value += entries[member, entry] * r[columns[member, entry]]
            pull[at] = value
            square += value * r[at]
        squares[row, 0, 0] = square
        place[1:, 1:3] -= chunks * chunk
        for point in range(0, stride, step):
            for at in range(point, point + step):
                work[place[top, 2] + at - point] = pull[at] if at < points else 0.0
            _outputs_reverse(ch, work, place, stride, point, kind, x, slots)
            for level in range(top - 2, 0, -1):
                _weight_gradient(ch, work, place, level)
                _hidden_reverse(ch, work, place, level, stride, point, kind, x, slots)
            _first_gradient(ch, work, place, x, stride, point, slots, seeds[member])
            place[1:, 1:3] += chunk
        place[1:, 1:3] -= chunks * chunk
        _fold(gradients[row, 0], layers[member], place, work)


@kept()
def reduce(
    squares: Any, gradients: Any, groups: Any, weights: Any, averages: Any, loss: Any, terms: Any, gradient: Any
) -> None:
    """Loss [rows], terms [rows, terms] and gradient [rows, size] from the sums of every stretch.

    `groups` [groups, 4]: first and last stretch of each, first and last term (one after the last). Weights and averages
    [rows, terms] as in `combine`; the gradients of a group with several terms are weighted already. Sums are in
    float64, stretch after stretch.
    """
    rows, _, size = gradients.shape
    sums = np.empty(size)
    for row in range(rows):
        whole, value = np.zeros(size), 0.0
        for group in range(len(groups)):
            start, stop, first, last = groups[group]
            sums[:] = 0.0
            for stretch in range(start, stop):
                for p in range(size):
                    sums[p] += gradients[row, stretch, p]
            factor = 2 * averages[row, first]
            for term in range(first, last):
                square, weight, average = 0.0, weights[row, term], averages[row, term]
                for stretch in range(start, stop):
                    square += squares[row, stretch, term - first]
                if average == 0:  # a norm; at zero the subgradient 0
                    result = math.sqrt(square) if square >= 0 else math.nan
                    factor = weight / result if result != 0 else 0.0
                else:
                    result = square * average
                    if last - first == 1:
                        factor = 2 * weight * average
                terms[row, term] = result
                value += weight * result
            for p in range(size):
                whole[p] += factor * sums[p]
        loss[row] = value
        gradient[row] = whole
