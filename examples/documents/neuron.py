"""The slides' network 4-1-1, one tanh neuron: its derivatives in closed form, their loss, a training of several."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pinncore.optim import FirstOrderSettings, PackedFirstOrder

Sets = Sequence[Tensor]  # points of the residual, of lrb and of btb: [points, 4], columns x, y, g, elocal


def derivatives(networks: Tensor, points: Tensor) -> tuple[Tensor, ...]:
    """Return u, u_x, u_y, u_xx, u_yy [networks, points] of `networks` [networks, 7], each W1 (4), b1, W2, b2."""
    wx, wy, b, v, c = (networks[:, i, None] for i in (0, 1, 4, 5, 6))
    a = torch.tanh(networks[:, :4] @ points.T + b)
    s = v * (1 - a * a)
    return v * a + c, s * wx, s * wy, -2 * a * s * wx**2, -2 * a * s * wy**2


def loss(networks: Tensor, sets: Sets, own: float | Tensor = 1.0, lent: float | Tensor = 0.0) -> Tensor:
    """Return the norms of the residual, of u_x and of u_y, summed [networks].

    Derivatives are multiplied by `own`: 0 in the port, whose derivatives were all zero. `lent` is the share of the
    first network's Laplacian that is added to a network's as a number.
    """
    domain, lrb, _ = (len(points) for points in sets)
    u, u_x, u_y, u_xx, u_yy = derivatives(networks, torch.cat(list(sets)))
    laplacian = (u_xx + u_yy)[:, :domain]
    residual = u[:, :domain] - sets[0][:, 2] * (own * laplacian + lent * laplacian[:1].detach()) - sets[0][:, 3]
    boundary = own * u_x[:, domain : domain + lrb], own * u_y[:, domain + lrb :]
    return sum(torch.linalg.vector_norm(part, dim=1) for part in (residual, *boundary))


def train(
    start: Tensor, losses: Callable[[Tensor], Tensor], conventions: Sequence[str], takes: Sequence[int], epochs: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield networks and gradients [networks, 7] before each epoch of Adam at rate 1e-3, and after the last.

    `takes` says whose gradient each network is trained with: its own, or that of another one.
    """
    adam = PackedFirstOrder([FirstOrderSettings(1e-3, convention=each) for each in conventions], start)
    for _ in range(epochs + 1):
        networks = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(networks).sum(), networks)
        yield start, gradient
        start = adam.step(start, gradient[list(takes)], range(len(conventions)))
