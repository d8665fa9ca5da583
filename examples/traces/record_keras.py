"""Train in TensorFlow 2 with Keras 3, and record a trace.

python record_keras.py GAUSS.csv LRB.csv BTB.csv OUT.npz [EPOCHS]
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

LAYERS = [4, 8, 8, 1]
files, out, epochs = sys.argv[1:4], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 20
tables = [np.genfromtxt(file, delimiter=",", names=True) for file in files]
sets = [np.stack([t["xcoord"], t["ycoord"], t["g"], 10 * t["elocal"]], axis=1) for t in tables]
keras.backend.set_floatx("float64")
keras.utils.set_random_seed(0)
hidden = [keras.layers.Dense(units, activation="tanh") for units in LAYERS[1:-1]]
net = keras.Sequential([keras.Input((LAYERS[0],)), *hidden, keras.layers.Dense(LAYERS[-1])])
plate, lrb, btb = (tf.constant(each) for each in sets)


def slope(inputs):
    """Return the output and its derivatives to the inputs."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        u = net(inputs)
    return u, tape.gradient(u, inputs)


@tf.function
def evaluate():
    """Return the loss, its terms, the gradient, and the prediction with its derivatives."""
    with tf.GradientTape() as outer:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(plate)
            u, first = slope(plate)
            u_x, u_y = first[:, 0], first[:, 1]
        laplacian = tape.gradient(u_x, plate)[:, 0] + tape.gradient(u_y, plate)[:, 1]
        flux_x, flux_y = slope(lrb)[1][:, 0], slope(btb)[1][:, 1]
        terms = tf.stack([tf.norm(r) for r in (u[:, 0] - plate[:, 2] * laplacian - plate[:, 3], flux_x, flux_y)])
        loss = tf.reduce_sum(terms)
    seen = {"u": u, "u_x": u_x, "u_y": u_y, "laplacian": laplacian, "lrb/u_x": flux_x, "btb/u_y": flux_y}
    return loss, terms, outer.gradient(loss, net.trainable_variables), seen


# record: each step, before its update
adam = keras.optimizers.Adam(1e-3)
arrays = {}
for step in range(epochs):
    loss, terms, gradients, seen = evaluate()
    values = {"loss": loss, "loss_terms": terms, **(seen if step == 0 else {})}
    arrays |= {f"step{step}/{name}": np.array(value) for name, value in values.items()}
    for number, (w, g) in enumerate(zip(net.trainable_variables, gradients, strict=True)):
        name = f"{'Wb'[number % 2]}{number // 2 + 1}"
        arrays |= {f"step{step}/{name}": np.array(w), f"step{step}/grad_{name}": np.array(g)}
    adam.apply_gradients(zip(gradients, net.trainable_variables, strict=True))

# record: the points, and what the program was told
for term, table in zip(("residual", "lrb", "btb"), tables, strict=True):
    for symbol, name in (("x", "xcoord"), ("y", "ycoord"), ("g", "g"), ("elocal", "elocal")):
        arrays[f"points/{term}/{symbol}"] = table[name]
manifest = {
    "format": "pinnsweep trace 1",
    "framework": "keras",
    "version": keras.__version__,
    "dtype": "float64",
    "layers": LAYERS,
    "settings": {"adam_lr": 1e-3, "adam_convention": "keras", "adam_eps": 1e-7},
    "problem": {
        "name": "nonlocal_strain",
        "inputs": ["x", "y", "g", "elocal"],
        "scale_scope": "all",
        "strain_multiplier": 10.0,
    },
}
np.savez(out, manifest=json.dumps(manifest), **arrays)
