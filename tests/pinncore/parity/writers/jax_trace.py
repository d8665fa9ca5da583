"""A training in JAX: derivatives by nested jvp, Adam written out, compiled by XLA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import plates

jax.config.update("jax_enable_x64", True)
FAULTS = ("elocal_x10", "laplacian_zero", "weights_of_terms", "epsilon_inside", "no_bias_correction", "loss_sum")


def write(
    file: Path,
    *,
    layers: tuple[int, ...],
    seed: int,
    dtype: str,
    faults: Sequence[str] = (),
    steps: Sequence[int] = plates.RECORDED,
    loss: str = "norm",
) -> None:
    """Train and record."""
    assert set(faults) <= set(FAULTS)
    points, is_raw = plates.plate(seed), layers[0] == 4
    reference = float(np.sqrt(np.mean(points["residual"]["elocal"] ** 2)))
    sets = []
    for columns in points.values():
        used = dict(columns, elocal=columns["elocal"] * (10 if "elocal_x10" in faults else 1))
        e = 10 * used["elocal"] if is_raw else used["elocal"] / reference
        g = used["g"] if is_raw else used["g"] / 50**2
        sets.append([jnp.asarray(a, dtype) for a in (plates.scaled(used, is_raw, reference, 1.0), g, e)])
    weights = [(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in plates.start(layers, seed)]

    def network(weights: Any, x: Any) -> Any:
        for w, b in weights[:-1]:
            x = jnp.tanh(x @ w + b)
        return (x @ weights[-1][0] + weights[-1][1])[0]

    def seen(weights: Any, inputs: Any) -> Any:
        slope = jax.grad(network, argnums=1)

        def second(x: Any, axis: int) -> Any:
            direction = jnp.zeros_like(x).at[axis].set(1)
            return jax.jvp(lambda y: slope(weights, y)[axis], (x,), (direction,))[1]

        def at(x: Any) -> Any:
            first = slope(weights, x)
            return network(weights, x), first[0], first[1], second(x, 0) + second(x, 1)

        return jax.vmap(at)(inputs)

    def parts(weights: Any) -> Any:
        found = []
        for number, (inputs, g, e) in enumerate(sets):
            u, ux, uy, lap = seen(weights, inputs)
            r = (u - (0 if "laplacian_zero" in faults else 1) * g * lap - e, ux, uy)[number]
            square = jnp.sum(r**2)
            form = "sum" if "loss_sum" in faults else loss
            found.append({"norm": jnp.sqrt(square), "mean_square": square / len(r), "sum": square}[form])
        return jnp.stack(found)

    share = jnp.asarray([1, 10, 10] if "weights_of_terms" in faults else [1, 1, 1], dtype)
    gradient_of = jax.jit(jax.value_and_grad(lambda weights: jnp.sum(share * parts(weights))))
    terms_of = jax.jit(parts)
    m = jax.tree.map(jnp.zeros_like, weights)
    v = jax.tree.map(jnp.zeros_like, weights)
    arrays: dict[str, Any] = {f"points/{t}/{n}": a for t, columns in points.items() for n, a in columns.items()}
    series = []
    for step in range(max(steps) + 1):
        value, gradient = gradient_of(weights)
        series.append(np.asarray(terms_of(weights)))
        if step in steps:
            for level, ((w, b), (gw, gb)) in enumerate(zip(weights, gradient, strict=True), 1):
                arrays |= {f"step{step}/W{level}": w, f"step{step}/b{level}": b}
                arrays |= {f"step{step}/grad_W{level}": gw, f"step{step}/grad_b{level}": gb}
            arrays |= {f"step{step}/loss": value, f"step{step}/loss_terms": series[-1]}
            if step == 0:
                names = ("u", "u_x", "u_y", "laplacian")
                arrays |= {f"step0/{n}": a for n, a in zip(names, seen(weights, sets[0][0]), strict=True)}
                if "laplacian_zero" in faults:
                    arrays["step0/laplacian"] = jnp.zeros_like(arrays["step0/laplacian"])
        count = step + 1
        corrects = "no_bias_correction" not in faults
        bias1, bias2 = (1 - 0.9**count, 1 - 0.999**count) if corrects else (1.0, 1.0)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)

        def moved(p: Any, m: Any, v: Any, bias1: float = bias1, bias2: float = bias2) -> Any:
            inside = jnp.sqrt(v / bias2 + 1e-8) if "epsilon_inside" in faults else jnp.sqrt(v / bias2) + 1e-8
            return p - 1e-3 * (m / bias1) / inside

        weights = jax.tree.map(moved, weights, m, v)
    arrays["loss_terms_by_step"] = np.array(series)
    stated = {"loss": loss}
    found = {name: np.asarray(array) for name, array in arrays.items()}
    plates.save(file, plates.manifest("jax", jax.__version__, layers=layers, dtype=dtype, **stated), found)
