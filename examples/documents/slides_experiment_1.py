"""The slides' experiment 1: one neuron, one point, a loss without derivatives. The frameworks agree to rounding.

    python examples/documents/slides_experiment_1.py

The start is not printed. TensorFlow's prediction and its gradient to the bias after 5000 epochs determine what matters
of it, W2 and the argument of tanh; we take W1 equal in all rows and biases zero.
"""

import torch
from torch import Tensor

import neuron
from table import Row, equal, show

POINT = torch.tensor([[2.0, 3.0, 8.0, 5.0]])
ARGUMENT, W2 = 0.58273497, 0.1460084  # a root search on 8.3652573 and -4.14340e-04
NETWORKS = ("TensorFlow", "PyTorch", "PyTorch with TensorFlow's gradients")
PRINTED = ("8.3652573", "8.3652334", "8.3652229")
GRADIENTS = ("-8.28680e-04", "-1.24302e-03", "-3.31471e-03", "-2.07170e-03", "-4.14340e-04")  # W1, b1


def maps() -> tuple[list[Tensor], Tensor]:
    """Return W1 and b1 every 1000 epochs [3, 5], and prediction and gradients of W1 and b1 after 5000 [3, 6]."""
    start = torch.tensor([[*[ARGUMENT / 18] * 4, 0.0, W2, 0.0]] * 3)

    def predict(networks: Tensor) -> Tensor:
        return neuron.derivatives(networks, POINT)[0]

    def losses(networks: Tensor) -> Tensor:
        return (predict(networks) - 11) ** 2

    training = list(neuron.train(start, losses, ("tf1", "torch", "torch"), (0, 1, 0), 5000))
    networks, gradient = training[-1]
    return [each[:, :5] for each, _ in training[::1000]], torch.hstack((predict(networks), gradient[:, :5]))


def rows() -> list[Row]:
    """Return predictions, gradients and maps after 5000 epochs, printed and ours."""
    courses, end = maps()
    predictions, gradients = end[:, 0].tolist(), end[:, 1:].double()
    found = [
        equal(f"prediction, {name}", text, value, 1e-4, "rounding of 5000 steps in float32" if row else "")
        for row, (name, text, value) in enumerate(zip(NETWORKS, PRINTED, predictions, strict=True))
    ]
    for name, text, value in zip(NETWORKS[1:], ("0.00029", "0.00041"), predictions[1:], strict=True):
        first, other = float(PRINTED[0]), float(PRINTED[NETWORKS.index(name)])
        printed = 100 * (first - other) / first
        found.append(equal(f"error in %, {name}, of the printed numbers", text, printed))
        share = 100 * abs(predictions[0] - value) / predictions[0]
        found.append(Row(f"error in %, {name}, ours", text, f"{share:.0e}", share < 1e-3, "within rounding"))
    names = ("x", "y", "g", "elocal", "bias")
    found += [
        equal(f"gradient, {name}", text, value, 1e-3 * abs(value))
        for name, text, value in zip(names, GRADIENTS, gradients[0].tolist(), strict=True)
    ]
    ratios, inputs = gradients[0] / gradients[0, 4], torch.tensor([2.0, 3.0, 8.0, 5.0, 1.0])
    return [
        *found,
        Row(
            "gradients in the ratio of the inputs",
            "2:3:8:5:1",
            ":".join(f"{ratio:.4g}" for ratio in ratios.tolist()),
            bool((ratios - inputs).abs().max() < 1e-4),
        ),
        *(
            Row(
                f"largest difference of the maps after {1000 * k} epochs",
                "same values",
                f"{float((course - course[0]).abs().max()):.0e}",
                bool((course - course[0]).abs().max() < 1e-4),
            )
            for k, course in enumerate(courses)
            if k
        ),
    ]


if __name__ == "__main__":
    for name, network in zip(NETWORKS, torch.stack(maps()[0]).unbind(1), strict=True):
        print(f"W1 (x, y, g, elocal) and b1 every 1000 epochs, {name}:")
        for number, values in enumerate(network.tolist()):
            print(f"  {1000 * number:4d}  " + "  ".join(f"{value:10.7f}" for value in values))
    show(rows())
