"""First-order optimisers: torch's on StrB100, Adam's other conventions by their formulas, the published table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pinncore import FieldData
from pinncore.networks import layer_sizes
from pinncore.optim import FirstOrderSettings, PackedFirstOrder

from ..helpers import alone, assert_close, build, difference

EPOCHS = 100
WEIGHTS = 1e-12  # the bar; 2e-15 seen


# Networks of other widths, rates, betas, epsilons and optimisers; the first four are Adam alone
SETTINGS = [
    FirstOrderSettings(1e-3),
    FirstOrderSettings(1e-2, eps=1e-7),
    FirstOrderSettings(3e-3, beta1=0.8),
    FirstOrderSettings(1e-4, beta2=0.99),
    FirstOrderSettings(1e-2, optimiser="adamw"),
    FirstOrderSettings(3e-3, optimiser="adamw", weight_decay=0.3),
    FirstOrderSettings(1e-4, optimiser="sgd"),
    FirstOrderSettings(1e-4, optimiser="momentum"),
    FirstOrderSettings(2e-5, optimiser="momentum", momentum=0.99),
    FirstOrderSettings(1e-2, optimiser="adagrad", eps=1e-10),
    FirstOrderSettings(1e-3, optimiser="rmsprop"),
    FirstOrderSettings(3e-4, optimiser="rmsprop", decay=0.9, eps=1e-3),
]
MEMBERS = [layer_sizes(2, width=(4, 8, 12, 16)[i % 4], depth=2) for i in range(len(SETTINGS))]
EVERYONE, ADAM = list(range(len(SETTINGS))), [0, 1, 2, 3]


def torch_optimiser(parameter: Tensor, settings: FirstOrderSettings) -> torch.optim.Optimizer:
    """The optimiser of `torch.optim` that the settings describe."""
    lr, betas, eps = settings.lr, (settings.beta1, settings.beta2), settings.eps
    match settings.optimiser:
        case "adam":
            return torch.optim.Adam([parameter], lr=lr, betas=betas, eps=eps)
        case "adamw":
            return torch.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=settings.weight_decay)
        case "sgd":
            return torch.optim.SGD([parameter], lr=lr)
        case "momentum":
            return torch.optim.SGD([parameter], lr=lr, momentum=settings.momentum)
        case "adagrad":
            return torch.optim.Adagrad([parameter], lr=lr, eps=eps)
        case "rmsprop":
            return torch.optim.RMSprop([parameter], lr=lr, alpha=settings.decay, eps=eps)


def torch_end(x: Tensor, settings: FirstOrderSettings, gradient: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Where torch's optimiser ends from x, on gradients that may depend on the epoch and the point."""
    parameter = torch.nn.Parameter(x.clone())
    optimiser = torch_optimiser(parameter, settings)
    for epoch in range(EPOCHS):
        parameter.grad = gradient(epoch, parameter.detach())
        optimiser.step()
    return parameter.detach()


def assert_equals_torch(data: FieldData, members: list[int], *, size: int) -> None:
    """Packs of `size` members against each member alone under torch's optimiser."""
    whole, starts = build(MEMBERS, data)
    for first in range(0, len(members), size):
        rows = members[first : first + size]
        engine, x = whole.keep(rows), starts[rows]
        packed = PackedFirstOrder([SETTINGS[row] for row in rows], x)
        for _ in range(EPOCHS):
            x = packed.step(x, engine.evaluate(x).gradient, list(range(len(rows))))
        for place, row in enumerate(rows):
            single, start = alone(whole, starts, row)
            expected = torch_end(start, SETTINGS[row], lambda _, x, single=single: single.evaluate(x).gradient)
            assert_close(engine.layout.unpack(x[place], place), expected[0], WEIGHTS, f"member {row}")


@pytest.mark.slow  # the coarse points below have the same four settings among all, and the whole 100 epochs
def test_adam_equals_torch_on_strb100(strb100: FieldData) -> None:
    assert_equals_torch(strb100, ADAM, size=4)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(12, marks=pytest.mark.slow)])
def test_each_optimiser_equals_torch(coarse: FieldData, size: int) -> None:
    """Fewer points, and the true gradients: rounding comes back through them."""
    assert_equals_torch(coarse, EVERYONE, size=size)


