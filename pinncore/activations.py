"""Activations of the hidden layers: value and first three derivatives, each zero at zero.

sigma(0) = 0 makes zero padding exact: a padded unit has zero activation and adds nothing to other units.

    tanh    a = tanh z     s' = 1 - a^2          s'' = -2 a s'           s''' = -2 (s'^2 + a s'')
    sin     a = sin z      s' = cos z            s'' = -a                s''' = -s'
    silu    a = z p        s' = p + z p'         s'' = 2 p' + z p''      s''' = 3 p'' + z p'''
            p the logistic function, q = 1 - 2 p:  p' = p (1 - p),  p'' = p' q,  p''' = p' (q^2 - 2 p')
    gelu    a = z P        s' = P + z f          s'' = f (2 - z^2)       s''' = f z (z^2 - 4)
            f and P the density and the distribution function of the normal distribution, P by the error function
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .errors import SettingError


class Slopes(NamedTuple):
    """First and second derivative at some points, and the tensors that `third` computes the third one from."""

    first: Tensor
    second: Tensor
    kept: tuple[Tensor, ...]


class Activation(abc.ABC):
    """A function of one variable on tensors of any shape."""

    name: ClassVar[str]

    @abc.abstractmethod
    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return sigma(z), written to `out` if given; `out` may be `z`."""

    @abc.abstractmethod
    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        """Return sigma'(z) and sigma''(z) from z and a = sigma(z)."""

    @abc.abstractmethod
    def third(self, slopes: Slopes) -> Tensor:
        """Return sigma'''(z), a new tensor."""


class Tanh(Activation):
    name = "tanh"

    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.tanh(z, out=out)

    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        first = torch.addcmul(_one(z), a, a, value=-1)
        return Slopes(first, torch.mul(a, first).mul_(-2), (a,))

    def third(self, slopes: Slopes) -> Tensor:
        first, second, (a,) = slopes
        return torch.mul(first, first).addcmul_(a, second).mul_(-2)


class Sin(Activation):
    name = "sin"

    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.sin(z, out=out)

    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        return Slopes(torch.cos(z), -a, ())

    def third(self, slopes: Slopes) -> Tensor:
        return -slopes.first


class Silu(Activation):
    name = "silu"

    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.mul(z, torch.sigmoid(z), out=out)

    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        p = torch.sigmoid(z)
        p1 = torch.addcmul(p, p, p, value=-1)
        q = torch.add(_one(z), p, alpha=-2)
        p2 = p1 * q
        return Slopes(torch.addcmul(p, z, p1), torch.mul(z, p2).add_(p1, alpha=2), (z, p1, q, p2))

    def third(self, slopes: Slopes) -> Tensor:
        z, p1, q, p2 = slopes.kept
        p3 = torch.mul(q, q).add_(p1, alpha=-2).mul_(p1)
        return p3.mul_(z).add_(p2, alpha=3)


class Gelu(Activation):
    name = "gelu"

    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.mul(z, _normal(z), out=out)

    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        square = z * z
        density = torch.mul(square, -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
        return Slopes(_normal(z).addcmul_(z, density), (2 - square).mul_(density), (z, square, density))

    def third(self, slopes: Slopes) -> Tensor:
        z, square, density = slopes.kept
        return torch.sub(square, 4).mul_(density).mul_(z)


def _normal(z: Tensor) -> Tensor:
    """Return the normal distribution function, by erfc, which keeps its relative accuracy for small values."""
    return torch.erfc(z * -math.sqrt(0.5)).mul_(0.5)


def _one(like: Tensor) -> Tensor:
    return torch.ones((), dtype=like.dtype, device=like.device)


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({kind.name: kind() for kind in (Tanh, Sin, Silu, Gelu)})


def activation_of(name: str) -> Activation:
    """Return the activation called `name`. Raises `SettingError` for an unknown one."""
    if name not in ACTIVATIONS:
        raise SettingError("activation", name, f"must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
