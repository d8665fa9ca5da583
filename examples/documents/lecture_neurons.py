"""Train one neuron and a 4-2-1 network by hand, check every gradient, and lay the lecture's printed code beside them.

Two Gaussian classes in four dimensions (means 2 and 4, deviations 1 and 2), batches of 8, each divided by its
largest value; sigmoids, squared error. Run it: `python examples/documents/lecture_neurons.py`.
"""

import itertools

import numpy as np
import torch

from table import Row, show

ONE, SEVERAL = (4, 1), (4, 2, 1)


def batches(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples and the labels of some batches of 8."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (count, 8, 1))
    x = 2 + 2 * y + (1 + y) * rng.standard_normal((count, 8, 4))
    return x / x.max(axis=(1, 2), keepdims=True), y.astype(float)


def start(widths: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Return weights and biases, layer by layer, drawn from (0, 1) as the lecture does."""
    rng = np.random.default_rng(seed)
    shapes = [shape for a, b in itertools.pairwise(widths) for shape in ((b, a), (b,))]
    return [rng.uniform(size=shape) for shape in shapes]


def forward(p: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of all layers, the input first."""
    outputs = [x]
    for w, b in zip(p[::2], p[1::2], strict=True):
        outputs.append(1 / (1 + np.exp(-outputs[-1] @ w.T - b)))
    return outputs


def loss(p: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean squared error of a batch."""
    return float(((forward(p, x)[-1] - y) ** 2).mean())


def gradient(p, x, y, passed_derivative=True, labels_as_errors=False) -> list[np.ndarray]:
    """Return the gradient of `loss` by hand; the two flags are the faults of the printed multi-neuron code."""
    outputs = forward(p, x)
    back = -y if labels_as_errors else outputs[-1] - y
    gradients = []
    for layer in reversed(range(len(p) // 2)):
        delta = back * outputs[layer + 1] * (1 - outputs[layer + 1])
        gradients = [2 / len(x) * delta.T @ outputs[layer], 2 / len(x) * delta.sum(0), *gradients]
        back = (delta if passed_derivative else back) @ p[2 * layer]
    return gradients


def difference(p, x, y, h: float = 1e-5) -> list[np.ndarray]:
    """Return the gradient of `loss` by central finite differences."""
    gradients = [np.empty_like(a) for a in p]
    for a, g in zip(p, gradients, strict=True):
        for i in np.ndindex(a.shape):
            value, ends = a[i], []
            for a[i] in (value + h, value - h):
                ends.append(loss(p, x, y))
            a[i], g[i] = value, (ends[0] - ends[1]) / (2 * h)
    return gradients


def off(ours: np.ndarray, true: np.ndarray) -> float:
    """Return the relative error of a gradient."""
    return float(np.linalg.norm(ours - true) / np.linalg.norm(true))


def train(widths, x, y, lr: float = 0.5, sign: int = -1, **faults) -> tuple[list[np.ndarray], list[float]]:
    """Return the parameters after one step a batch, and the loss before each step."""
    p, losses = start(widths), []
    for batch, labels in zip(x, y, strict=True):
        losses.append(loss(p, batch, labels))
        p = [a + sign * lr * g for a, g in zip(p, gradient(p, batch, labels, **faults), strict=True)]
    return p, losses


def torch_net(p: list[np.ndarray], hidden: type, last: type) -> torch.nn.Sequential:
    """Return a torch.nn network that starts at given weights."""
    layers = [torch.nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64) for w in p[::2]]
    net = torch.nn.Sequential(*[part for layer in layers[:-1] for part in (layer, hidden())], layers[-1], last())
    for parameter, value in zip(net.parameters(), p, strict=True):
        parameter.data = torch.tensor(value)
    return net


def torch_train(p, x, y, lr, hidden=torch.nn.Sigmoid, last=torch.nn.Sigmoid, reduction="mean", rule=torch.optim.SGD):
    """Return torch's parameters after one step a batch, its losses as means, and its optimiser."""
    net = torch_net(p, hidden, last)
    optimizer, criterion, losses = rule(net.parameters(), lr), torch.nn.MSELoss(reduction=reduction), []
    for batch, labels in zip(torch.tensor(x), torch.tensor(y), strict=True):
        optimizer.zero_grad()
        value = criterion(net(batch), labels)
        value.backward()
        optimizer.step()
        losses.append(value.item() / (len(batch) if reduction == "sum" else 1))
    return [parameter.detach().numpy() for parameter in net.parameters()], losses, optimizer


def most_apart(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Return the largest difference of two networks' parameters."""
    return max(float(np.abs(u - v).max()) for u, v in zip(a, b, strict=True))


def gradient_rows() -> list[Row]:
    """Return the rows of the gradients of one batch: ours and as printed, against finite differences and autograd."""
    x, y = (a[0] for a in batches(1))
    away, apart, output_bias = [], [], []
    for widths in (ONE, SEVERAL):
        p = start(widths)
        ours, true = gradient(p, x, y), difference(p, x, y)
        net = torch_net(p, torch.nn.Sigmoid, torch.nn.Sigmoid)
        torch.nn.functional.mse_loss(net(torch.tensor(x)), torch.tensor(y)).backward()
        away += [off(a, b) for a, b in zip(ours, true, strict=True)]
        apart += [off(a, b.grad.numpy()) for a, b in zip(ours, net.parameters(), strict=True)]
        output = forward(p, x)[-1]
        error, slope = output - y, output * (1 - output)
        output_bias.append(off(2 * error.mean(0) * slope.mean(0), true[-1]))
    without = off(gradient(p, x, y, passed_derivative=False)[0], true[0])
    hidden_bias = off(2 * (error @ p[2] * slope).mean(0), true[1])
    left_out = "eq. 30 and the code drop g' of the layer passed; eq. 24 has it"
    return [
        Row("both networks: gradient off from central differences", "", "< 1e-7", max(away) < 1e-7),
        Row("both networks: gradient off from autograd", "", "< 1e-13", max(apart) < 1e-13),
        Row("4-2-1, error passed without g': dL/dW1 off by", "", f"{without:.3f}", without > 1, left_out),
        Row(
            "4-2-1, hidden bias as printed: off by", "", f"{hidden_bias:.3f}", hidden_bias > 1, "g' of the wrong layer"
        ),
        Row(
            "one neuron, bias by mean error x mean g': off by",
            "",
            f"{output_bias[0]:.4f}",
            output_bias[0] > 1e-3,
            "not the mean product",
        ),
    ]


def late(losses: list[float]) -> float:
    """Return the mean of the last losses: batches differ."""
    return float(np.mean(losses[-200:]))


def training_rows(count: int = 2000) -> list[Row]:
    """Return the rows of training by hand, as printed and as it should be."""
    x, y = batches(count)

    def row(what, printed, losses, rises, note=""):
        first, last = float(np.mean(losses[:50])), late(losses)
        return Row(what, printed, f"{first:.3f}, {last:.3f}", (last > first) == rises, note)

    p, wrong = train(SEVERAL, x, y, passed_derivative=False, labels_as_errors=True)
    zeros, lowest = float((1 - y[-200:]).mean()), float(forward(p, x)[-1].min())
    return [
        row(
            "one neuron, + step as printed: loss, first and last",
            "falls",
            train(ONE, x, y, sign=1)[1],
            True,
            "the gradient is added: the loss climbs",
        ),
        row("one neuron, - step: loss, first and last", "", train(ONE, x, y)[1], False),
        row(
            "4-2-1, labels for errors as printed: loss, first and last",
            "falls",
            wrong,
            True,
            "the call hands (mean error, labels) to (predictions, errors)",
        ),
        Row(
            "share of label 0 in the last batches",
            "",
            f"{zeros:.3f}",
            abs(late(wrong) - zeros) < 0.01,
            "the loss of always answering 1",
        ),
        Row("4-2-1, as printed: least prediction after training", "", f"{lowest:.3f}", lowest > 0.99),
        row("4-2-1, all derivatives: loss, first and last", "", train(SEVERAL, x, y)[1], False),
    ]


def torch_rows() -> list[Row]:
    """Return the rows of the check against torch.nn."""
    x, y = batches(1000)
    few = x[:300], y[:300]
    apart = max(
        most_apart(train(widths, *few)[0], torch_train(start(widths), *few, 0.5)[0]) for widths in (ONE, SEVERAL)
    )
    p = start(SEVERAL)
    other = {"hidden": torch.nn.ReLU, "last": torch.nn.Identity}
    sums = torch_train(p, *few, 0.01, **other, reduction="sum")[0]
    eighth = most_apart(sums, torch_train(p, *few, 0.08, **other)[0])
    hand = late(train(SEVERAL, x, y, 0.05)[1])
    _, relu, optimizer = torch_train(p, x, y, 0.05, **other)
    adam = late(torch_train(p, x, y, 0.05, rule=torch.optim.Adam)[1])
    thousandth = torch_train(p, x, y, 1e-3, **other, reduction="sum")[1]
    states, relu = len(optimizer.state), late(relu)
    forty, all_of_it = float(np.mean(thousandth[35:45])), late(thousandth)
    return [
        Row(
            "by hand / torch.nn, same networks, 300 steps: apart",
            "torch better",
            "< 1e-12",
            apart < 1e-12,
            "equal to rounding",
        ),
        Row(
            "state of the printed torch optimiser, entries",
            "step-size optimiser",
            f"{states}",
            states == 0,
            "plain SGD",
        ),
        Row(
            "4-2-1, lr 0.05, 1000 steps: printed torch net / by hand",
            "torch better",
            f"{relu:.3f} / {hand:.3f}",
            relu < hand,
            "ReLU and no output sigmoid make the gap",
        ),
        Row(
            "4-2-1 with sigmoids, Adam of lr 0.05, 1000 steps",
            "",
            f"{adam:.3f}",
            adam < hand,
            "what a step-size optimiser would give",
        ),
        Row(
            "sum with lr / mean with 8 lr: apart after 300 steps",
            "",
            "< 1e-12",
            eighth < 1e-12,
            "the printed torch loss is 8 times ours",
        ),
        Row(
            "loss at lr 1e-6, 40000 steps / 1e-3, 1000 steps",
            "1e-6 best",
            f"{forty:.3f} / {all_of_it:.3f}",
            forty > all_of_it,
            "the first by 40 steps of 1e-3",
        ),
    ]


def rows() -> list[Row]:
    """Return all rows of the lecture's neurons."""
    return gradient_rows() + training_rows() + torch_rows()


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(rows())