def test_equals_torch_in_float32() -> None:
    """To a few roundings of 6e-8 a step; a coefficient rounded too early (1 - 0.999f) would be 2e-5 off."""
    members = len(SETTINGS)
    gradients = torch.as_tensor(np.random.default_rng(2).standard_normal((EPOCHS, members, 9)), dtype=torch.float32)
    start = torch.zeros(members, 9)
    packed, x = PackedFirstOrder(SETTINGS, start), start
    for gradient in gradients:
        x = packed.step(x, gradient, list(range(members)))
    for row, settings in enumerate(SETTINGS):
        reference = torch_end(start[row], settings, lambda epoch, _, row=row: gradients[epoch, row])
        assert_close(x[row], reference, 2e-6, f"member {row}")  # 4e-7 seen


def by_epochs(
    settings: list[FirstOrderSettings], start: Tensor, gradients: Tensor, rows: Callable[[int], list[int]]
) -> tuple[Tensor, PackedFirstOrder]:
    """The points [members, size] after steps of the members `rows(epoch)` with `gradients` [epochs, members, size]."""
    packed, x = PackedFirstOrder(settings, start), start.clone()
    for epoch, gradient in enumerate(gradients):
        chosen = rows(epoch)
        x[chosen] = packed.step(x[chosen], gradient[chosen], chosen)
    return x, packed


