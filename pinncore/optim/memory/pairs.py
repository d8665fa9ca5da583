"""Compiled directions from stored pairs: the two loops, and the same in blocks (compact form).

Nocedal and Wright (2006), algorithm 7.4. Byrd, Nocedal and Schnabel (1994), theorem 2.2: with R_ij = s_i'y_j for i no
younger than j, D its diagonal and w = R^-1 S'g, equation 3.1 multiplied out is

    H g = gamma r + S u,   r = g - Y w,   R'u = D w - gamma Y'r,

the two loops with each loop's products taken at once. Y'Y (D + gamma Y'Y in 3.1) is not kept: Y'r costs the same pass
over Y as Y'g does, and rounds better.

Pairs lie in a ring of rows [capacity, width]: pair k in row k mod history. `width` is the member's own size filled up
with zeros to whole turns of four vectors. Every order of summation depends on the rows and the width alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ...kernels.cache import kept
from ...kernels.simd import fill, fma, lanes, load, splat, store, total
from ..rows import dot, tree

_inline = njit(forceinline=True, error_model="numpy")


@njit(nogil=True)
def gather(step: Any, change: Any, gradient: Any, own: Any, work: Any) -> None:
    """Copy a member's elements, at places `own` of its padded rows, to the front of the first three work vectors."""
    for i in range(len(own)):
        work[0, i], work[1, i], work[2, i] = step[own[i]], change[own[i]], gradient[own[i]]


@njit(nogil=True)
def scatter_negative(vector: Any, own: Any, row: Any) -> None:
    """Write minus a vector back into the padded row; other places stay unchanged."""
    for i in range(len(own)):
        row[own[i]] = -vector[i]


@njit(nogil=True)
def passes(ys: float, yy: float, limits: Any) -> bool:
    """Return whether a pair passes the curvature test of `MemorySpec.thresholds`; NaN does not pass."""
    return ys > limits[0] and ys > limits[1] * yy


@njit(nogil=True)
def _store_pair(s: Any, y: Any, pairs: Any, inverse: Any, counts: Any, scalars: Any, limits: Any) -> bool:
    """Put a pair into the ring if it passes the curvature test, and return whether; a full ring loses its oldest pair.

    `counts`: pairs ever stored, history. `scalars`: gamma = y's / y'y of the newest pair. `inverse`: rho = 1 / y's.
    """
    ys, yy = dot(y, s, len(s)), dot(y, y, len(y))
    if not passes(ys, yy, limits):
        return False
    slot = counts[0] % counts[1]
    pairs[0, slot, :] = s
    pairs[1, slot, :] = y
    inverse[slot] = 1.0 / ys
    scalars[0] = ys / yy
    counts[0] += 1
    return True


@_inline
def _add_then_multiply(q: Any, factor: Any, a: Any, at: int, b: Any, next_at: int, width: int) -> Any:
    """Compute q <- q + factor a and return b'q for the next pair, in one walk over q."""
    n = lanes(q)
    scale = fill(q, factor)
    zero = fill(q, 0.0)
    sums = (zero, zero, zero, zero)
    for c in range(0, width, 4 * n):
        q0 = load(q, c) + scale * load(a, at + c)
        q1 = load(q, c + n) + scale * load(a, at + c + n)
        q2 = load(q, c + 2 * n) + scale * load(a, at + c + 2 * n)
        q3 = load(q, c + 3 * n) + scale * load(a, at + c + 3 * n)
        store(q, c, q0)
        store(q, c + n, q1)
        store(q, c + 2 * n, q2)
        store(q, c + 3 * n, q3)
        sums = (
            fma(load(b, next_at + c), q0, sums[0]),
            fma(load(b, next_at + c + n), q1, sums[1]),
            fma(load(b, next_at + c + 2 * n), q2, sums[2]),
            fma(load(b, next_at + c + 3 * n), q3, sums[3]),
        )
    return tree(sums)


@njit(nogil=True)
def _two_loops(s: Any, y: Any, inverse: Any, count: int, newest: int, gamma: float, q: Any, alphas: Any) -> None:
    """Compute q <- H q; `s` and `y` are rings of `count` rows, flat."""
    width = len(q)
    slot = newest
    product = _add_then_multiply(q, 0.0, s, slot * width, s, slot * width, width)
    for _ in range(count):
        alphas[slot] = product * inverse[slot]
        older = slot - 1 if slot > 0 else count - 1  # after the oldest: the newest again, its product is not used
        product = _add_then_multiply(q, -alphas[slot], y, slot * width, s, older * width, width)
        slot = older
    slot = slot + 1 if slot + 1 < count else 0
    for i in range(width):
        q[i] *= gamma
    product = _add_then_multiply(q, 0.0, y, slot * width, y, slot * width, width)
    for _ in range(count):
        younger = slot + 1 if slot + 1 < count else 0
        factor = alphas[slot] - product * inverse[slot]
        product = _add_then_multiply(q, factor, s, slot * width, y, younger * width, width)
        slot = younger


