"""Train in JAX, and record a trace: python record_jax.py GAUSS.csv LRB.csv BTB.csv OUT.npz [EPOCHS]."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

LAYERS = [4, 8, 8, 1]
files, out, epochs = sys.argv[1:4], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 20
tables = [np.genfromtxt(file, delimiter=",", names=True) for file in files]
sets = [np.stack([t["xcoord"], t["ycoord"], t["g"], 10 * t["elocal"]], axis=1) for t in tables]
jax.config.update("jax_enable_x64", True)
key = jax.random.key(0)
weights = []
for before, after in zip(LAYERS[:-1], LAYERS[1:]):  # noqa: B905, RUF007
    key, one = jax.random.split(key)
    weights.append((jnp.sqrt(2 / (before + after)) * jax.random.normal(one, (before, after)), jnp.zeros(after)))
plate, lrb, btb = (jnp.asarray(each) for each in sets)


def network(weights, x):
    for w, b in weights[:-1]:
        x = jnp.tanh(x @ w + b)
    return (x @ weights[-1][0] + weights[-1][1])[0]


def derivatives(weights, inputs):
    """Return u, u_x, u_y and the Laplacian at points."""

    def at(x):
        first, second = jax.grad(network, 1)(weights, x), jax.hessian(network, 1)(weights, x)
        return network(weights, x), first[0], first[1], second[0, 0] + second[1, 1]

    return jax.vmap(at)(inputs)


def losses(weights):
    u, u_x, u_y, laplacian = derivatives(weights, plate)
    flux_x, flux_y = derivatives(weights, lrb)[1], derivatives(weights, btb)[2]
    residual = u - plate[:, 2] * laplacian - plate[:, 3]
    terms = jnp.stack([jnp.linalg.norm(r) for r in (residual, flux_x, flux_y)])
    seen = {"u": u, "u_x": u_x, "u_y": u_y, "laplacian": laplacian, "lrb/u_x": flux_x, "btb/u_y": flux_y}
    return terms.sum(), (terms, seen)


# record: each step, before its update by Adam
evaluate = jax.jit(jax.value_and_grad(losses, has_aux=True))
m = v = jax.tree.map(jnp.zeros_like, weights)
arrays = {}
for step in range(epochs):
    (loss, (terms, seen)), gradient = evaluate(weights)
    values = {"loss": loss, "loss_terms": terms, **(seen if step == 0 else {})}
    for level, ((w, b), (gw, gb)) in enumerate(zip(weights, gradient, strict=True), 1):
        values |= {f"W{level}": w, f"b{level}": b, f"grad_W{level}": gw, f"grad_b{level}": gb}
    arrays |= {f"step{step}/{name}": np.asarray(value) for name, value in values.items()}
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
    one, two = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
    update = jax.tree.map(lambda m, v, one=one, two=two: 1e-3 * (m / one) / (jnp.sqrt(v / two) + 1e-8), m, v)
    weights = jax.tree.map(jnp.subtract, weights, update)

# record: the points, and what the program was told
for term, table in zip(("residual", "lrb", "btb"), tables, strict=True):
    for symbol, name in (("x", "xcoord"), ("y", "ycoord"), ("g", "g"), ("elocal", "elocal")):
        arrays[f"points/{term}/{symbol}"] = table[name]
manifest = {
    "format": "pinnsweep trace 1",
    "framework": "jax",
    "version": jax.__version__,
    "dtype": "float64",
    "layers": LAYERS,
    "settings": {"adam_lr": 1e-3},
    "problem": {
        "name": "nonlocal_strain",
        "inputs": ["x", "y", "g", "elocal"],
        "scale_scope": "all",
        "strain_multiplier": 10.0,
    },
}
np.savez(out, manifest=json.dumps(manifest), **arrays)
