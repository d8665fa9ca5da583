"""Train in plain NumPy, and record a trace: python record_numpy.py GAUSS.csv LRB.csv BTB.csv OUT.npz [EPOCHS]."""

import json
import sys

import numpy as np

LAYERS = [4, 8, 8, 1]
files, out, epochs = sys.argv[1:4], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 20
tables = [np.genfromtxt(file, delimiter=",", names=True) for file in files]
sets = [np.stack([t["xcoord"], t["ycoord"], t["g"], 10 * t["elocal"]], axis=1) for t in tables]
generator = np.random.default_rng(0)
weights = [  # W1, b1, W2, ...
    part
    for before, after in zip(LAYERS[:-1], LAYERS[1:])  # noqa: B905, RUF007
    for part in (np.sqrt(2 / (before + after)) * generator.standard_normal((before, after)), np.zeros(after))
]


def evaluate():
    """Return the loss terms, the gradient, and the prediction with its derivatives."""
    terms, gradient, seen = [], [np.zeros_like(w) for w in weights], {}
    for number, inputs in enumerate(sets):
        ones = np.ones((len(inputs), 1))
        # z, z_x, z_y and the Laplacian of z
        z = [inputs @ weights[0] + weights[1], ones * weights[0][0], ones * weights[0][1], 0 * ones * weights[1]]
        tape = []
        for w, b in zip(weights[2::2], weights[3::2], strict=True):
            a = np.tanh(z[0])
            s, square = 1 - a * a, z[1] ** 2 + z[2] ** 2
            out = [a, s * z[1], s * z[2], s * z[3] - 2 * a * s * square]
            tape.append((z, out, a, s, square, w))
            z = [out[0] @ w + b, out[1] @ w, out[2] @ w, out[3] @ w]
        u, u_x, u_y, laplacian = (part[:, 0] for part in z)
        r = (u - inputs[:, 2] * laplacian - inputs[:, 3], u_x, u_y)[number]
        if number == 0:
            seen |= {"u": u, "u_x": u_x, "u_y": u_y, "laplacian": laplacian}
        terms.append(np.linalg.norm(r))
        bars = [np.zeros_like(part) for part in z]
        bars[number][:, 0] = r / terms[-1]
        if number == 0:
            bars[3][:, 0] = -inputs[:, 2] * r / terms[-1]
        for level, (z, out, a, s, square, w) in reversed(list(enumerate(tape, 1))):
            gradient[2 * level] += sum(part.T @ bar for part, bar in zip(out, bars, strict=True))
            gradient[2 * level + 1] += bars[0].sum(axis=0)
            b0, b1, b2, b3 = (bar @ w.T for bar in bars)
            second, third = -2 * a * s, -2 * s * (s - 2 * a * a)
            bars = [
                s * b0 + second * (b1 * z[1] + b2 * z[2] + b3 * z[3]) + third * square * b3,
                s * b1 + 2 * second * z[1] * b3,
                s * b2 + 2 * second * z[2] * b3,
                s * b3,
            ]
        gradient[0] += inputs.T @ bars[0]
        gradient[0][0] += bars[1].sum(axis=0)
        gradient[0][1] += bars[2].sum(axis=0)
        gradient[1] += bars[0].sum(axis=0)
    return np.array(terms), gradient, seen


# record: each step, before its update by Adam
m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
arrays = {}
for step in range(epochs):
    terms, gradient, seen = evaluate()
    arrays |= {f"step{step}/loss": terms.sum(), f"step{step}/loss_terms": terms}
    if step == 0:
        arrays |= {f"step0/{name}": value for name, value in seen.items()}
    for number, (w, g) in enumerate(zip(weights, gradient, strict=True)):
        name = f"{'Wb'[number % 2]}{number // 2 + 1}"
        arrays |= {f"step{step}/{name}": w.copy(), f"step{step}/grad_{name}": g}
        m[number] = 0.9 * m[number] + 0.1 * g
        v[number] = 0.999 * v[number] + 0.001 * g * g
        root = np.sqrt(v[number] / (1 - 0.999 ** (step + 1)))
        w -= 1e-3 * (m[number] / (1 - 0.9 ** (step + 1))) / (root + 1e-8)

# record: the points, and what the program was told
for term, table in zip(("residual", "lrb", "btb"), tables, strict=True):
    for symbol, name in (("x", "xcoord"), ("y", "ycoord"), ("g", "g"), ("elocal", "elocal")):
        arrays[f"points/{term}/{symbol}"] = table[name]
manifest = {
    "format": "pinnsweep trace 1",
    "framework": "numpy",
    "version": np.__version__,
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
