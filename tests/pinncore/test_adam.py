"""Packed Adam: torch's on StrB100, the other conventions by their formulas, the published table to its digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pinncore import FieldData
from pinncore.networks import layer_sizes
from pinncore.optim import AdamSettings, PackedAdam

from .helpers import alone, assert_close, build, difference

EPOCHS = 100
WEIGHTS = 1e-12  # the bar; 2e-15 seen


# Four networks of other widths, rates, betas and epsilons
MEMBERS = [layer_sizes(2, width=width, depth=2) for width in (4, 8, 12, 16)]
SETTINGS = [
    AdamSettings(1e-3),
    AdamSettings(1e-2, eps=1e-7),
    AdamSettings(3e-3, beta1=0.8),
    AdamSettings(1e-4, beta2=0.99),
]


def torch_adam(x: Tensor, settings: AdamSettings, gradient: Callable[[int, Tensor], Tensor]) -> Tensor:
    """`torch.optim.Adam` from x on gradients that may depend on the epoch and the point."""
    parameter = torch.nn.Parameter(x.clone())
    optimiser = torch.optim.Adam([parameter], lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=settings.eps)
    for epoch in range(EPOCHS):
        parameter.grad = gradient(epoch, parameter.detach())
        optimiser.step()
    return parameter.detach()


@pytest.fixture(scope="module")
def torch_on_strb100(strb100: FieldData) -> list[Tensor]:
    """Each network after its epochs, alone."""
    engine, starts = build(MEMBERS, strb100)
    ends = []
    for member, settings in enumerate(SETTINGS):
        single, start = alone(engine, starts, member)
        ends.append(torch_adam(start, settings, lambda _, x, single=single: single.evaluate(x).gradient)[0])
    return ends


@pytest.mark.parametrize("size", [1, 4])
def test_equals_torch_on_strb100(strb100: FieldData, torch_on_strb100: list[Tensor], size: int) -> None:
    whole, starts = build(MEMBERS, strb100)
    for first in range(0, len(MEMBERS), size):
        rows = list(range(first, first + size))
        engine, x = whole.keep(rows), starts[rows]
        adam = PackedAdam([SETTINGS[row] for row in rows], x)
        for _ in range(EPOCHS):
            x = adam.step(x, engine.evaluate(x).gradient, list(range(size)))
        for place, row in enumerate(rows):
            assert_close(engine.layout.unpack(x[place], place), torch_on_strb100[row], WEIGHTS, f"member {row}")


def test_equals_torch_in_float32() -> None:
    """To a few roundings of 6e-8 a step; a coefficient rounded too early (1 - 0.999f) would be 2e-5 off."""
    gradients = torch.as_tensor(np.random.default_rng(2).standard_normal((EPOCHS, 4, 9)), dtype=torch.float32)
    start = torch.zeros(4, 9)
    adam, x = PackedAdam(SETTINGS, start), start
    for gradient in gradients:
        x = adam.step(x, gradient, [0, 1, 2, 3])
    for row, settings in enumerate(SETTINGS):
        reference = torch_adam(start[row], settings, lambda epoch, _, row=row: gradients[epoch, row])
        assert_close(x[row], reference, 2e-6, f"member {row}")  # 4e-7 seen


def formula(settings: AdamSettings, x: NDArray[Any], gradients: NDArray[np.float64]) -> NDArray[Any]:
    """The conventions as they are written down, one step after another; x [size], gradients [steps, size]."""
    lr, b1, b2, eps = settings.lr, settings.beta1, settings.beta2, settings.eps
    power1 = power2 = np.float32(1)
    if settings.convention == "tf1":
        lr, b1, b2, eps = (float(np.float32(value)) for value in (lr, b1, b2, eps))
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        mean, square = m / (1 - b1**t), v / (1 - b2**t)
        match settings.convention:
            case "torch":
                x = x - lr * mean / (np.sqrt(square) + eps)
            case "inside":
                x = x - lr * mean / np.sqrt(square + eps)
            case "tf1":
                power1, power2 = power1 * np.float32(b1), power2 * np.float32(b2)
                x = x - lr * math.sqrt(1 - float(power2)) / (1 - float(power1)) * m / (np.sqrt(v) + eps)
    return x


CONVENTIONS = ("torch", "tf1", "inside")


def test_conventions_follow_their_formulas() -> None:
    """All three in one pack, on gradients from 1e-8 to 1, where epsilon matters and where it does not."""
    generator = np.random.default_rng(0)
    gradients = generator.standard_normal((EPOCHS, 3, 9)) * 10.0 ** np.arange(-8, 1)
    settings = [AdamSettings(2e-3, 0.85, 0.995, 1e-7, convention) for convention in CONVENTIONS]
    start = generator.standard_normal((3, 9))
    x = torch.as_tensor(start)
    adam = PackedAdam(settings, x)
    for gradient in gradients:
        x = adam.step(x, torch.as_tensor(gradient), [0, 1, 2])
    found: list[NDArray[Any]] = []
    for row, each in enumerate(settings):
        expected = formula(each, start[row], gradients[:, row])
        found.append(expected)
        assert_close(x[row].numpy() - start[row], expected - start[row], WEIGHTS, each.convention)
    assert min(difference(found[0], found[1]), difference(found[0], found[2])) > 1e-6, "the conventions differ here"


def test_members_keep_counts_of_their_own() -> None:
    """A member that joins later starts its bias correction anew; steps of one leave the others alone."""
    gradients = np.random.default_rng(1).standard_normal((5, 2, 4))
    x = torch.zeros(2, 4, dtype=torch.float64)
    settings = [AdamSettings(), AdamSettings(0.01, convention="tf1")]
    adam = PackedAdam(settings, x)
    for gradient in gradients[:3]:
        x[:1] = adam.step(x[:1], torch.as_tensor(gradient[:1]), [0])
    assert not x[1].any()
    for gradient in gradients[3:]:
        x = adam.step(x, torch.as_tensor(gradient), [0, 1])
    assert_close(x[0], formula(settings[0], np.zeros(4), gradients[:, 0]), WEIGHTS)
    assert_close(x[1], formula(settings[1], np.zeros(4), gradients[3:, 1]), WEIGHTS)
    adam.keep([1])
    last = adam.step(x[1:], torch.as_tensor(gradients[0, 1:]), [0])
    assert_close(last[0], formula(settings[1], np.zeros(4), np.vstack([gradients[3:, 1], gradients[:1, 1]])), WEIGHTS)


def test_cosine_falls_from_the_rate_towards_zero() -> None:
    settings = AdamSettings(0.4, schedule="cosine", epochs=10)
    rates = [settings.lr_at(epoch) for epoch in range(10)]
    assert rates[0] == 0.4
    assert rates[5] == pytest.approx(0.2, rel=1e-15)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.01
    assert AdamSettings(0.4).lr_at(10**6) == 0.4


# One step at lr 1e-3: weight, gradient, the weight after it as printed (8 decimals)
TENSORFLOW = [
    (0.88782865, 1.1028266e00, "0.88682866"),
    (0.06018033, -6.1464891e00, "0.06118033"),
    (-0.46538195, -6.9716954e-01, "-0.46438196"),
    (-0.49303034, -2.0500580e-05, "-0.49204552"),
]
ALGORITHM_1 = [
    (0.88782865, 1.1028266e00, "0.88682865"),
    (0.06018033, -6.1464891e00, "0.06118033"),
    (-0.46538195, -6.9716954e-01, "-0.46438195"),
    (-0.49303034, -2.0500580e-05, "-0.49203083"),
]
PYTORCH = [
    (0.88782865, 1.5916174e-02, "0.88682866"),
    (0.06018033, 2.2873601e-01, "0.05918033"),
    (-0.46538195, 2.9203158e-02, "-0.46638194"),
]


@pytest.mark.parametrize(
    ("table", "convention", "dtype"),
    [(TENSORFLOW, "tf1", torch.float32), (PYTORCH, "torch", torch.float32), (ALGORITHM_1, "torch", torch.float64)],
)
def test_the_published_table_to_its_printed_digits(
    table: list[tuple[float, float, str]], convention: Any, dtype: torch.dtype
) -> None:
    """Row 4, where the gradient is tiny, tells the two epsilons apart: 1.5e-5 of difference after a single step."""
    weights = torch.tensor([[row[0] for row in table]], dtype=dtype)
    gradient = torch.tensor([[row[1] for row in table]], dtype=dtype)
    after = PackedAdam([AdamSettings(1e-3, 0.9, 0.999, 1e-8, convention)], weights).step(weights, gradient, [0])
    assert [f"{value:.8f}" for value in after[0].tolist()] == [row[2] for row in table]
