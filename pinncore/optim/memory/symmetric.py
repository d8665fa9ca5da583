"""Symmetric matrices in tiles, and the two recursions on them.

A matrix [n, n] is kept as the lower triangle of its 16 x 16 tiles, one row of tiles after the other, each row of tiles
row by row; tiles on the diagonal are complete. Rows past n are zero.

Every recursion here changes a matrix by M <- scale M + a b' + c d', symmetric, and then needs M y and M g. One walk
through memory does it all: the change waits for the next pair (`waiting`), is then applied tile by tile, and each tile
goes straight into both products, as itself and as its transpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ...kernels.cache import kept
from ...kernels.simd import fill, fma, lanes, load, splat, store, total
from ..rows import dot
from .broyden import broyden_parameters
from .pairs import gather, passes, scatter_negative

TILE = 16
_inline = njit(forceinline=True, error_model="numpy")


def tiles_of(size: int) -> int:
    """Return the number of rows of tiles of a matrix [size, size]."""
    return -(-size // TILE)


def pack(square: NDArray[Any]) -> NDArray[Any]:
    """Return a matrix [n, n] as tiles, flat."""
    tiles = tiles_of(len(square))
    padded = np.zeros((tiles * TILE, tiles * TILE), square.dtype)
    padded[: len(square), : len(square)] = square
    return np.concatenate([padded[i * TILE : (i + 1) * TILE, : (i + 1) * TILE].reshape(-1) for i in range(tiles)])


def unpack(packed: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the matrix [size, size] of tiles; exactly the inverse of `pack`."""
    tiles, start = tiles_of(size), 0
    square = np.empty((tiles * TILE, tiles * TILE), packed.dtype)
    for i in range(tiles):
        edge, end = i * TILE, (i + 1) * TILE
        rows = packed[start : start + TILE * end].reshape(TILE, end)
        square[edge:end, :end] = rows
        square[:edge, edge:end] = rows[:, :edge].T
        start += TILE * end
    return np.ascontiguousarray(square[:size, :size])


