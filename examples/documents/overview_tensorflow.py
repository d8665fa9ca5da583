"""Run the overview's examples in TensorFlow: missing gradients, Jacobians, eager and compiled functions, devices.

Compare with `overview_torch.py` and `overview_jax.py`. Run it with `python overview_tensorflow.py`.
"""

import tensorflow as tf

from overview import BATCH, EYE, KERNEL, LINE, PAIR, jacobian_rows, line, outcome, trace_rows
from table import Row, show


def missing_gradients() -> list[Row]:
    """Return which tensors silently get no gradient."""
    x0, x1, x3 = tf.Variable(3.0), tf.Variable(3.0, trainable=False), tf.constant(3.0)
    before, whole = tf.Variable(2.0), tf.constant(3)
    x2 = before + 1
    with tf.GradientTape(persistent=True) as tape:
        y = x0**2 + x1**2 + x2**2
        inside = before + 1  # recorded, and so to be asked for
        z = inside**2
    with tf.GradientTape() as constant:
        constant.watch(x3)
        square = x3**2
    zero, ten = tf.Variable(0.0), tf.Variable(10.0)
    with tf.GradientTape(watch_accessed_variables=False) as chosen:
        chosen.watch(ten)
        total = tf.math.sin(zero) + tf.nn.softplus(ten)
    by_zero, by_ten = chosen.gradient(total, [zero, ten])
    with tf.GradientTape() as integer:
        integer.watch(whole)
        power = whole * whole
    names = "variable", "not trainable", "variable plus one", "constant"
    return [
        *(line(f"gradient: {name}", g) for name, g in zip(names, tape.gradient(y, [x0, x1, x2, x3]), strict=True)),
        line("gradient: variable plus one, asked for", tape.gradient(z, inside), 6.0, "made under the tape"),
        line("gradient: constant, watched", constant.gradient(square, x3), note="watch()"),
        line("gradient: sine, not watched", by_zero),
        line("gradient: softplus, watched", by_ten),
        line("gradient: an integer", integer.gradient(power, whole), None, "a warning in the log, no error"),
    ]


def recordings() -> list[Row]:
    """Return what a tape gives that is used twice."""

    def gradients(persistent: bool) -> list[tf.Tensor]:
        x = tf.constant(PAIR)
        with tf.GradientTape(persistent=persistent) as tape:
            tape.watch(x)
            y = x * x
            z = y * y
        return [tape.gradient(target, x) for target in (z, y)]

    first, second = gradients(persistent=True)
    return [
        line("one recording: first gradient", first, note="persistent=True"),
        line("one recording: second gradient", second),
        line("one recording: used twice, not kept", outcome(lambda: gradients(persistent=False)), "RuntimeError"),
    ]


def frozen() -> list[Row]:
    """Return whether a gradient reaches weights, and whether it does where nothing is recorded."""
    kernel = tf.Variable(KERNEL)
    with tf.GradientTape(persistent=True) as tape:
        recorded = BATCH @ kernel
        with tape.stop_recording():
            unrecorded = BATCH @ kernel
    reached, stopped = (tape.gradient(target, kernel) for target in (recorded, unrecorded))
    return [
        line("weights: gradient reaches them", reached is not None),
        line("weights: gradient reaches them, frozen", stopped is not None, note="stop_recording()"),
        line("weights: gradient, frozen", stopped, None, "silent"),
    ]


def jacobians() -> list[Row]:
    """Return the shapes of Jacobians by a scalar and by a kernel."""
    delta, kernel = tf.Variable(0.0), tf.Variable(KERNEL)
    with tf.GradientTape(persistent=True) as tape:
        curve = tf.nn.sigmoid(LINE + delta)
        target = tf.nn.relu(BATCH @ kernel)
    scalar, jacobian = tape.jacobian(curve, delta), tape.jacobian(target, kernel)
    return jacobian_rows(scalar, target, jacobian, tape.gradient(target, kernel))


def products() -> list[Row]:
    """Return the corner of a vector-Jacobian product with ones, call after call."""
    eye = tf.Variable(EYE)
    with tf.GradientTape(persistent=True) as tape:
        out = (eye + 1) ** 2
    first, second = (tape.gradient(out, eye, output_gradients=tf.ones_like(EYE))[0, :2] for _ in range(2))
    return [
        line("vector-Jacobian product: first call", first, [4.0, 2.0]),
        line("vector-Jacobian product: second call", second, [4.0, 2.0], "nothing accumulates, nothing to zero"),
    ]


def traces() -> list[Row]:
    """Return how often Python runs a function."""
    return trace_rows(tf.constant, tf.function, 1, "tf.function; a print in it prints once")


def devices() -> list[Row]:
    """Return where arrays are."""
    best = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"

    def kind(array: tf.Tensor) -> str:
        return array.device.split(":")[-2].lower()

    new = tf.constant(PAIR) * 1
    with tf.device("CPU"):
        cpu = tf.identity(new)
        double = cpu * 2
    return [
        line("device: new array", kind(new), best, "the best there is"),
        line("device: moved to the CPU", kind(cpu), "cpu", "tf.device"),
        line("device: result of moved ones", kind(double), "cpu", "only under tf.device"),
    ]


def rows() -> list[Row]:
    """Return all examples' rows."""
    return [*missing_gradients(), *recordings(), *frozen(), *jacobians(), *products(), *traces(), *devices()]


if __name__ == "__main__":
    show(rows())
