"""Fizbuz in NumPy and PyTorch: which of five trainings each printed number belongs to.

    python examples/documents/fizbuz.py

Ten binary digits, 100 and 4 sigmoid units, batches of 64, learning rate 0.01, seed 10000, 1000 epochs. The five differ
in the reduction of the loss, in a derivative left out of the passed-back error and in a gradient that is not cleared.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from table import Row, equal, show

Array = NDArray[np.float64]

EPOCHS, BATCH, RATE, UNITS = 1000, 64, 0.01, (10, 100, 4)
VARIANTS = {  # factor on the gradient of half the sum, is the derivative passed back, is the gradient of b1 cleared
    "sum / 2": (1.0, True, True),
    "sum": (2.0, True, True),
    "mean": (2.0 / (BATCH * UNITS[2]), True, True),
    "derivative left out": (1.0, False, True),
    "bias not cleared": (1.0, True, False),
}
NUMPY = [  # the first weight before each epoch
    *("0.65897509416461408", "0.63824423351700321", "0.70742434009324673", "0.74590493637361743"),
    *("0.76070011091500567", "0.76704695584086358", "0.77166554222431838", "0.77654595399345228"),
    *("0.78221473000011987", "0.7887668125254953"),
]
PYTORCH = "0.6590 0.6585 0.6580 0.6575 0.6570 0.6565 0.6561 0.6556 0.6551 0.6547 0.6542"


def data() -> tuple[Array, Array, Array, Array]:
    """Return digits [900, 10] and classes [900, 4] of the training numbers, and the initial w1 and w2."""
    random = np.random.RandomState(10000)  # the legacy generator, as the programs used it
    numbers = np.arange(1000)
    kinds = np.select([numbers % 15 == 0, numbers % 5 == 0, numbers % 3 == 0], [0, 1, 2], 3)
    order = random.permutation(1000)[:900]
    digits = (numbers[order, None] >> np.arange(9, -1, -1)) & 1
    return digits.astype(float), np.eye(4)[kinds[order]], random.randn(*UNITS[:2]), random.randn(*UNITS[1:])


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def train_numpy() -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the last mean square and the first weight before each epoch, of every variant, trained together."""
    x, y, w1, w2 = data()
    factor, passed, cleared = (np.array(column)[:, None, None] for column in zip(*VARIANTS.values(), strict=True))
    w1, w2 = (np.repeat(w[None], len(VARIANTS), axis=0) for w in (w1, w2))
    b1, b2 = np.zeros((len(VARIANTS), 1, UNITS[1])), np.zeros((len(VARIANTS), 1, UNITS[2]))
    first, b1_gradient, error = [], 0.0, np.zeros(())
    with np.errstate(over="ignore"):  # exp of a large number: the sigmoid is 0
        for _ in range(EPOCHS):
            first.append(w1[:, 0, 0].copy())
            for start in range(0, len(x) - BATCH + 1, BATCH):
                inputs, wanted = x[start : start + BATCH], y[start : start + BATCH]
                hidden = sigmoid(inputs @ w1 + b1)
                output = sigmoid(hidden @ w2 + b2)
                error = output - wanted
                delta2 = factor * error * output * (1 - output)
                back = np.where(passed, delta2, factor * error) @ w2.transpose(0, 2, 1)
                delta1 = back * hidden * (1 - hidden)
                b1_gradient = delta1.sum(axis=1, keepdims=True) + np.where(cleared, 0, b1_gradient)
                w1 -= RATE * (inputs.T @ delta1)
                b1 -= RATE * b1_gradient
                w2 -= RATE * (hidden.transpose(0, 2, 1) @ delta2)
                b2 -= RATE * delta2.sum(axis=1, keepdims=True)
    losses = (error**2).mean(axis=(1, 2)).tolist()
    courses = np.array(first).T.tolist()
    return dict(zip(VARIANTS, losses, strict=True)), dict(zip(VARIANTS, courses, strict=True))


def train_torch() -> float:
    """Return the last mean square of PyTorch in float32, with sum / 2 as loss."""
    x, y, w1, w2 = (torch.tensor(array, dtype=torch.float32) for array in data())
    parameters = [each.requires_grad_() for each in (w1, torch.zeros(1, UNITS[1]), w2, torch.zeros(1, UNITS[2]))]
    error = torch.zeros(())
    for _ in range(EPOCHS):
        for start in range(0, len(x) - BATCH + 1, BATCH):
            w1, b1, w2, b2 = parameters
            hidden = torch.sigmoid(x[start : start + BATCH] @ w1 + b1)
            error = torch.sigmoid(hidden @ w2 + b2) - y[start : start + BATCH]
            gradients = torch.autograd.grad(error.pow(2).sum() / 2, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-RATE)
    return float(error.detach().pow(2).mean())


def rows() -> list[Row]:
    """Return the printed losses and weights beside ours."""
    losses, courses = train_numpy()
    faulty, slow = courses["derivative left out"], courses["mean"]
    weight = torch.tensor(faulty[0], dtype=torch.float32)
    printed = " ".join(f"{value:.4f}" for value in slow[:11])
    apart = max(abs(ours - float(text)) for ours, text in zip(faulty, NUMPY, strict=False))
    return [
        equal("loss of NumPy, sum / 2", "0.038780463080550241", losses["sum / 2"], 1e-12),
        equal("loss of PyTorch, sum / 2, float32", "0.03878042474389076", train_torch(), 1e-6),
        equal("loss with the derivative left out", "0.014", losses["derivative left out"]),
        Row(
            "the same, more digits",
            "",
            f"{losses['derivative left out']:.7f}",
            abs(losses["derivative left out"] - 0.0143882) < 1e-7,
            "smaller, and not a gradient of any loss",
        ),
        Row("loss, sum", "", f"{losses['sum']:.7f}", abs(losses["sum"] - 0.0095318) < 1e-7, "twice the rate"),
        Row("loss, mean", "", f"{losses['mean']:.7f}", abs(losses["mean"] - 0.1802446) < 1e-7, "1/128 of the rate"),
        Row(
            "loss with the gradient of b1 not cleared",
            "",
            f"{losses['bias not cleared']:.3f}",
            losses["bias not cleared"] > 2 * losses["sum / 2"],
            "it adds up over the batches",
        ),
        Row(
            "first weight of NumPy, ten epochs: largest difference",
            " ... ".join((NUMPY[1], NUMPY[-1])),
            f"{apart:.0e}",
            apart < 1e-12,
            "with the derivative left out: that was the program",
        ),
        Row("first weight of PyTorch, eleven epochs", PYTORCH, printed, printed == PYTORCH, "with the mean: so slow"),
        equal("the first weight as PyTorch shows it", "0.6590", float(str(weight)[7:-1])),
        Row("and as it computes", "", f"{float(weight):.8f}", abs(float(weight) - faulty[0]) < 1e-7, "display digits"),
    ]


if __name__ == "__main__":
    show(rows())