@kept(error_model="numpy")
def advance_two_loop(
    step: Any,
    change: Any,
    gradient: Any,
    own: Any,
    direction: Any,
    limits: Any,
    pairs: Any,  # [2, capacity, width]: steps, changes
    inverse: Any,  # [capacity]
    counts: Any,
    scalars: Any,
    work: Any,  # [3, width], zero behind the member's own size
    alphas: Any,  # [capacity]
) -> bool:
    """Store the pair of a step, set direction = -H gradient, and return whether the pair was kept."""
    s, y, q = work[0], work[1], work[2]
    gather(step, change, gradient, own, work)
    kept = _store_pair(s, y, pairs, inverse, counts, scalars, limits)
    count = min(counts[0], counts[1])
    if count:
        newest = (counts[0] - 1) % counts[1]
        _two_loops(pairs[0].reshape(-1), pairs[1].reshape(-1), inverse, count, newest, scalars[0], q, alphas)
    scatter_negative(q, own, direction)
    return kept


@njit(nogil=True)
def _two_products(a: Any, count: int, x: Any, z: Any, ax: Any, az: Any) -> None:
    """Compute a'x and a'z for `count` rows of `a` (flat), four at a time, so that x and z are read once for four."""
    n, width, zero = lanes(a), len(x), fill(a, 0.0)
    for row in range(0, count, 4):
        # rows past the last one are read as the last one, and their products dropped
        p0 = row * width
        p1, p2, p3 = min(row + 1, count - 1) * width, min(row + 2, count - 1) * width, min(row + 3, count - 1) * width
        x0 = x1 = x2 = x3 = z0 = z1 = z2 = z3 = zero
        for c in range(0, width, n):
            xc, zc = load(x, c), load(z, c)
            a0, a1, a2, a3 = load(a, p0 + c), load(a, p1 + c), load(a, p2 + c), load(a, p3 + c)
            x0, z0 = fma(a0, xc, x0), fma(a0, zc, z0)
            x1, z1 = fma(a1, xc, x1), fma(a1, zc, z1)
            x2, z2 = fma(a2, xc, x2), fma(a2, zc, z2)
            x3, z3 = fma(a3, xc, x3), fma(a3, zc, z3)
        for i, (found_x, found_z) in enumerate(((x0, z0), (x1, z1), (x2, z2), (x3, z3))):
            if row + i < count:
                ax[row + i], az[row + i] = total(found_x), total(found_z)


@njit(nogil=True)
def _add_rows(a: Any, count: int, factors: Any, x: Any) -> None:
    """Compute x <- x + a'factors, row by row of `a` (flat), four to each walk over x."""
    n, width = lanes(a), len(x)
    fours = count // 4 * 4
    for row in range(0, fours, 4):
        p = row * width
        f0, f1, f2, f3 = splat(factors, row), splat(factors, row + 1), splat(factors, row + 2), splat(factors, row + 3)
        for c in range(0, width, n):
            xc = fma(f1, load(a, p + width + c), fma(f0, load(a, p + c), load(x, c)))
            store(x, c, fma(f3, load(a, p + 3 * width + c), fma(f2, load(a, p + 2 * width + c), xc)))
    for row in range(fours, count):
        f0 = splat(factors, row)
        for c in range(0, width, n):
            store(x, c, fma(f0, load(a, row * width + c), load(x, c)))


@njit(nogil=True)
def _subtract_rows(a: Any, start: int, end: int, first: int, last: int, x: Any) -> None:
    """Subtract from x[first:last] the sum of x[j] a[j, first:last] over start <= j < end, at most four rows."""
    j1, j2, j3 = min(start + 1, end - 1), min(start + 2, end - 1), min(start + 3, end - 1)
    f0 = x[start]
    f1 = x[j1] if start + 1 < end else x.dtype.type(0.0)
    f2 = x[j2] if start + 2 < end else x.dtype.type(0.0)
    f3 = x[j3] if start + 3 < end else x.dtype.type(0.0)
    for i in range(first, last):
        x[i] -= (f0 * a[start, i] + f1 * a[j1, i]) + (f2 * a[j2, i] + f3 * a[j3, i])


