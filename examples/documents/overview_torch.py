"""Run the overview's examples in PyTorch: missing gradients, Jacobians, eager and traced functions, devices.

Compare with `overview_jax.py` and `overview_tensorflow.py`. Run it with `python overview_torch.py`.
"""

import warnings

import torch
from torch import Tensor

from overview import BATCH, EYE, KERNEL, LINE, PAIR, jacobian_rows, line, outcome, trace_rows
from table import Row, show


def missing_gradients() -> list[Row]:
    """Return which tensors silently get no gradient."""
    x0, x1, x3 = torch.tensor(3.0, requires_grad=True), torch.tensor(3.0), torch.tensor(3.0)
    x2 = torch.tensor(2.0, requires_grad=True) + 1
    y = x0**2 + x1**2 + x2**2
    (asked,) = torch.autograd.grad(y, x2, retain_graph=True)
    y.backward()
    with warnings.catch_warnings(action="ignore"):  # of the question itself: x2 is no leaf
        kept = x2.grad
    watched = x3.clone().requires_grad_()
    (watched**2).backward()
    zero, ten = torch.tensor(0.0), torch.tensor(10.0, requires_grad=True)
    (torch.sin(zero) + torch.nn.functional.softplus(ten)).backward()
    return [
        line("gradient: variable", x0.grad),
        line("gradient: not trainable", x1.grad, note="requires_grad=False, the default"),
        line("gradient: variable plus one", kept, note=".grad is kept for leaves only"),
        line("gradient: variable plus one, asked for", asked, 6.0, "autograd.grad, or retain_grad() first"),
        line("gradient: constant", x3.grad),
        line("gradient: constant, watched", watched.grad, note="requires_grad_()"),
        line("gradient: sine, not watched", zero.grad),
        line("gradient: softplus, watched", ten.grad),
        line("gradient: an integer", outcome(lambda: torch.tensor(3, requires_grad=True)), "RuntimeError"),
    ]


def recordings() -> list[Row]:
    """Return what a graph gives that is used twice."""

    def gradients(retain: bool) -> list[Tensor]:
        x = torch.tensor(PAIR, requires_grad=True)
        y = x * x
        return [torch.autograd.grad(z.sum(), x, retain_graph=retain)[0] for z in (y * y, y)]

    first, second = gradients(retain=True)
    return [
        line("one recording: first gradient", first, note="retain_graph=True"),
        line("one recording: second gradient", second),
        line("one recording: used twice, not kept", outcome(lambda: gradients(retain=False)), "RuntimeError"),
    ]


def frozen() -> list[Row]:
    """Return whether a gradient reaches weights, and whether it does where nothing is recorded."""
    weights = torch.tensor(KERNEL, requires_grad=True)
    recorded = torch.tensor(BATCH) @ weights
    with torch.no_grad():
        unrecorded = torch.tensor(BATCH) @ weights
    return [
        line("weights: gradient reaches them", recorded.requires_grad),
        line("weights: gradient reaches them, frozen", unrecorded.requires_grad, note="no_grad()"),
        line("weights: gradient, frozen", outcome(lambda: unrecorded.sum().backward()), "RuntimeError", "not silent"),
    ]


def jacobians() -> list[Row]:
    """Return the shapes of Jacobians by a scalar and by a kernel."""
    kernel = torch.tensor(KERNEL, requires_grad=True)

    def layer(kernel: Tensor) -> Tensor:
        return (torch.tensor(BATCH) @ kernel).relu()

    scalar = torch.func.jacrev(lambda delta: torch.sigmoid(torch.tensor(LINE) + delta))(torch.tensor(0.0))
    target = layer(kernel)
    (gradient,) = torch.autograd.grad(target.sum(), kernel)
    return jacobian_rows(scalar, target, torch.func.jacrev(layer)(kernel.detach()), gradient)


def products() -> list[Row]:
    """Return the corner of a vector-Jacobian product with ones, call after call."""
    eye = torch.tensor(EYE, requires_grad=True)
    out = (eye + 1) ** 2

    def call() -> Tensor:
        out.backward(torch.ones_like(eye), retain_graph=True)
        return eye.grad[0, :2].clone()

    first, second = call(), call()
    eye.grad.zero_()
    return [
        line("vector-Jacobian product: first call", first, [4.0, 2.0]),
        line("vector-Jacobian product: second call", second, [8.0, 4.0], "backward() adds to .grad"),
        line("vector-Jacobian product: after zeroing", call(), [4.0, 2.0]),
    ]


def traces() -> list[Row]:
    """Return how often Python runs a function; torch.compile would take seconds, so torch.fx traces it here."""
    return trace_rows(torch.tensor, torch.fx.symbolic_trace, 0, "torch.fx; its graph knows no shapes")


def devices() -> list[Row]:
    """Return where arrays are."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    new = torch.tensor(PAIR)
    return [
        line("device: new array", new.device.type, "cpu", "even where there is a GPU"),
        line("device: moved to the best", new.to(best).device.type, best),
        line("device: result of moved ones", (new.to(best) * 2).device.type, best),
    ]


def rows() -> list[Row]:
    """Return all examples' rows."""
    return [*missing_gradients(), *recordings(), *frozen(), *jacobians(), *products(), *traces(), *devices()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(rows())
