"""Activations: values and three derivatives against torch's own functions, and against differences of each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pinncore import FieldData, SettingError
from pinncore.activations import ACTIVATIONS, activation_of
from pinncore.engines.reference import FUNCTIONS
from pinncore.networks import layer_sizes
from pinncore.results import MemberPredictor

from .helpers import assert_close, build

NAMES = sorted(ACTIVATIONS)
Z = torch.cat([torch.linspace(-40, 40, 1601, dtype=torch.float64), torch.linspace(-6, 6, 1201, dtype=torch.float64)])


def derivatives(name: str, z: Tensor) -> list[Tensor]:
    """The value and three derivatives, as an engine takes them."""
    sigma = activation_of(name)
    a = sigma.value(z)
    slopes = sigma.slopes(z, a)
    return [a, slopes.first.clone(), slopes.second.clone(), sigma.third(slopes)]


def by_autograd(name: str, z: Tensor) -> list[Tensor]:
    """The same by torch's own function and nested automatic differentiation."""
    z = z.clone().requires_grad_()
    found = [FUNCTIONS[name](z)]
    for _ in range(3):
        found += torch.autograd.grad(found[-1].sum(), z, create_graph=True)
    return [tensor.detach() for tensor in found]


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_those_of_autograd(name: str) -> None:
    """Absolutely: every one of them is of size 1, but silu and gelu themselves, which grow to 40."""
    for order, (found, expected) in enumerate(zip(derivatives(name, Z), by_autograd(name, Z), strict=True)):
        assert_close(found, expected, 1e-14, f"derivative {order}")  # 2e-15 seen


@pytest.mark.parametrize("name", NAMES)
def test_each_derivative_is_the_slope_of_the_one_before(name: str) -> None:
    """By central differences, which know no formula; steps of 1e-4 leave 1e-8."""
    step = 1e-4
    above, below, here = (derivatives(name, Z + shift) for shift in (step, -step, 0.0))
    for order in range(3):
        slope = (above[order] - below[order]) / (2 * step)
        assert (slope - here[order + 1]).abs().max() < 5e-8, f"derivative {order + 1}"


PLAIN = {
    "tanh": math.tanh,
    "sin": math.sin,
    "silu": lambda z: z / (1 + math.exp(-z)),
    "gelu": lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
}


@pytest.mark.parametrize("name", NAMES)
def test_values_by_the_mathematical_functions(name: str) -> None:
    """To the relative rounding, the small values on the left of silu and gelu included."""
    found = activation_of(name).value(Z)
    expected = torch.tensor([PLAIN[name](z) for z in Z.tolist()], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-300)
    assert torch.equal(found, derivatives(name, Z)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_zero_is_zero_so_padding_is_exact(name: str, dtype: torch.dtype) -> None:
    zero = torch.zeros(3, dtype=dtype)
    assert not activation_of(name).value(zero).any()
    found = derivatives(name, zero)
    assert not found[0].any()
    assert all(tensor.dtype == dtype and torch.isfinite(tensor).all() for tensor in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_may_be_written_over_its_argument(name: str) -> None:
    z = Z.clone()
    assert activation_of(name).value(z, out=z) is z
    assert torch.equal(z, activation_of(name).value(Z))


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_float64_to_its_rounding(name: str) -> None:
    z = Z[Z.abs() <= 6]
    for found, expected in zip(derivatives(name, z.float()), derivatives(name, z.float().double()), strict=True):
        assert_close(found, expected, 1e-6)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(SettingError, match=r"activation: must be one of tanh, sin, silu, gelu, got 'relu'"):
        activation_of("relu")


@pytest.mark.parametrize("name", NAMES)
def test_the_input_gradient_of_a_network(coarse: FieldData, name: str) -> None:
    """What metrics see of du/de: each column against differences of the outputs."""
    layers = layer_sizes(2, width=5, depth=3)
    engine, x = build([layers], coarse, activation=name, init="keras")
    predictor = MemberPredictor(engine, x[0])
    inputs, step = engine.problems[0].point_sets[0].inputs, 1e-5
    found = predictor.input_gradient(inputs)
    for column in range(2):
        shift = np.zeros(2)
        shift[column] = step
        slope = (predictor.value(inputs + shift) - predictor.value(inputs - shift)) / (2 * step)
        assert_close(found[:, :, column], slope, 1e-8, f"input {column}")
