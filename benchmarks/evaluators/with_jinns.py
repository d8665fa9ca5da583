"""jinns: its PINN, its dynamic loss and its parameters with data, compiled.

jinns' losses are mean squares; here its dynamic loss gives the residuals, and their norms are the loss. There are two
second derivatives: `jinns` uses jinns' own Laplacian, by the faster of its two methods; `jinns_jvp` writes the equation
with two nested forward derivatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import jinns
import numpy as np
from jinns.loss import PDEStatio, laplacian_rev
from jinns.parameters import Params

from ..case import Array, Case, flatten
from .base import Evaluator, fastest

BUILT_IN = ("trace_hessian_x", "loop")
JVP = "jvp"


class _Strain(PDEStatio):  # type: ignore[misc]
    """u - g (u_xx + u_yy) - e at one point."""

    method: str = equinox.field(static=True, kw_only=True)

    def equation(self, x: Any, u: Any, params: Any) -> Any:
        laplacian = _jvp_laplacian(x, u, params) if self.method == JVP else laplacian_rev(x, u, params, self.method)
        return u(x, params) - params.eq_params.g * laplacian - params.eq_params.e


def _jvp_laplacian(x: Any, u: Any, params: Any) -> Any:
    def second(direction: Any) -> Any:
        def first(x: Any) -> Any:
            return jax.jvp(lambda x: u(x, params), (x,), (direction,))[1]

        return jax.jvp(first, (x,), (direction,))[1]

    return sum(second(direction) for direction in jnp.eye(2, dtype=x.dtype))


class JinnsEvaluator(Evaluator):
    """An evaluator by one compiled function, called for one member after the other."""

    def __init__(self, case: Case, *, dtype: str, methods: tuple[str, ...]) -> None:
        u, start = _network(case)
        self._members = [_with_weights(start, case.weights(member), dtype) for member in range(case.members)]
        self._data = tuple(
            jnp.asarray(array, dtype)
            for array in (case.interior, case.g[:, None], case.elocal[:, None], case.lrb, case.btb)
        )
        ways = {method: _loss_and_gradient(u, method, float(case.boundary_weight)) for method in methods}
        first = self._members[0]

        def timed_call(way: Any) -> Callable[[], object]:
            return lambda: jax.block_until_ready(way(first, *self._data))

        chosen = fastest({name: timed_call(way) for name, way in ways.items()})
        self._way = ways[chosen]
        self.note = "" if len(ways) == 1 else f"method {chosen}"
        self._results: list[Any] = []

    def evaluate(self) -> None:
        self._results = [jax.block_until_ready(self._way(member, *self._data)) for member in self._members]

    def answer(self) -> tuple[Array, Array]:
        gradients = [
            flatten([(np.asarray(layer.weight).T, np.asarray(layer.bias)) for layer in _linears(gradient)])
            for _, gradient in self._results
        ]
        return np.array([float(loss) for loss, _ in self._results]), np.stack(gradients)


def _network(case: Case) -> tuple[Any, Any]:
    sizes = list(map(int, case.layers))
    layers: list[tuple[Any, ...]] = []
    for before, after in itertools.pairwise(sizes):
        layers += [(equinox.nn.Linear, before, after), (jnp.tanh,)]
    create = jinns.nn.PINN_MLP.create
    u, start = create(key=jax.random.PRNGKey(0), eqx_list=tuple(layers[:-1]), eq_type="PDEStatio")
    return u, start


def _linears(network: Any) -> list[Any]:
    return [layer for layer in network.layers if isinstance(layer, equinox.nn.Linear)]


def _with_weights(start: Any, weights: list[tuple[Array, Array]], dtype: str) -> Any:
    """Return jinns' parameters with these weights."""
    arrays = [jnp.asarray(array, dtype) for w, b in weights for array in (w.T, b)]

    def places(network: Any) -> list[Any]:
        return [array for layer in _linears(network) for array in (layer.weight, layer.bias)]

    return equinox.tree_at(places, start, arrays)


def _loss_and_gradient(u: Any, method: str, weight: float) -> Any:
    strain = _Strain(method=method)

    def loss(network: Any, interior: Any, g: Any, e: Any, lrb: Any, btb: Any) -> Any:
        data = Params(nn_params=network, eq_params={"g": g, "e": e})
        axes = Params(nn_params=None, eq_params={"g": 0, "e": 0})
        residual = jax.vmap(lambda x, params: strain.evaluate(x, u, params), in_axes=(0, axes))(interior, data)

        def slope(points: Any, axis: int) -> Any:
            return jax.vmap(lambda x: jax.grad(lambda x: u(x, data)[0])(x)[axis])(points)

        return jnp.linalg.norm(residual) + weight * (jnp.linalg.norm(slope(lrb, 0)) + jnp.linalg.norm(slope(btb, 1)))

    return jax.jit(jax.value_and_grad(loss))


def build(case: Case, *, name: str, dtype: str, threads: int, engine: str) -> Evaluator:
    """Build an evaluator with jinns' own Laplacian or one by jvp; JAX takes its threads from the process's cores."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    return JinnsEvaluator(case, dtype=dtype, methods=(JVP,) if name == "jinns_jvp" else BUILT_IN)
