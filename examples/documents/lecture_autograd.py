"""Extend autograd with functions of one's own: the lecture's quantiser, and a norm with a derivative at zero.

The lecture's function rounds the samples down to whole bytes and adds the rounding to the gradient on the way back.
Its way back is never taken. Run it: `python examples/documents/lecture_autograd.py`.
"""

import numpy as np
import torch

from table import Row, show


class Quantise(torch.autograd.Function):
    """Round to bytes forward; add what was cut off to the gradient backward, as the lecture's function does."""

    backward_calls = 0

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        whole = x.to(torch.uint8).to(x.dtype)
        ctx.save_for_backward(x - whole)
        return whole

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        Quantise.backward_calls += 1
        return gradient + ctx.saved_tensors[0]


class Norm(torch.autograd.Function):
    """Return the root of the sum of squares, with derivative zero at zero."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.square().sum().sqrt()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        squares = x.square().sum()
        safe = torch.where(squares > 0, squares, torch.ones_like(squares))  # no 0 / 0, in second derivatives neither
        return gradient * x / safe.sqrt()


def samples(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points of N([3, 3], I) and N([5, 5], I), shuffled, and their labels 1 and 2."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([1.0, 2.0], count))
    return torch.tensor(1 + 2 * y[:, None] + rng.standard_normal((2 * count, 2))), torch.tensor(y)


def train(prepare, outputs: int = 1, epochs: int = 2, lr: float = 1e-3) -> tuple[list[torch.Tensor], float]:
    """Return the weights of 2-10-n after plain SGD, one prepared sample at a time, and the last epoch's loss."""
    g = torch.Generator().manual_seed(0)
    w1, w2 = (torch.randn(a, b, generator=g, dtype=torch.float64).requires_grad_() for a, b in ((2, 10), (10, outputs)))
    for _ in range(epochs):
        total, (x, y) = 0.0, samples()
        for point, label in zip(x, y, strict=True):
            loss = ((prepare(point) @ w1).clamp(min=0) @ w2 - label).square().sum()
            gradients = torch.autograd.grad(loss, (w1, w2))
            with torch.no_grad():
                for w, gradient in zip((w1, w2), gradients, strict=True):
                    w -= lr * gradient
            total += loss.item() / len(y)
    return [w1.detach(), w2.detach()], total


def quantise_rows() -> list[Row]:
    """Return the rows of the lecture's function: what it does, and what it does not."""
    Quantise.backward_calls = 0
    straight, rounded = train(lambda x: x), train(Quantise.apply)
    calls = Quantise.backward_calls
    floored = train(torch.floor)
    apart = max(float((a - b).abs().max()) for a, b in zip(rounded[0], floored[0], strict=True))
    two = train(lambda x: x, outputs=2)[1]
    x = samples()[0].requires_grad_()
    whole = Quantise.apply(x)
    counts = [Quantise.backward_calls]
    once, twice = (torch.autograd.grad(whole, x, torch.full_like(x, by), retain_graph=True)[0] for by in (1.0, 2.0))
    counts.append(Quantise.backward_calls)
    excess = float((2 * once - twice).abs().mean())
    exact = torch.autograd.gradcheck(Quantise.apply, x[:3].detach().requires_grad_(), raise_exception=False)
    needless = "a sample needs no gradient: nothing is added on the way back"
    steps = "once for each backward, not in forward"
    return [
        Row("calls of the quantiser's backward in 1200 steps", "each step", f"{calls}", calls == 0, needless),
        Row(
            "weights: quantiser / torch.floor of the samples, apart",
            "",
            f"{apart:.0f}",
            apart == 0,
            "rounded input is all",
        ),
        Row(
            "loss with rounded / true samples",
            "worse",
            f"{rounded[1]:.3f} / {straight[1]:.3f}",
            rounded[1] > straight[1],
        ),
        Row(
            "loss of 2-10-2, as printed / 2-10-1",
            "",
            f"{two:.3f} / {straight[1]:.3f}",
            two > straight[1],
            "one label for two outputs",
        ),
        Row(
            "input with gradient: backward calls before, after 2",
            "in forward",
            f"{counts[0]}, {counts[1]}",
            counts == [0, 2],
            steps,
        ),
        Row(
            "2 x gradient of a loss - gradient of 2 x that loss, mean",
            "0",
            f"{excess:.3f}",
            excess > 0.1,
            "data added to a gradient: not linear",
        ),
        Row("gradcheck of the quantiser", "", "passes" if exact else "fails", not exact),
    ]


def norm_rows() -> list[Row]:
    """Return the rows of a function of our own that autograd can trust."""
    x = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    plain, ours = (torch.autograd.grad(f(zero), zero)[0] for f in (lambda v: v.square().sum().sqrt(), Norm.apply))
    first, second = torch.autograd.gradcheck(Norm.apply, x), torch.autograd.gradgradcheck(Norm.apply, x)
    unit = x.detach() / 13
    hessian = torch.autograd.functional.hessian(Norm.apply, x.detach())
    off = float((hessian - (torch.eye(3) - torch.outer(unit, unit)) / 13).abs().max())
    return [
        Row("norm of one's own: gradcheck, gradgradcheck", "", f"{first}, {second}", first and second),
        Row("its second derivatives off from (I - n n') / r", "", "< 1e-15", off < 1e-15),
        Row(
            "derivative at zero: plain root / our norm",
            "",
            f"{plain[0].item()} / {ours[0].item()}",
            bool(plain.isnan().all() and (ours == 0).all()),
        ),
    ]


def memory_row() -> Row:
    """Return the row of NumPy's reshape, which the lecture says copies."""
    a = np.arange(6.0)
    shared = np.shares_memory(a, a.reshape(2, 3))
    return Row(
        "numpy's reshape shares memory", "no", "yes" if shared else "no", shared, "a view wherever the strides allow it"
    )


def rows() -> list[Row]:
    """Return all rows of extending autograd."""
    return [*quantise_rows(), *norm_rows(), memory_row()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(rows())
