"""Forward derivatives written by hand in JAX, as a careful user of JAX would write them.

Arrays are [units, points], points last. The Gauss points are evaluated at once, or in chunks that stay in the cache,
with the gradient of the sum of squares accumulated over a scan; a pack is evaluated member by member or by `vmap`. The
warm-up measures which is fastest on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..case import Array, Case, flatten
from ..equations import EquationCase
from .base import Evaluator, Trainer, fastest
from .jax_equations import mean_squares

CHUNKS = (320, 640)  # points; the best of 128 to 1280 on 2x16 to 16x16
WHOLE = "whole"


def laplacian(weights: Any, points: Any) -> tuple[Any, Any]:
    """Return u and u_xx + u_yy [points] at inputs [2, points]."""
    w, b = weights[0]
    z, z_x, z_y = w.T @ points + b[:, None], w[0][:, None], w[1][:, None]
    a = jnp.tanh(z)
    s = 1 - a * a
    a_x, a_y, a_l = s * z_x, s * z_y, -2 * a * s * (z_x * z_x + z_y * z_y)
    for w, b in weights[1:-1]:
        z, z_x, z_y, z_l = w.T @ a + b[:, None], w.T @ a_x, w.T @ a_y, w.T @ a_l
        a = jnp.tanh(z)
        s = 1 - a * a
        a_x, a_y, a_l = s * z_x, s * z_y, s * z_l - 2 * a * s * (z_x * z_x + z_y * z_y)
    w, b = weights[-1]
    return (w.T @ a + b[:, None])[0], (w.T @ a_l)[0]


def slope(weights: Any, points: Any, axis: int) -> Any:
    """Return u_x or u_y [points] at inputs [2, points]."""
    w, b = weights[0]
    a = jnp.tanh(w.T @ points + b[:, None])
    a_x = (1 - a * a) * w[axis][:, None]
    for w, b in weights[1:-1]:
        a, z_x = jnp.tanh(w.T @ a + b[:, None]), w.T @ a_x
        a_x = (1 - a * a) * z_x
    return (weights[-1][0].T @ a_x)[0]


def loss_and_gradient(chunk: int, boundary_weight: float) -> Any:
    """Return the function of (weights, interior [2, points], g, e, lrb, btb); `chunk` divides the points."""

    def squares(weights: Any, points: Any, g: Any, e: Any) -> Any:
        u, u_l = laplacian(weights, points)
        residual = u - g * u_l - e
        return jnp.sum(residual * residual)

    def interior_squares(weights: Any, points: Any, g: Any, e: Any) -> Any:
        count = points.shape[1] // chunk
        if count == 1:
            return jax.value_and_grad(squares)(weights, points, g, e)

        def add(total: Any, part: Any) -> Any:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(squares)(weights, *part)), None

        parts = (points.reshape(2, count, chunk).swapaxes(0, 1), g.reshape(count, chunk), e.reshape(count, chunk))
        nothing = (jnp.zeros((), points.dtype), jax.tree.map(jnp.zeros_like, weights))
        return jax.lax.scan(add, nothing, parts)[0]

    def boundary_squares(weights: Any, points: Any, axis: int) -> Any:
        return jax.value_and_grad(lambda weights: jnp.sum(slope(weights, points, axis) ** 2))(weights)

    def evaluate(weights: Any, points: Any, g: Any, e: Any, lrb: Any, btb: Any) -> Any:
        terms = (
            interior_squares(weights, points, g, e),
            boundary_squares(weights, lrb, 0),
            boundary_squares(weights, btb, 1),
        )
        factors = (1.0, boundary_weight, boundary_weight)
        norms = [jnp.sqrt(square) for square, _ in terms]
        loss = sum(factor * norm for factor, norm in zip(factors, norms, strict=True))
        scaled = [
            jax.tree.map(lambda part, by=factor / (2 * norm): by * part, gradient)
            for factor, norm, (_, gradient) in zip(factors, norms, terms, strict=True)
        ]
        return loss, jax.tree.map(lambda *parts: sum(parts), *scaled)

    return evaluate


class JaxEvaluator(Evaluator):
    """An evaluator by the fastest of several implementations, for one member or a pack."""

    def __init__(self, case: Case | EquationCase, *, dtype: str) -> None:
        weights = [
            [(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in case.weights(member)]
            for member in range(case.members)
        ]
        self._members: list[tuple[Any, ...]]
        arrays: tuple[Array, ...]
        if isinstance(case, EquationCase):
            self._members = list(zip(weights, jnp.asarray(case.coefficients, dtype), strict=True))
            arrays = (case.points.T,)
            ways = {name: mean_squares(chunk, case.name) for name, chunk in _chunks(len(case.points)).items()}
        else:
            self._members = [(each,) for each in weights]
            arrays = (case.interior.T, case.g, case.elocal, case.lrb.T, case.btb.T)
            weight = float(case.boundary_weight)
            ways = {name: loss_and_gradient(chunk, weight) for name, chunk in _chunks(len(case.interior)).items()}
        self._data = tuple(jnp.asarray(array, dtype) for array in arrays)
        alone = {name: jax.jit(way) for name, way in ways.items()}
        first = self._members[0]

        def timed_call(way: Any) -> Callable[[], object]:
            return lambda: jax.block_until_ready(way(*first, *self._data))

        best = fastest({name: timed_call(way) for name, way in alone.items()})
        self._alone = alone[best]
        self._stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *self._members)
        axes = (0,) * len(first) + (None,) * len(self._data)
        self._together = jax.jit(jax.vmap(ways[best], in_axes=axes))
        order = {"one by one": self._one_by_one, "vmap": self._vmap} if case.members > 1 else {"": self._one_by_one}
        chosen = fastest(order)
        self._run = order[chosen]
        self.note = ", ".join(filter(None, (best, chosen)))
        self._results: list[Any] = []

    def evaluate(self) -> None:
        self._results = self._run()

    def answer(self) -> tuple[Array, Array]:
        gradients = [flatten([(np.asarray(w), np.asarray(b)) for w, b in gradient]) for _, gradient in self._pairs()]
        return np.array([float(loss) for loss, _ in self._pairs()]), np.stack(gradients)

    def _one_by_one(self) -> list[Any]:
        return jax.block_until_ready([self._alone(*member, *self._data) for member in self._members])

    def _vmap(self) -> list[Any]:
        return [jax.block_until_ready(self._together(*self._stacked, *self._data))]

    def _pairs(self) -> list[Any]:
        """Return (loss, gradient) of each member."""
        if len(self._results) == len(self._members):
            return self._results
        losses, gradients = self._results[0]
        return [(losses[i], jax.tree.map(lambda array, i=i: array[i], gradients)) for i in range(len(self._members))]


def _chunks(points: int) -> dict[str, int]:
    """Return chunks by name: all points, and the largest divisor of their number up to each of `CHUNKS`."""
    sizes = [max(size for size in range(1, most + 1) if points % size == 0) for most in CHUNKS if most < points]
    return {WHOLE: points} | {f"chunks of {size}": size for size in sizes if size >= CHUNKS[0] // 2}


class JaxTrainer(Trainer):
    """Adam written by hand, its epochs a loop inside one compiled function of the pack."""

    def __init__(self, case: Case, *, dtype: str, learning_rate: float) -> None:
        weights = [case.weights(member) for member in range(case.members)]
        members = [[(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in each] for each in weights]
        self._start = jax.tree.map(lambda *arrays: jnp.stack(arrays), *members)
        arrays = (case.interior.T, case.g, case.elocal, case.lrb.T, case.btb.T)
        self._data = tuple(jnp.asarray(array, dtype) for array in arrays)
        evaluate = loss_and_gradient(len(case.interior), float(case.boundary_weight))
        self._evaluate = jax.jit(jax.vmap(evaluate, in_axes=(0,) + (None,) * len(self._data)))
        axes = (None, 0) + (None,) * len(self._data)
        self._train = jax.jit(jax.vmap(adam_epochs(evaluate, learning_rate), in_axes=axes))

    def start(self) -> None:
        self._weights = self._start

    def train(self, epochs: int) -> None:
        self._weights = jax.block_until_ready(self._train(epochs, self._weights, *self._data))

    def losses(self) -> list[float]:
        return [float(loss) for loss in self._evaluate(self._weights, *self._data)[0]]


def adam_epochs(evaluate: Any, learning_rate: float) -> Any:
    """Return the function of (epochs, weights, *data) that returns the weights after so many epochs of Adam."""

    def train(epochs: Any, weights: Any, *data: Any) -> Any:
        def epoch(k: Any, state: Any) -> Any:
            weights, m, v = state
            _, gradient = evaluate(weights, *data)
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
            first, second = 1 - 0.9 ** (k + 1), 1 - 0.999 ** (k + 1)
            weights = jax.tree.map(
                lambda w, m, v: w - learning_rate * (m / first) / (jnp.sqrt(v / second) + 1e-8), weights, m, v
            )
            return weights, m, v

        nothing = jax.tree.map(jnp.zeros_like, weights)
        return jax.lax.fori_loop(0, epochs, epoch, (weights, nothing, nothing))[0]

    return train


def build(
    case: Case | EquationCase, *, name: str, dtype: str, threads: int, engine: str, device: str = "cpu"
) -> Evaluator:
    """Build an evaluator with JAX, which takes its threads from the cores of the process."""
    _configure(dtype, device)
    return JaxEvaluator(case, dtype=dtype)


def build_trainer(case: Case, *, name: str, dtype: str, engine: str, device: str, learning_rate: float) -> Trainer:
    """Build the first stage with JAX."""
    _configure(dtype, device)
    return JaxTrainer(case, dtype=dtype, learning_rate=learning_rate)


def _configure(dtype: str, device: str) -> None:
    """Set JAX's global flags. Raises `RuntimeError` where it has no GPU but is to use one."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes most of the GPU's memory
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")  # on a GPU the usual one is TF32
    if device == "cuda" and jax.default_backend() != "gpu":
        raise RuntimeError("this JAX sees no GPU: pip install 'jax[cuda13]'")
