"""Train in TensorFlow 1 (graph mode), and record a trace.

python record_tensorflow1.py GAUSS.csv LRB.csv BTB.csv OUT.npz [EPOCHS]
"""

import json
import sys

import numpy as np
import tensorflow as tensorflow_any
import tensorflow.compat.v1 as tf

LAYERS = [4, 8, 8, 1]
files, out, epochs = sys.argv[1:4], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 20
tables = [np.genfromtxt(file, delimiter=",", names=True) for file in files]
sets = [np.stack([t["xcoord"], t["ycoord"], t["g"], 10 * t["elocal"]], axis=1) for t in tables]
tf.disable_v2_behavior()
tf.set_random_seed(0)
weights = []
for before, after in zip(LAYERS[:-1], LAYERS[1:]):  # noqa: B905, RUF007
    deviation = np.sqrt(2 / (before + after))
    weights.append(tf.Variable(tf.truncated_normal([before, after], stddev=deviation, dtype=tf.float64)))
    weights.append(tf.Variable(tf.zeros([1, after], dtype=tf.float64)))


def network(columns):
    a = tf.concat(columns, axis=1)
    for level in range(0, len(weights), 2):
        a = tf.matmul(a, weights[level]) + weights[level + 1]
        a = tf.tanh(a) if level < len(weights) - 2 else a
    return a


def slope(values, inputs):
    return tf.gradients(values, inputs)[0]


plate, lrb, btb = ([tf.constant(each[:, k : k + 1]) for k in range(4)] for each in sets)
u = network(plate)
u_x, u_y = slope(u, plate[0]), slope(u, plate[1])
laplacian = slope(u_x, plate[0]) + slope(u_y, plate[1])
flux_x, flux_y = slope(network(lrb), lrb[0]), slope(network(btb), btb[1])
terms = tf.stack([tf.norm(r) for r in (u - plate[2] * laplacian - plate[3], flux_x, flux_y)])
loss = tf.reduce_sum(terms)
gradients = tf.gradients(loss, weights)
train = tf.train.AdamOptimizer(1e-3).minimize(loss, var_list=weights)
seen = {"u": u, "u_x": u_x, "u_y": u_y, "laplacian": laplacian, "lrb/u_x": flux_x, "btb/u_y": flux_y}

# record: each step, before its update
arrays = {}
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for step in range(epochs):
        values = session.run({"loss": loss, "loss_terms": terms, **(seen if step == 0 else {})})
        arrays |= {f"step{step}/{name}": value for name, value in values.items()}
        for number, (w, g) in enumerate(zip(*session.run([weights, gradients]), strict=True)):
            name = f"{'Wb'[number % 2]}{number // 2 + 1}"
            arrays |= {f"step{step}/{name}": w, f"step{step}/grad_{name}": g}
        session.run(train)

# record: the points, and what the program was told
for term, table in zip(("residual", "lrb", "btb"), tables, strict=True):
    for symbol, name in (("x", "xcoord"), ("y", "ycoord"), ("g", "g"), ("elocal", "elocal")):
        arrays[f"points/{term}/{symbol}"] = table[name]
manifest = {
    "format": "pinnsweep trace 1",
    "framework": "tensorflow",
    "version": tensorflow_any.__version__,
    "dtype": "float64",
    "layers": LAYERS,
    "settings": {"adam_lr": 1e-3, "adam_convention": "tf1"},
    "problem": {
        "name": "nonlocal_strain",
        "inputs": ["x", "y", "g", "elocal"],
        "scale_scope": "all",
        "strain_multiplier": 10.0,
    },
}
np.savez(out, manifest=json.dumps(manifest), **arrays)
