"""Run the overview's examples in JAX: missing gradients, Jacobians, eager and compiled functions, devices.

Compare with `overview_torch.py` and `overview_tensorflow.py`. Run it with `python overview_jax.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from overview import BATCH, EYE, KERNEL, LINE, PAIR, jacobian_rows, line, outcome, trace_rows
from table import Row, show


def missing_gradients() -> list[Row]:
    """Return what JAX says where others have no gradient: gradients are functions of arguments, and none is missing."""

    def squares(x0: float, x1: float, x2: float, x3: float) -> jax.Array:
        return x0**2 + stop_gradient(x1) ** 2 + x2**2

    def through_one(x: float) -> jax.Array:
        return squares(3.0, 3.0, x + 1, 3.0)

    x0, x1, x2, x3 = jax.grad(squares, argnums=(0, 1, 2, 3))(3.0, 3.0, 2.0 + 1, 3.0)
    first, second = jax.grad(lambda a, b: jnp.sin(stop_gradient(a)) + jax.nn.softplus(b), argnums=(0, 1))(0.0, 10.0)
    return [
        line("gradient: variable", x0),
        line("gradient: not trainable", x1, 0.0, "stop_gradient gives 0, not None"),
        line("gradient: variable plus one", x2, 6.0, "an argument like any other"),
        line("gradient: variable plus one, asked for", jax.grad(through_one)(2.0), 6.0),
        line("gradient: constant", x3, 0.0, "an argument not used: 0"),
        line("gradient: constant, watched", jax.grad(lambda x: x**2)(3.0), note="nothing is watched"),
        line("gradient: sine, not watched", first, 0.0),
        line("gradient: softplus, watched", f"{second:.5f}", "0.99995", "float32: the seventh digit is another"),
        line("gradient: an integer", outcome(lambda: jax.grad(lambda x: x**2)(3)), "TypeError"),
    ]


def recordings() -> list[Row]:
    """Return what gradients of one computation are: functions, which can be called again."""
    one, none = np.float32([1, 1]), np.float32([0, 0])
    _, back = jax.vjp(lambda x: (x * x, x * x * x * x), jnp.array(PAIR))
    return [
        line("one recording: first gradient", back((none, one))[0], note="vjp"),
        line("one recording: second gradient", back((one, none))[0]),
        line("one recording: used twice, not kept", back((none, one))[0], [4.0, 108.0], "nothing to keep: no error"),
    ]


def frozen() -> list[Row]:
    """Return whether a gradient reaches weights, and whether it does where it is stopped."""

    def total(kernel: jax.Array) -> jax.Array:
        return (BATCH @ kernel).sum()

    reached, stopped = (jax.jit(jax.grad(f))(KERNEL) for f in (total, lambda kernel: total(stop_gradient(kernel))))
    return [
        line("weights: gradient reaches them", bool(np.any(reached))),
        line("weights: gradient reaches them, frozen", bool(np.any(stopped)), note="stop_gradient"),
        line("weights: gradient, frozen", np.asarray(stopped)[0, :2], [0.0, 0.0], "zeros"),
    ]


def jacobians() -> list[Row]:
    """Return the shapes of Jacobians by a scalar and by a kernel."""

    def layer(kernel: jax.Array) -> jax.Array:
        return jax.nn.relu(BATCH @ kernel)

    kernel = jnp.array(KERNEL)
    scalar = jax.jit(jax.jacfwd(lambda delta: jax.nn.sigmoid(LINE + delta)))(0.0)
    gradient = jax.jit(jax.grad(lambda kernel: layer(kernel).sum()))(kernel)
    return jacobian_rows(scalar, layer(kernel), jax.jit(jax.jacobian(layer))(kernel), gradient)


def products() -> list[Row]:
    """Return the corner of a vector-Jacobian product with ones, call after call."""
    _, back = jax.vjp(lambda x: (x + 1) ** 2, jnp.array(EYE))
    first, second = (back(np.ones_like(EYE))[0].tolist()[0][:2] for _ in range(2))
    return [
        line("vector-Jacobian product: first call", first, [4.0, 2.0]),
        line("vector-Jacobian product: second call", second, [4.0, 2.0], "nothing accumulates, nothing to zero"),
    ]


def traces() -> list[Row]:
    """Return how often Python runs a function."""
    return trace_rows(jnp.array, jax.jit, 1, "jit; a print in it prints once")


def devices() -> list[Row]:
    """Return where arrays are."""
    best, new = jax.default_backend(), jnp.array(PAIR)

    def kind(array: jax.Array) -> str:
        return next(iter(array.devices())).platform

    cpu = jax.device_put(new, jax.devices("cpu")[0])
    return [
        line("device: new array", kind(new), best, "the best there is"),
        line("device: moved to the CPU", kind(cpu), "cpu", "device_put"),
        line("device: result of moved ones", kind(cpu * 2), "cpu"),
    ]


def rows() -> list[Row]:
    """Return all examples' rows."""
    return [*missing_gradients(), *recordings(), *frozen(), *jacobians(), *products(), *traces(), *devices()]


if __name__ == "__main__":
    show(rows())