EVERY_RULE = [
    *(replace(each, schedule="cosine", epochs=EPOCHS) for each in SETTINGS[::2]),
    *SETTINGS[1::2],
    FirstOrderSettings(convention="tf1"),
    FirstOrderSettings(convention="inside"),
    FirstOrderSettings(convention="tf1", optimiser="adamw"),
    FirstOrderSettings(convention="keras"),
    FirstOrderSettings(optimiser="adamw", weight_decay_form="l2"),
    FirstOrderSettings(bias_correction="none", ascends=True),
    FirstOrderSettings(convention="inside", bias_correction="first", rounds_to_float32=True),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_is_bit_for_bit_what_it_is_alone(dtype: torch.dtype) -> None:
    """Whatever the others are, whichever of them step, and however many zeros follow its parameters."""
    members, size = len(EVERY_RULE), 37
    generator = np.random.default_rng(5)
    gradients = torch.zeros(60, members, size + 11, dtype=dtype)
    numbers = generator.standard_normal((60, members, size)) * 10.0 ** generator.integers(-9, 2, size)
    gradients[:, :, :size] = torch.as_tensor(numbers)
    start = torch.zeros(members, size + 11, dtype=dtype)
    start[:, :size] = torch.as_tensor(generator.standard_normal((members, size)))
    order = generator.permutation(members).tolist()
    everyone, odd, mixed = list(range(members)), list(range(1, members, 2)), order[: members // 2]
    turns = [everyone, odd, everyone, mixed]
    together, _ = by_epochs(EVERY_RULE, start, gradients, lambda epoch: turns[epoch % 4])
    assert not together[:, size:].any(), "what lies behind a member's parameters stays zero"
    for row, settings in enumerate(EVERY_RULE):
        own = [epoch for epoch in range(60) if row in turns[epoch % 4]]
        only = slice(row, row + 1)
        alone, _ = by_epochs([settings], start[only, :size], gradients[own, only, :size], lambda _: [0])
        assert torch.equal(together[row, :size], alone[0]), f"member {row}: {settings.optimiser}"


def test_an_epsilon_of_zero_leaves_zeros_at_zero() -> None:
    """0/0 counts as 0, in a member that asks for it and beside it, and where float32 rounds epsilon to zero."""
    optimisers: tuple[Any, ...] = ("adam", "adamw", "adagrad", "rmsprop")
    settings = [FirstOrderSettings(0.1, eps=eps, optimiser=kind) for kind in optimisers for eps in (0.0, 1e-60, 1e-8)]
    settings.append(FirstOrderSettings(0.1, eps=0.0, convention="inside"))
    gradients = torch.zeros(3, len(settings), 4)
    gradients[:, :, 0] = 1.0
    x, _ = by_epochs(settings, torch.zeros(len(settings), 4), gradients, lambda _: list(range(len(settings))))
    assert (x[:, 0] < -0.01).all()
    assert not x[:, 1:].any()


@pytest.mark.parametrize("tick", [0, 1, 7])
def test_a_state_continues_bit_for_bit(tick: int) -> None:
    members = len(EVERY_RULE)
    everyone = list(range(members))
    gradients = torch.as_tensor(np.random.default_rng(3).standard_normal((12, members, 5)))
    start = torch.ones(members, 5, dtype=torch.float64)
    expected, whole = by_epochs(EVERY_RULE, start, gradients, lambda _: everyone)
    x, packed = by_epochs(EVERY_RULE, start, gradients[:tick], lambda _: everyone)
    resumed = PackedFirstOrder(EVERY_RULE, start)
    for row in everyone:
        values, tensors = packed.state(row)
        resumed.load(row, json.loads(json.dumps(values)), tensors)
    for gradient in gradients[tick:]:
        x = resumed.step(x, gradient, everyone)
    assert torch.equal(x, expected)
    assert torch.equal(resumed.m, whole.m) and torch.equal(resumed.v, whole.v)


def formula(settings: FirstOrderSettings, x: NDArray[Any], gradients: NDArray[np.float64]) -> NDArray[Any]:
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
    settings = [FirstOrderSettings(2e-3, 0.85, 0.995, 1e-7, convention) for convention in CONVENTIONS]
    start = generator.standard_normal((3, 9))
    x = torch.as_tensor(start)
    adam = PackedFirstOrder(settings, x)
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
    settings = [FirstOrderSettings(), FirstOrderSettings(0.01, convention="tf1")]
    adam = PackedFirstOrder(settings, x)
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
    settings = FirstOrderSettings(0.4, schedule="cosine", epochs=10)
    rates = [settings.lr_at(epoch) for epoch in range(10)]
    assert rates[0] == 0.4
    assert rates[5] == pytest.approx(0.2, rel=1e-15)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.01
    assert FirstOrderSettings(0.4).lr_at(10**6) == 0.4


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
    settings = FirstOrderSettings(1e-3, 0.9, 0.999, 1e-8, convention)
    after = PackedFirstOrder([settings], weights).step(weights, gradient, [0])
    assert [f"{value:.8f}" for value in after[0].tolist()] == [row[2] for row in table]


def test_a_root_that_is_not_a_number_is_told_whoever_else_is_there() -> None:
    """Second moments that overflow end a member; a companion without epsilon must not hide that."""
    settings = [FirstOrderSettings(eps=1e-8), FirstOrderSettings(eps=0.0)]
    x, gradient = torch.ones(2, 3), torch.tensor([[1e30, 1.0, 1.0], [0.0, 1.0, 1.0]])
    found = []
    for chosen in ([0], [0, 1]):
        optimiser = PackedFirstOrder([settings[row] for row in chosen], x[chosen])
        point = x[chosen]
        for _ in range(3):
            point = optimiser.step(point, gradient[chosen], range(len(chosen)))
        found.append(point)
    assert torch.equal(found[0][0].isnan(), found[1][0].isnan()) and found[0][0].isnan().any()
    assert torch.isfinite(found[1][1]).all()


KERAS = {  # of Keras 3.15.1 on TensorFlow 2.21.0: weights after 50 steps
    "float32": [
        0.1230425238609314,
        -0.13209539651870728,
        0.6403172016143799,
        0.10708630084991455,
        -0.5379735231399536,
        0.3617808222770691,
        1.3040168285369873,
    ],
    "float64": [
        0.12304254968739964,
        -0.1320954126435586,
        0.6403173468703627,
        0.10708632245764806,
        -0.5379734720976527,
        0.361780725513181,
        1.3040170365780268,
    ],
}


@pytest.mark.parametrize("dtype", KERAS)
@pytest.mark.parametrize("powers", ["rounded", None])
def test_keras_is_keras(dtype: str, powers: Literal["rounded"] | None) -> None:
    """Bit for bit, with the powers of betas that are rounded to float32, as on TensorFlow; as a setting in float32."""
    generator = np.random.default_rng(0)
    x = torch.as_tensor(generator.standard_normal(7).astype(dtype))[None]
    gradients = (generator.standard_normal((50, 7)) * 10.0 ** generator.integers(-9, 1, 7)).astype(dtype)
    adam = PackedFirstOrder([FirstOrderSettings(1e-3, eps=1e-7, convention="keras", powers=powers)], x)
    for gradient in gradients:
        x = adam.step(x, torch.as_tensor(gradient)[None], [0])
    if dtype == "float64" and powers is None:
        assert 1e-9 < np.abs(x[0].numpy() - KERAS[dtype]).max() < 1e-7
    else:
        assert x[0].tolist() == KERAS[dtype]


def test_l2_is_the_weight_decay_of_torch_adam() -> None:
    gradients = torch.as_tensor(np.random.default_rng(2).standard_normal((30, 1, 6)))
    theirs = torch.ones(1, 6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1)
    for gradient in gradients:
        theirs.grad = gradient
        optimiser.step()
    settings = FirstOrderSettings(0.01, optimiser="adamw", weight_decay=0.1, weight_decay_form="l2")
    ours, _ = by_epochs([settings], torch.ones(1, 6, dtype=torch.float64), gradients, lambda _: [0])
    assert_close(ours, theirs.detach(), 1e-15)
