"""Show steepest descent, the Jacobian, mini-batches and five step-size optimisers of the lecture on autograd.

Its signs, its epsilon and its word on finite differences are checked as well.
Run it: `python examples/documents/lecture_descent.py`.
"""

import itertools
import math

import numpy as np
import torch

from table import Row, show

TURN = np.array([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2)
VALLEY = TURN @ np.diag([1.0, 100.0]) @ TURN.T  # narrow, and along neither axis
START = TURN @ np.array([-10.0, 1.0])
RATES = 10.0 ** np.arange(-4, 1.6, 0.25)[:, None]


def height(p: np.ndarray) -> np.ndarray:
    """Return the loss of the narrow valley at each row of `p`."""
    return ((p @ VALLEY) * p).sum(-1) / 2


def sgd(lr, gamma=0.0):
    """Return the rule gradient -> step of plain descent, or with momentum (eq. 32)."""
    step = 0.0

    def rule(g):
        nonlocal step
        step = gamma * step + lr * g
        return step

    return rule


def divided(lr, eps, beta1=0.0, beta2=0.0, summed=False, corrected=False, under_root=False):
    """Return a rule that divides by the root of squared gradients (eqs. 37 to 40)."""
    m = v = k = 0.0

    def rule(g):
        nonlocal m, v, k
        k += 1
        m = beta1 * m + (1 - beta1) * g
        v = v + g * g if summed else beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = (m / (1 - beta1**k), v / (1 - beta2**k)) if corrected else (m, v)
        return lr * m_hat / (np.sqrt(v_hat + eps) if under_root else np.sqrt(v_hat) + eps)

    return rule


def adagrad(lr, under_root=False):
    """Return AdaGrad's rule: the sum of all squares."""
    return divided(lr, 1e-10, summed=True, under_root=under_root)


def rmsprop(lr):
    """Return RMSProp's rule: the running average of the squares."""
    return divided(lr, 1e-8, beta2=0.9)


def adam(lr, corrected=True, under_root=False):
    """Return Adam's rule: running averages of gradients and squares, corrected for their start at zero."""
    return divided(lr, 1e-8, 0.9, 0.999, corrected=corrected, under_root=under_root)


RULES = {
    "SGD": (sgd, torch.optim.SGD, {}),
    "momentum": (lambda lr: sgd(lr, 0.9), torch.optim.SGD, {"momentum": 0.9}),
    "AdaGrad": (adagrad, torch.optim.Adagrad, {}),
    "RMSProp": (rmsprop, torch.optim.RMSprop, {"alpha": 0.9}),
    "Adam": (adam, torch.optim.Adam, {}),
}


def path(rule, start: np.ndarray, steps: int) -> np.ndarray:
    """Return the points that a rule visits in the valley."""
    points = [start]
    for _ in range(steps):
        points.append(points[-1] - rule(points[-1] @ VALLEY))
    return np.array(points)


def from_torch(name: str, steps: int = 50, lr: float = 0.01) -> float:
    """Return how far our path ends from torch.optim's."""
    ours, optimizer, settings = RULES[name]
    p = torch.tensor(START, requires_grad=True)
    optimizer = optimizer([p], lr, **settings)
    for _ in range(steps):
        p.grad = p.detach() @ torch.tensor(VALLEY)
        optimizer.step()
    return float(np.abs(path(ours(lr), START, steps)[-1] - p.detach().numpy()).max())


def fewest_steps(name: str, most: int = 1500) -> int:
    """Return the steps until the loss stays below 1e-3 of its start, at the rule's best rate."""
    with np.errstate(over="ignore", invalid="ignore"):  # rates too large diverge
        losses = height(path(RULES[name][0](RATES), np.tile(START, (len(RATES), 1)), most))
    above = ~(losses < 1e-3 * losses[0])
    return int((most + 1 - np.argmax(above[::-1], axis=0)).min())


def surface_rows() -> list[Row]:
    """Return the rows of the loss surface: what points where in a narrow valley."""
    g = START @ VALLEY
    ways = np.random.default_rng(0).standard_normal((10_000, 2))
    drops = [height(START + 1e-6 * way / np.linalg.norm(way, axis=-1, keepdims=True)) for way in (ways, -g)]
    faster = int((drops[0] < drops[1] - 1e-12).sum())
    angle = math.degrees(math.acos(g @ START / np.linalg.norm(g) / np.linalg.norm(START)))
    across = (path(sgd(0.0195), START, 40) @ TURN)[:, 1]
    turns = int((across[1:] * across[:-1] < 0).sum())
    return [
        Row("of 10000 directions, those falling faster than -gradient", "none", f"{faster}", faster == 0),
        Row("narrow valley: angle of -gradient and the way to the minimum", "", f"{angle:.1f} deg", angle > 60),
        Row("of 40 steps of plain descent, those across the bottom", "crisscross", f"{turns}", turns == 40),
    ]


def predict(p: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the predictions of a small network: four units of tanh."""
    weight, bias, out = p.reshape(3, -1)
    return torch.tanh(x[:, None] * weight + bias) @ out


def jacobian_bytes(layers: list[int], samples: int = 64) -> tuple[int, int, int]:
    """Return the bytes in float64 of a dense network's gradient, of its J and of Levenberg-Marquardt's J'J."""
    n = sum((a + 1) * b for a, b in itertools.pairwise(layers))
    return 8 * n, 8 * n * samples * layers[-1], 8 * n * n


def gradient_rows() -> list[Row]:
    """Return the rows of the gradient of a least-squares fit, of its signs and of its Jacobian."""
    x = torch.linspace(-2, 2, 40, dtype=torch.float64)
    y = torch.sin(2 * x)
    p = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    errors = y - predict(p, x)
    (gradient,) = torch.autograd.grad(errors.square().sum(), p, retain_graph=True)
    (product,) = torch.autograd.grad(errors, p, errors.detach())  # one reverse pass
    p, errors = p.detach(), errors.detach()
    jacobian = torch.autograd.functional.jacobian(lambda q: predict(q, x), p)
    exact = jacobian.T @ errors
    off = max(float((a + exact).abs().max() / exact.abs().max()) for a in (gradient / 2, product))
    before, plus, minus = (float((y - predict(p + a * exact, x)).square().sum()) for a in (0, 2e-3, -2e-3))
    try:
        fits = jacobian @ errors is not None
    except RuntimeError:
        fits = False
    shapes = f"{tuple(jacobian.shape)} by {tuple(errors.shape)}"
    times = jacobian.nbytes // gradient.nbytes
    g, j, square = jacobian_bytes([784, 1000, 1000, 10])
    wrong = "eps = y - f, but J is that of f: the step climbs"
    sizes = f"{g / 1e9:.3f} / {j / 1e9:.1f} / {square / 1e9:.0f} GB"
    return [
        Row("eq. 7, 2 J' eps, and J'v by one reverse pass: off", "", "< 1e-14", off < 1e-14),
        Row("eqs. 8, 10, 31, 32: J by eps", "J eps", shapes, not fits, "the shapes do not fit: no transpose"),
        Row("eq. 8, + 2 a J' eps: loss after / before", "+", f"{plus / before:.4f}", plus < before, "right sign"),
        Row("eq. 31, - 2 a J' eps: loss after / before", "-", f"{minus / before:.4f}", minus > before, wrong),
        Row("bytes of J / of the gradient, 40 samples", "", f"{times}", times == len(x), "so J is never stored"),
        Row("784-1000-1000-10, batch of 64: gradient / J / J'J", "infeasible", sizes, square > 1e12, "J'J: of LM"),
    ]


def batch_losses(size: int, lr: float, epochs: int) -> np.ndarray:
    """Return the losses that 400 starts reach when y = sin(2 x) is fitted by sin(p x), 64 samples an epoch."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 64)
    p = rng.uniform(0, 6, 400)[:, None]
    for _ in range(epochs):
        for batch in rng.permutation(64).reshape(-1, size):
            xb = x[batch]
            p = p - lr * 2 * ((np.sin(p * xb) - np.sin(2 * xb)) * xb * np.cos(p * xb)).mean(1, keepdims=True)
    return ((np.sin(p * x) - np.sin(2 * x)) ** 2).mean(1)


def batch_rows() -> list[Row]:
    """Return the rows of mini-batches, at equal numbers of gradient evaluations."""
    full, small = (float(np.median(batch_losses(size, 0.01, 10))) for size in (64, 4))
    free = [int((batch_losses(size, 0.1, 100) < 0.01).sum()) for size in (64, 1)]
    medians, counts = f"{full:.3f} / {small:.3f}", f"{free[0]} / {free[1]}"
    return [
        Row("10 epochs, median loss: full batch / batches of 4", "", medians, small < full, "10 steps / 160 steps"),
        Row("of 400 starts, not stuck: full batch / batches of 1", "less stuck", counts, free[1] > 2 * free[0]),
    ]


def optimizer_rows() -> list[Row]:
    """Return the rows of the optimisers: against torch.optim, in the valley, and the lecture's words on them."""
    off = max(from_torch(name) for name in RULES)
    steps = {name: fewest_steps(name) for name in RULES}
    better = max(steps["momentum"], steps["Adam"]) < steps["SGD"]
    adagrad_eps, adam_eps = ([rule(1.0, under_root=u)(1e-6) for u in (True, False)] for rule in (adagrad, adam))
    summing, fading, steady = sgd(1.0, gamma=1.0), adagrad(1.0), rmsprop(1.0)
    tenth = [summing(1.0) for _ in range(10)][-1]
    last = [(fading(1.0), steady(1.0)) for _ in range(1000)][-1]
    first = [adam(1.0, corrected=corrected)(1.0) for corrected in (False, True)]

    def pair(what, printed, values, holds, note=""):
        return Row(what, printed, f"{values[0]:.4f} / {values[1]:.4f}", bool(holds), note)

    stalls = "torch adds eps after the root; inside it, tiny gradients stall"
    linear = "steps grow by one gradient each, not exponentially"
    return [
        Row("SGD, momentum, AdaGrad, RMSProp, Adam: off from torch.optim", "", "< 1e-12", off < 1e-12, "50 steps"),
        *(Row(f"steps of {name} in the valley, best rate", "", f"{n}", n <= 1500) for name, n in steps.items()),
        Row("momentum and Adam before SGD", "yes", "yes" if better else "no", better),
        pair(
            "AdaGrad, eq. 37 / torch: step at a gradient of 1e-6",
            "eps in root",
            adagrad_eps,
            adagrad_eps[0] < 0.2,
            stalls,
        ),
        pair("Adam, eq. 40 / torch: step at a gradient of 1e-6", "eps in root", adam_eps, adam_eps[0] < 0.2, stalls),
        Row("momentum 1, equal gradients: tenth step / first", "exponential", f"{tenth:.0f}", tenth == 10, linear),
        pair("equal gradients: step 1000 of AdaGrad / RMSProp", "vanishes / not", last, last[0] < 0.04 < last[1]),
        pair(
            "Adam's first step, raw / corrected",
            "toward 0",
            first,
            first[0] > 3,
            "0.1 / sqrt(0.001): too long, not too short",
        ),
    ]


def difference_rows() -> list[Row]:
    """Return the rows of the errors of autograd and of finite differences against an exact derivative."""
    x = np.linspace(0.5, 2, 100)
    t = torch.tensor(x, requires_grad=True)

    def f(x, of=np):
        return of.exp(of.sin(x)) * x**3

    def off(derivative):
        return float(np.abs(derivative / (np.exp(np.sin(x)) * x**2 * (np.cos(x) * x + 3)) - 1).max())

    steps = 10.0 ** np.arange(-12, 0)
    forward = min(off((f(x + h) - f(x)) / h) for h in steps)
    central = min(off((f(x + h) - f(x - h)) / (2 * h)) for h in steps)
    autograd = off(torch.autograd.grad(f(t, torch).sum(), t)[0].numpy())
    note = "autograd chains the exact derivatives of its operations"
    return [
        Row("error of autograd, relative", "finite differences", "< 1e-14", autograd < 1e-14, note),
        Row("error of forward differences, best of 12 steps", "", "> 1e-8", forward > 1e-8),
        Row("error of central differences, best of 12 steps", "", "> 1e-11", central > 1e-11),
    ]


def rows() -> list[Row]:
    """Return all rows of the lecture's part on descent."""
    return surface_rows() + gradient_rows() + batch_rows() + optimizer_rows() + difference_rows()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("bytes in float64   gradient  J, 64 rows    J'J")
    for layers in ([2, 32, 32, 1], [2, 64, 64, 1], [784, 1000, 1000, 10]):
        print("-".join(map(str, layers)).ljust(17), *(f"{size:.1e}".rjust(10) for size in jacobian_bytes(layers)))
    show(rows())