@njit(nogil=True)
def _row_products(a: Any, start: int, end: int, first: int, last: int, x: Any, sums: Any) -> None:
    """Add a[j, first:last]'x[first:last] to `sums` for start <= j < end, at most four rows."""
    n, zero, capacity = lanes(a), fill(a, 0.0), a.shape[1]
    flat = a.reshape(-1)
    p0 = start * capacity
    p1, p2 = min(start + 1, end - 1) * capacity, min(start + 2, end - 1) * capacity
    p3 = min(start + 3, end - 1) * capacity
    s0 = s1 = s2 = s3 = zero
    whole = first + (last - first) // n * n
    for i in range(first, whole, n):
        xi = load(x, i)
        s0, s1 = fma(load(flat, p0 + i), xi, s0), fma(load(flat, p1 + i), xi, s1)
        s2, s3 = fma(load(flat, p2 + i), xi, s2), fma(load(flat, p3 + i), xi, s3)
    sums[0] += total(s0)
    sums[1] += total(s1)
    sums[2] += total(s2)
    sums[3] += total(s3)
    for k in range(end - start):
        for i in range(whole, last):
            sums[k] += a[start + k, i] * x[i]


@njit(nogil=True)
def _solve_stretch(products: Any, low: int, high: int, older_low: int, older_high: int, x: Any) -> None:
    """Substitute backwards from row `high` down to `low`, four rows at a time."""
    end = high
    while end > low:
        start = max(low, end - 4)
        for j in range(end - 1, start - 1, -1):
            x[j] /= products[j, j]
            for i in range(start, j):
                x[i] -= x[j] * products[j, i]
        _subtract_rows(products, start, end, low, start, x)
        _subtract_rows(products, start, end, older_low, older_high, x)
        end = start


@njit(nogil=True)
def _solve_transposed_stretch(products: Any, low: int, high: int, older_low: int, older_high: int, x: Any) -> None:
    """Substitute forwards from row `low` up to `high`, four rows at a time."""
    sums = np.empty(4, x.dtype)
    for start in range(low, high, 4):
        end = min(start + 4, high)
        sums[:] = 0.0
        _row_products(products, start, end, older_low, older_high, x, sums)
        _row_products(products, start, end, low, start, x, sums)
        for j in range(start, end):
            known = sums[j - start]
            for i in range(start, j):
                known += products[j, i] * x[i]
            x[j] = (x[j] - known) / products[j, j]


@njit(nogil=True)
def _solve(products: Any, count: int, oldest: int, x: Any) -> None:
    """Compute x <- R^-1 x; row j of `products` holds s_i'y_j for every i no younger than j.

    In a ring the rows before `oldest` are younger than all the rows from it on.
    """
    _solve_stretch(products, 0, oldest, oldest, count, x)
    _solve_stretch(products, oldest, count, 0, 0, x)


@njit(nogil=True)
def _solve_transposed(products: Any, count: int, oldest: int, x: Any) -> None:
    """Compute x <- R^-T x."""
    _solve_transposed_stretch(products, oldest, count, 0, 0, x)
    _solve_transposed_stretch(products, 0, oldest, oldest, count, x)


@kept(error_model="numpy")
def advance_compact(
    step: Any,
    change: Any,
    gradient: Any,
    own: Any,
    direction: Any,
    limits: Any,
    pairs: Any,
    inverse: Any,
    counts: Any,
    scalars: Any,
    work: Any,
    products: Any,  # [capacity, capacity]: s_i'y_j in row j
    small: Any,  # [4, capacity]
) -> bool:
    """Do what `advance_two_loop` does, in blocks."""
    s, y, r = work[0], work[1], work[2]
    gather(step, change, gradient, own, work)
    kept = _store_pair(s, y, pairs, inverse, counts, scalars, limits)
    count = min(counts[0], counts[1])
    if count:
        newest, gamma = (counts[0] - 1) % counts[1], scalars[0]
        oldest = newest + 1 if newest + 1 < count else 0
        steps, changes = pairs[0].reshape(-1), pairs[1].reshape(-1)
        # a pair that was kept fills its row of R', one that was not leaves no trace
        row = products[newest] if kept else small[3]
        w, t, u = small[0, :count], small[1, :count], small[2, :count]
        _two_products(steps, count, y, r, row, w)
        _solve(products, count, oldest, w)
        for i in range(count):
            u[i] = -w[i]
        _add_rows(changes, count, u, r)
        _two_products(changes, count, r, r, t, t)
        for i in range(count):
            u[i] = products[i, i] * w[i] - gamma * t[i]
        _solve_transposed(products, count, oldest, u)
        for i in range(len(r)):
            r[i] *= gamma
        _add_rows(steps, count, u, r)
    scatter_negative(r, own, direction)
    return kept
