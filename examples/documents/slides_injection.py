"""The slides' second study: TensorFlow's gradients put into PyTorch's Adam, 4-4-1, 50 epochs. Then its derivatives.

    python examples/documents/slides_injection.py

The trace of real TensorFlow beside the recorders has the start and some of the epochs. Our training with its convention
repeats them, and so has TensorFlow's gradients of every epoch. They go into torch.optim.Adam as it is, and with
TensorFlow's epsilon; a port without derivatives uses its own.
"""

from pathlib import Path

import numpy as np
import torch

from pinncore.networks import unflatten
from pinncore.optim import FirstOrderSettings, PackedFirstOrder
from pinncore.parity import Trace, read_trace
from pinncore.parity.evaluation import Changes, Evaluator
from pinncore.parity.inject import inject
from pinncore.parity.reading import training_of
from table import Row, show

TRACE = Path(__file__).parents[1] / "traces" / "tensorflow1_4-4-1.npz"
EPOCHS = 50
PARTS = ("rows 1 to 3", "row 4 (elocal)", "biases", "the saturated unit")
TRAININGS = {  # of each part what is printed, between what the difference is to lie, and why
    "PyTorch": (
        ("same", "fifth digit", "same", ""),
        ((0, 1e-6), (1e-6, 1e-2), (0, 1e-6), (1e-3, 1)),
        "epsilon, where gradients are tiny",
    ),
    "PyTorch with TensorFlow's epsilon": (("",) * 4, ((0, 1e-7),) * 4, ""),
    "the port": (("differ", "differ", "differ", ""), ((1e-3, 1),) * 4, "its own gradients"),
}
PORT = Changes(zeroed=("residual/laplacian", "lrb/u_x", "btb/u_y"))


def train(trace: Trace) -> tuple[list[torch.Tensor], float]:
    """Return weights [parameters] after 50 epochs of each training, and the error of the gradients repeated."""
    settings, problem = training_of(trace)
    theirs, port = (
        Evaluator(problem, trace.layers, settings.dtype, settings.activation, changes) for changes in (Changes(), PORT)
    )
    start = torch.as_tensor(trace.vector(0))
    tensorflow = PackedFirstOrder([FirstOrderSettings(1e-3, convention="tf1")], start[None])
    weights, x, apart = start, [start.clone() for _ in TRAININGS], 0.0
    adams = [torch.optim.Adam([each], lr=1e-3) for each in x]
    for epoch in range(EPOCHS):
        gradient = theirs.evaluate(weights.numpy())[2]
        if epoch in trace.steps:
            recorded = trace.vector(epoch, "grad_")
            apart = max(apart, float(np.abs(gradient - recorded).max() / np.abs(recorded).max()))
        x[0].grad = x[1].grad = torch.as_tensor(gradient)
        x[2].grad = torch.as_tensor(port.evaluate(x[2].numpy())[2])
        adams[1].param_groups[0]["eps"] = 1e-8 / (1 - 0.999 ** (epoch + 1)) ** 0.5  # epsilon hat
        for adam in adams:
            adam.step()
        weights = tensorflow.step(weights[None], x[0].grad[None], [0])[0]
    return x, apart


def rows() -> list[Row]:
    """Return how far each row of W1, and the biases, are from TensorFlow's after 50 epochs."""
    trace = read_trace(TRACE)
    trainings, apart = train(trace)
    found = [
        Row("gradients of TensorFlow, repeated", "", f"{apart:.0e}", apart < 1e-10, "relative, at the recorded epochs")
    ]
    w1, b1 = trace.steps[EPOCHS]["W1"], trace.steps[EPOCHS]["b1"]
    live = np.abs(trace.steps[0]["grad_W1"]).max(axis=0) > 1e-3  # a saturated unit has tiny gradients in all rows
    for (name, (printed, limits, note)), weights in zip(TRAININGS.items(), trainings, strict=True):
        ours, bias = unflatten(weights.numpy(), trace.layers)[0]
        off = np.abs(ours - w1)
        sizes = [each.max() for each in (off[:3, live], off[3, live], np.abs(bias - b1)[live], off[:, ~live])]
        found += [
            Row(f"{part} off, {name}", text, f"{size:.0e}", low <= size < high, note if high > 1e-6 else "")
            for part, text, size, (low, high) in zip(PARTS, printed, sizes, limits, strict=True)
        ]
    terms = [each for each in inject(trace, "derivatives").arrays if each.name in ("residual", "lrb", "btb")]
    left = max(each.with_it for each in terms)
    return [*found, Row("loss terms off, its derivatives injected", "", f"{left:.0e}", left < 1e-12, "at epoch 0")]


if __name__ == "__main__":
    show(rows())
