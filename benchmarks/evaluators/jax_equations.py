"""Mean squares of the residuals of other equations in JAX, by forward derivatives written for each.

The network carries value, both slopes and the one form of second order that the equation needs. Arrays are [units,
points].
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def channels(weights: Any, points: Any, is_laplacian: bool) -> tuple[Any, Any, Any, Any]:
    """Return outputs, both slopes and u_xx + u_yy, or u_xx alone [outputs, points], at inputs [2, points]."""

    def through(z: Any, z_x: Any, z_y: Any, z_f: Any) -> tuple[Any, Any, Any, Any]:
        a = jnp.tanh(z)
        s = 1 - a * a
        squares = z_x * z_x + z_y * z_y if is_laplacian else z_x * z_x
        return a, s * z_x, s * z_y, s * (z_f - 2 * a * squares)

    w, b = weights[0]
    carried = through(w.T @ points + b[:, None], w[0][:, None], w[1][:, None], jnp.zeros((), points.dtype))
    for w, b in weights[1:-1]:
        a, a_x, a_y, a_f = carried
        carried = through(w.T @ a + b[:, None], w.T @ a_x, w.T @ a_y, w.T @ a_f)
    w, b = weights[-1]
    a, a_x, a_y, a_f = carried
    return w.T @ a + b[:, None], w.T @ a_x, w.T @ a_y, w.T @ a_f


def residuals(name: str, weights: Any, coefficient: Any, points: Any) -> list[Any]:
    """Return the residuals [points] of an equation."""
    values, slopes_x, slopes_y, forms = channels(weights, points, name in ("helmholtz", "kovasznay"))
    u, u_x, u_y, u_f = values[0], slopes_x[0], slopes_y[0], forms[0]
    if name == "burgers":
        return [u_y + u * u_x - coefficient * u_f]
    if name == "allen_cahn":
        return [u_y - coefficient * u_f - 5 * (u - u * u * u)]
    if name == "helmholtz":
        source = jnp.sin(jnp.pi * points[0]) * jnp.sin(4 * jnp.pi * points[1])
        return [u_f + coefficient**2 * u - (coefficient**2 - 17 * jnp.pi**2) * source]
    v, v_x, v_y, v_f = values[1], slopes_x[1], slopes_y[1], forms[1]
    x = u * u_x + v * u_y + slopes_x[2] - u_f / coefficient
    y = u * v_x + v * v_y + slopes_y[2] - v_f / coefficient
    return [x, y, u_x + v_y]


def mean_squares(chunk: int, name: str) -> Any:
    """Return loss and gradient as a function of (weights, coefficient, points [2, points])."""

    def squares(weights: Any, coefficient: Any, points: Any) -> Any:
        return sum(jnp.sum(residual * residual) for residual in residuals(name, weights, coefficient, points))

    def evaluate(weights: Any, coefficient: Any, points: Any) -> Any:
        count = points.shape[1] // chunk
        if count == 1:
            total = jax.value_and_grad(squares)(weights, coefficient, points)
        else:

            def add(total: Any, part: Any) -> Any:
                return jax.tree.map(jnp.add, total, jax.value_and_grad(squares)(weights, coefficient, part)), None

            nothing = (jnp.zeros((), points.dtype), jax.tree.map(jnp.zeros_like, weights))
            total = jax.lax.scan(add, nothing, points.reshape(2, count, chunk).swapaxes(0, 1))[0]
        return jax.tree.map(lambda part: part / points.shape[1], total)

    return evaluate
