"""State once what the overview's examples start from, what the document prints, and how a framework's answer is shown.

`overview_torch.py`, `overview_jax.py` and `overview_tensorflow.py` run these examples, in functions of the same names.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from table import Row

PAIR = [1.0, 3.0]  # where x**2 and x**4 are differentiated
LINE = np.linspace(-10, 10, 201, dtype=np.float32)
BATCH, KERNEL = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((7, 5), (5, 10)))
EYE = np.eye(5, dtype=np.float32)

PRINTED = {
    "gradient: variable": "6.0",
    "gradient: not trainable": "None",
    "gradient: variable plus one": "None",
    "gradient: constant": "None",
    "gradient: constant, watched": "6.0",
    "gradient: sine, not watched": "None",
    "gradient: softplus, watched": "0.9999546",
    "one recording: first gradient": "[4.0, 108.0]",
    "one recording: second gradient": "[2.0, 6.0]",
    "weights: gradient reaches them": "True",
    "weights: gradient reaches them, frozen": "False",
    "Jacobian: shape of the target": "[7, 10]",
    "Jacobian: shape of the source": "[5, 10]",
    "Jacobian: shape": "[7, 10, 5, 10]",
}


def text(value: Any) -> str:
    """Return a framework's answer as it stands in the table: numbers to seven decimals, arrays as lists."""
    if value is None or isinstance(value, (bool, str)):
        return str(value)
    array = np.asarray(value)
    return str(array.tolist() if array.dtype.kind == "i" else np.round(array.astype(float), 7).tolist())


def line(what: str, answer: Any, expected: Any = ..., note: str = "") -> Row:
    """Return the row of an answer: as the document prints it unless said what this framework is to answer."""
    printed = PRINTED.get(what, "")
    return Row(what, printed, text(answer), text(answer) == (printed if expected is ... else text(expected)), note)


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the name of the error that it raises."""
    try:
        return call()
    except (RuntimeError, TypeError, ValueError) as error:
        return type(error).__name__


def jacobian_rows(scalar: Any, target: Any, jacobian: Any, gradient: Any) -> list[Row]:
    """Return the rows of a Jacobian by a scalar, and of one by a kernel beside the gradient of the summed target."""
    apart = np.abs(np.asarray(jacobian).sum((0, 1)) - np.asarray(gradient)).max()
    return [
        line("Jacobian: shape, scalar source", list(scalar.shape), list(LINE.shape), "the target's shape"),
        line("Jacobian: middle, scalar source", np.asarray(scalar)[100], 0.25, "a sigmoid's slope at 0"),
        line("Jacobian: shape of the target", list(target.shape)),
        line("Jacobian: shape of the source", list(KERNEL.shape)),
        line("Jacobian: shape", list(jacobian.shape), note="the two put together"),
        line("Jacobian: its sum is the gradient", bool(apart < 1e-5), True),
    ]


def trace_rows(
    array: Callable[[Any], Any], compiled: Callable[[Callable], Callable], again: int, note: str
) -> list[Row]:
    """Return how often Python runs a function, eager and compiled; a second shape is to need `again` traces."""
    runs = 0

    def square(x: Any) -> Any:
        nonlocal runs
        runs += 1  # a side effect: only a run of Python has it
        return x * x

    for _ in range(3):
        square(array(PAIR))
    eager, runs = runs, 0
    fast = compiled(square)
    values = [fast(array(PAIR)) for _ in range(3)]
    once, runs = runs, 0
    for _ in range(3):
        fast(array([2.0]))
    return [
        line("Python runs: eager, 3 calls", eager, 3),
        line("Python runs: compiled, 3 calls", once, 1, note),
        line("Python runs: then 3 calls of another shape", runs, again),
        line("compiled function at 1 and 3", values[-1], [1.0, 9.0]),
    ]