@_inline
def _changed(m: Any, p: int, scale: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Add the share of a b' + c d' to a vector of row elements, write it back and return it."""
    x = fma(c, d, fma(a, b, scale * load(m, p)))
    store(m, p, x)
    return x


@njit(nogil=True)
def _walk(m: Any, scale: float, a: Any, b: Any, c: Any, d: Any, y: Any, g: Any, my: Any, mg: Any) -> None:
    """Compute M <- scale M + a b' + c d', then my = M y and mg = M g."""
    n, zero, factor = lanes(m), fill(m, 0.0), fill(m, scale)
    my[:] = 0.0
    mg[:] = 0.0
    start = 0
    edge = 0  # first row and column of the diagonal tile
    while start < len(m):
        stride = edge + TILE
        for row in range(edge, edge + TILE, 4):
            p0, p1, p2, p3 = start, start + stride, start + 2 * stride, start + 3 * stride
            a0, a1, a2, a3 = splat(a, row), splat(a, row + 1), splat(a, row + 2), splat(a, row + 3)
            c0, c1, c2, c3 = splat(c, row), splat(c, row + 1), splat(c, row + 2), splat(c, row + 3)
            y0, y1, y2, y3 = splat(y, row), splat(y, row + 1), splat(y, row + 2), splat(y, row + 3)
            g0, g1, g2, g3 = splat(g, row), splat(g, row + 1), splat(g, row + 2), splat(g, row + 3)
            my0 = my1 = my2 = my3 = mg0 = mg1 = mg2 = mg3 = zero
            for k in range(0, edge, n):  # left of the diagonal: each tile also counts as its transpose
                bk, dk, yk, gk = load(b, k), load(d, k), load(y, k), load(g, k)
                down_y, down_g = load(my, k), load(mg, k)
                x = _changed(m, p0 + k, factor, a0, bk, c0, dk)
                my0, mg0, down_y, down_g = fma(x, yk, my0), fma(x, gk, mg0), fma(x, y0, down_y), fma(x, g0, down_g)
                x = _changed(m, p1 + k, factor, a1, bk, c1, dk)
                my1, mg1, down_y, down_g = fma(x, yk, my1), fma(x, gk, mg1), fma(x, y1, down_y), fma(x, g1, down_g)
                x = _changed(m, p2 + k, factor, a2, bk, c2, dk)
                my2, mg2, down_y, down_g = fma(x, yk, my2), fma(x, gk, mg2), fma(x, y2, down_y), fma(x, g2, down_g)
                x = _changed(m, p3 + k, factor, a3, bk, c3, dk)
                my3, mg3, down_y, down_g = fma(x, yk, my3), fma(x, gk, mg3), fma(x, y3, down_y), fma(x, g3, down_g)
                store(my, k, down_y)
                store(mg, k, down_g)
            for k in range(edge, stride, n):
                bk, dk, yk, gk = load(b, k), load(d, k), load(y, k), load(g, k)
                x = _changed(m, p0 + k, factor, a0, bk, c0, dk)
                my0, mg0 = fma(x, yk, my0), fma(x, gk, mg0)
                x = _changed(m, p1 + k, factor, a1, bk, c1, dk)
                my1, mg1 = fma(x, yk, my1), fma(x, gk, mg1)
                x = _changed(m, p2 + k, factor, a2, bk, c2, dk)
                my2, mg2 = fma(x, yk, my2), fma(x, gk, mg2)
                x = _changed(m, p3 + k, factor, a3, bk, c3, dk)
                my3, mg3 = fma(x, yk, my3), fma(x, gk, mg3)
            my[row] += total(my0)
            my[row + 1] += total(my1)
            my[row + 2] += total(my2)
            my[row + 3] += total(my3)
            mg[row] += total(mg0)
            mg[row + 1] += total(mg1)
            mg[row + 2] += total(mg2)
            mg[row + 3] += total(mg3)
            start += 4 * stride
        edge += TILE


@kept(error_model="numpy")
def advance_dense(
    step: Any,
    change: Any,
    gradient: Any,
    own: Any,
    direction: Any,
    limits: Any,
    matrices: Any,  # [2, items]: A, B in tiles
    waiting: Any,  # [3, width]: s and what it goes with in A and in B
    scalars: Any,  # gamma
    work: Any,  # [8, width], zero behind the member's own size
) -> bool:
    """Advance L-BFGS that drops no pair: H = gamma A + B, A <- V'AV, B <- V'BV + rho s s', V = I - rho y s'.

    From H_k of Nocedal and Wright (2006), eq. 7.19, with H_k^0 = gamma_k I and every pair. V'AV is a change of rank 2:
    A - rho (s (Ay)' + (Ay) s') + rho^2 y'Ay s s'.
    """
    s, y, g, r, ay, ag, by, bg = work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7]
    gather(step, change, gradient, own, work)
    past, past_a, past_b = waiting[0], waiting[1], waiting[2]
    # the waiting vectors carry the minus sign: A + s past_a' + past_a s'
    _walk(matrices[0], 1.0, past, past_a, past_a, past, y, g, ay, ag)
    _walk(matrices[1], 1.0, past, past_b, past_b, past, y, g, by, bg)
    ys, yy = dot(y, s, len(s)), dot(y, y, len(y))
    kept = passes(ys, yy, limits)
    if kept:
        rho, sg = 1.0 / ys, dot(s, g, len(s))
        gamma = ys / yy
        scalars[0] = gamma
        yay, yby = dot(y, ay, len(y)), dot(y, by, len(y))
        for i in range(len(s)):
            past[i] = s[i]
            past_a[i] = 0.5 * rho * rho * yay * s[i] - rho * ay[i]
            past_b[i] = 0.5 * (rho * rho * yby + rho) * s[i] - rho * by[i]
        # H g by the last pair's own V: V'(gamma A + B)(V g) + rho s's g
        for i in range(len(s)):
            r[i] = (gamma * ag[i] + bg[i]) - rho * sg * (gamma * ay[i] + by[i])
        beta = rho * (sg - dot(y, r, len(y)))
        for i in range(len(s)):
            r[i] += beta * s[i]
    else:
        waiting[:] = 0.0
        for i in range(len(s)):
            r[i] = scalars[0] * ag[i] + bg[i]
    scatter_negative(r, own, direction)
    return kept


@kept(error_model="numpy")
def advance_broyden(
    step: Any,
    change: Any,
    gradient: Any,
    own: Any,
    direction: Any,
    limits: Any,
    matrix: Any,  # [items]: H in tiles
    waiting: Any,  # [4, width]: a, b, c, d of the change still to be made
    scalars: Any,  # its scale, and 1 once a pair was kept
    work: Any,  # [6, width]
    method: int,
    bend: float,  # s'Bs, B = H^-1
) -> bool:
    """Advance the self-scaled Broyden family by one pair.

    Urban, Stefanou and Pons (2025), eq. 10, written out in s and w = Hy:
    H <- H/tau + (phi - 1)/(tau y'w) w w' - phi rho/tau (s w' + w s') + (phi y'w rho^2/tau + rho) s s'.
    """
    s, y, g, r, w, hg = work[0], work[1], work[2], work[3], work[4], work[5]
    gather(step, change, gradient, own, work)
    _walk(matrix, scalars[0], waiting[0], waiting[1], waiting[2], waiting[3], y, g, w, hg)
    ys, yy = dot(y, s, len(s)), dot(y, y, len(y))
    yhy = dot(y, w, len(y))
    kept = passes(ys, yy, limits) and yhy > 0.0
    scalars[0] = 1.0
    if kept:
        start = 1.0
        if method == 0 and scalars[1] == 0.0:
            start = ys / yy  # Nocedal and Wright eq. 6.20: H_0 = gamma I before the first change
            for i in range(len(s)):
                w[i] *= start
                hg[i] *= start
            yhy *= start
        scalars[1] = 1.0
        tau, phi = broyden_parameters(method, ys, yhy, bend, len(own))
        rho = 1.0 / ys
        of_ww, of_sw = (phi - 1.0) / (tau * yhy), -phi * rho / tau
        of_ss = phi * yhy * rho * rho / tau + rho
        scalars[0] = start / tau
        sg, wg = dot(s, g, len(s)), dot(w, g, len(s))
        for i in range(len(s)):
            waiting[0, i] = s[i]
            waiting[1, i] = of_ss * s[i] + of_sw * w[i]
            waiting[2, i] = w[i]
            waiting[3, i] = of_sw * s[i] + of_ww * w[i]
            r[i] = hg[i] / tau + (of_ss * sg + of_sw * wg) * s[i] + (of_sw * sg + of_ww * wg) * w[i]
    else:
        waiting[:] = 0.0
        r[:] = hg
    scatter_negative(r, own, direction)
    return kept
