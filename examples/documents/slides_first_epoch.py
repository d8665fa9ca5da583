"""The slides' first study: gradients of 4-1-1 after one epoch, and why those of PyTorch differed.

    python examples/documents/slides_first_epoch.py

The slides print the four weights of the first layer and seven gradients, but not the weight of the second layer. One
of the gradients determines it. The other six then tell which training each framework did: TensorFlow the slides' loss
on StrB100 with the local strain times ten, PyTorch the same with all derivatives zero, two weeks before that was found.
"""

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

import neuron
from pinncore import load_data
from slides_adam import GRADIENTS, WEIGHTS
from table import Row, equal, show


def points(multiplier: float) -> list[Tensor]:
    """Return the raw inputs of StrB100, its local strain times the multiplier."""
    data = load_data("strb100")
    tables = (data.gauss, data.lrb, data.btb)
    return [torch.tensor(np.stack([t.x_mm, t.y_mm, t.g_mm2, multiplier * t.elocal], axis=1)) for t in tables]


def gradient(w2: float, sets: list[Tensor], own: float = 1.0) -> Tensor:
    """Return the gradient of the loss to W1 [4], biases zero."""
    network = torch.tensor([[*WEIGHTS, 0.0, w2, 0.0]], dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(neuron.loss(network, sets, own).sum(), network)[0][0, :4]


def rows() -> list[Row]:
    """Return the printed gradients beside ours, all from one weight that one of them determines."""
    tensorflow, pytorch = GRADIENTS["TensorFlow"], GRADIENTS["PyTorch"]
    sets = points(10.0)
    w2 = brentq(lambda value: float(gradient(value, sets)[1]) - tensorflow[1], 0.01, 0.04, xtol=1e-15)
    theirs, port = gradient(w2, sets), gradient(w2, sets, own=0.0)
    names = ("x", "y", "g", "elocal")
    found = [Row("W2 at the start, from the second gradient", "", f"{w2:.7f}", 0.024 < w2 < 0.025, "biases are zero")]
    for column, printed, ours in (("TensorFlow", tensorflow, theirs), ("PyTorch", pytorch, port)):
        found += [
            equal(f"gradient to the weight of {name}, {column}", f"{value:.7e}", g, 1e-6 * abs(value))
            for name, value, g in zip(names, printed, ours.tolist(), strict=False)
        ]
    physical = points(1.0)
    w2 = brentq(lambda value: float(gradient(value, physical)[1]) - tensorflow[1], 0.01, 0.04)
    plain = float(gradient(w2, physical)[3])
    return [
        *found,
        Row(
            "gradient to the weight of elocal, PyTorch",
            "",
            f"{port[3]:.7e}",
            0 < float(port[3]) < 1e-6,
            "not legible on the slide",
        ),
        Row(
            "the same of TensorFlow, with physical strains",
            f"{tensorflow[3]:.7e}",
            f"{plain:.3e}",
            abs(plain / tensorflow[3] - 0.1) < 1e-3,
            "a tenth: the strains were ten times as large",
        ),
    ]


if __name__ == "__main__":
    show(rows())
