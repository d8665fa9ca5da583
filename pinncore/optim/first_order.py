"""First-order optimisers of many members at once, each member with its own.

    sgd       x <- x - lr g
    momentum  m <- mu m + g,              x <- x - lr m                        heavy ball (Polyak 1964)
    adagrad   v <- v + g^2,               x <- x - lr g / (sqrt(v) + eps)      Duchi, Hazan, Singer (2011)
    rmsprop   v <- d v + (1 - d) g^2,     x <- x - lr g / (sqrt(v) + eps)      Tieleman, Hinton (2012)
    adam      m <- b1 m + (1 - b1) g,     v <- b2 v + (1 - b2) g^2             Kingma, Ba (2015)
              m^ = m/(1 - b1^t),          v^ = v/(1 - b2^t)
      torch   x <- x - lr m^ / (sqrt(v^) + eps)                                Algorithm 1
      tf1     x <- x - lr sqrt(1 - b2^t)/(1 - b1^t) m / (sqrt(v) + eps)        "epsilon hat", before section 2.1
      keras   as tf1, in the precision of the weights                          Keras 3
      inside  x <- x - lr m^ / sqrt(v^ + eps)                                  lectures
    adamw     x <- (1 - lr w) x, then adam                                     Loshchilov, Hutter (2019)
      l2      g <- g + w x, then adam                                          torch.optim.Adam(weight_decay=w)

`tf1` is the convention of TensorFlow 1: lr, b1, b2 and eps are rounded to float32, and the powers b1^t, b2^t are
float32 variables multiplied once per step, even where the weights are float64. Keras on TensorFlow rounds b1 and b2 to
float32 for their powers only (`powers` "rounded").

Every operation is elementwise, correctly rounded, and in the order written: a member's numbers depend neither on other
members nor on zeros behind its parameters, which stay zero (0/0, where eps is 0, counts as 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

# how b1^t and b2^t are computed: in double; in the precision of the weights, also from betas rounded to float32; as
# float32 variables, multiplied once a step
Powers = Literal["double", "weights", "rounded", "multiplied"]


@dataclass(frozen=True)
class FirstOrderSettings:
    """One member's optimiser; the cosine schedule falls to zero over `epochs` steps.

    `bias_correction` says which moments of Adam are corrected.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    convention: Literal["torch", "tf1", "keras", "inside"] = "torch"
    schedule: Literal["constant", "cosine"] = "constant"
    epochs: int = 1
    optimiser: Literal["adam", "adamw", "sgd", "momentum", "adagrad", "rmsprop"] = "adam"
    momentum: float = 0.9
    decay: float = 0.99
    weight_decay: float = 0.01
    weight_decay_form: Literal["decoupled", "l2"] = "decoupled"
    # mistakes, and conventions of other programs, which a replay of their traces needs
    bias_correction: Literal["both", "none", "first", "second"] = "both"
    rounds_to_float32: bool = False  # lr, betas and eps, as tf1 does
    powers: Powers | None = None  # None: as the convention has them
    ascends: bool = False  # the step is added

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of the step taken after `epoch` steps."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))

    @property
    def constants(self) -> tuple[float, ...]:
        """Return the constants of the optimiser's rule, which are the same at every step."""
        match self.optimiser:
            case "sgd":
                return (0.0,)
            case "momentum":
                return (self.momentum,)
            case "adagrad":
                return (1.0, 1.0, self.eps)
            case "rmsprop":
                return (self.decay, 1 - self.decay, self.eps)
        b1, b2, eps = map(self.rounded, (self.beta1, self.beta2, self.eps))
        return (1 - b1, 1 - b2, eps)

    def rounded(self, value: float) -> float:
        """Return a setting in the precision of the convention."""
        is_rounded = self.rounds_to_float32 or self.convention == "tf1"
        return float(np.float32(value)) if is_rounded else value

    @property
    def kind_of_powers(self) -> Powers:
        """Return how the powers of the betas are computed."""
        by_convention: dict[str, Powers] = {"tf1": "multiplied", "keras": "weights"}
        return self.powers or by_convention.get(self.convention, "double")

    @property
    def is_hat(self) -> bool:
        """Return whether epsilon is that of `epsilon hat`: the bias of v goes into the step size."""
        return self.convention in ("tf1", "keras")


class _Group(NamedTuple):
    """Members that step by one rule: their places, and the constants of the rule."""

    rule: Callable[[PackedFirstOrder, _Group, Tensor, Tensor], Tensor]
    rows: list[int]
    inputs: slice | Tensor  # their rows of the points and gradients handed in
    place: slice | Tensor  # their rows of the moments
    constants: tuple[Tensor, ...]  # each [rows, 1]
    inside: Tensor | None  # [rows, 1]: which have that convention; None: no member
    decays: bool  # whether one of them has weight decay
    couples: bool  # whether that of one is added to the gradient
    may_divide_zero: bool


class PackedFirstOrder:
    """First and second moments [members, size] and a step count for each member."""

    def __init__(self, settings: Sequence[FirstOrderSettings], like: Tensor) -> None:
        self.settings = list(settings)
        self.m, self.v = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = [0] * len(self.settings)
        self._powers = [(np.float32(1), np.float32(1)) for _ in self.settings]
        self._grouped: tuple[list[int], list[_Group]] = ([], [])

    def step(self, x: Tensor, gradient: Tensor, rows: Sequence[int]) -> Tensor:
        """Return new points [rows, size] from points and gradients of the members `rows`, and count the step."""
        rows = list(rows)
        if self._grouped[0] != rows:
            self._grouped = (rows, self._groups(rows))
        groups = self._grouped[1]
        if len(groups) == 1:
            return groups[0].rule(self, groups[0], x, gradient)
        following = torch.empty_like(x)
        for group in groups:
            following[group.inputs] = group.rule(self, group, x[group.inputs], gradient[group.inputs])
        return following

    def _heavy_ball(self, group: _Group, x: Tensor, gradient: Tensor) -> Tensor:
        (share,) = group.constants
        lr, *_ = self._coefficients(group, x)
        m = self.m[group.place]
        m.mul_(share).add_(gradient)
        self._store(group, m=m)
        return x - lr * m

    def _scaled(self, group: _Group, x: Tensor, gradient: Tensor) -> Tensor:
        decay, fresh, eps = group.constants
        lr, *_ = self._coefficients(group, x)
        v = self.v[group.place]
        v.mul_(decay).add_((gradient * gradient).mul_(fresh))
        self._store(group, v=v)
        return self._moved(group, x, lr * gradient, v.sqrt().add_(eps))

    def _adam(self, group: _Group, x: Tensor, gradient: Tensor) -> Tensor:
        fresh1, fresh2, eps = group.constants
        size, shrink, factor, share = self._coefficients(group, x)
        if group.couples:
            gradient = gradient + share * x
        m, v = self.m[group.place], self.v[group.place]
        m.add_((gradient - m).mul_(fresh1))
        v.add_((gradient * gradient).sub_(v).mul_(fresh2))
        self._store(group, m=m, v=v)
        root = v.sqrt().div_(shrink).add_(eps)
        if group.inside is not None:
            root = torch.where(group.inside, (v / (shrink * shrink)).add_(eps).sqrt_(), root)
        return self._moved(group, x * factor if group.decays else x, size * m, root)

    @staticmethod
    def _moved(group: _Group, x: Tensor, step: Tensor, root: Tensor) -> Tensor:
        step.div_(root)
        if group.may_divide_zero:
            step = torch.where(root == 0, torch.zeros_like(step), step)
        return x - step

    def _store(self, group: _Group, **moments: Tensor) -> None:
        """Write gathered rows of the moments back; a slice was already changed in place."""
        if not isinstance(group.place, slice):
            for name, values in moments.items():
                getattr(self, name).index_copy_(0, group.place, values)

    def _coefficients(self, group: _Group, x: Tensor) -> tuple[Tensor, ...]:
        """Return the numbers that change from step to step, each [rows, 1], and count the step.

        They are computed in double precision, then rounded to that of `x`: 1 - 0.999 in float32 is 5e-5 off.
        """
        columns = list(zip(*[self._next(row) for row in group.rows], strict=True))
        return torch.tensor(columns, dtype=x.dtype, device=x.device).unsqueeze(2).unbind(0)

    def ahead(self, rows: Sequence[int], count: int) -> tuple[list[int], Array, Array]:
        """Return what the next `count` steps of the members `rows` need, and count these steps.

        Rules [rows] as in step.cuh, constants [rows, 3], and coefficients [steps, rows, 4]: step size, root of the bias
        of v, factor of the weights, their share in the gradient; both in the precision of the moments.
        """
        settings, rules = [self.settings[row] for row in rows], []
        for each in settings:
            rule = _RULES[each.optimiser]
            rules.append(_DEVICE_RULES[rule] + (rule is PackedFirstOrder._adam and each.convention == "inside"))
        constants = np.zeros((len(rules), 3))
        for own, each in zip(constants, settings, strict=True):
            own[: len(each.constants)] = each.constants
        coefficients = np.array([[self._next(row) for row in rows] for _ in range(count)])
        dtype = np.float32 if self.m.dtype == torch.float32 else np.float64
        return rules, constants.astype(dtype), coefficients.astype(dtype)

    def _next(self, row: int) -> tuple[float, float, float, float]:
        """Return the member's step size, the root of the bias of v, the factor of the weights, their share in g."""
        settings = self.settings[row]
        lr = settings.lr_at(self.steps[row])
        self.steps[row] += 1
        sign = -1.0 if settings.ascends else 1.0
        if _RULES[settings.optimiser] is not PackedFirstOrder._adam:
            return (sign * lr, 1.0, 1.0, 0.0)
        lr = settings.rounded(lr)
        power1, power2 = self._next_powers(row, settings)
        bias1 = 1 - power1 if settings.bias_correction in ("both", "first") else 1.0
        shrink = math.sqrt(1 - power2) if settings.bias_correction in ("both", "second") else 1.0
        # "epsilon hat": the bias of v goes into the step size, eps is added to the raw root
        size, shrink = (lr * shrink / bias1, 1.0) if settings.is_hat else (lr / bias1, shrink)
        decay = settings.weight_decay if settings.optimiser == "adamw" else 0.0
        is_coupled = settings.weight_decay_form == "l2"
        return (sign * size, shrink, 1.0 if is_coupled else 1 - lr * decay, decay if is_coupled else 0.0)

    def _next_powers(self, row: int, settings: FirstOrderSettings) -> tuple[float, float]:
        """Return b1^t and b2^t for the step that is counted."""
        betas, count = (settings.beta1, settings.beta2), self.steps[row]
        match settings.kind_of_powers:
            case "multiplied":
                before = self._powers[row]
                self._powers[row] = (before[0] * np.float32(betas[0]), before[1] * np.float32(betas[1]))
                return float(self._powers[row][0]), float(self._powers[row][1])
            case "double":
                rounded = [settings.rounded(beta) for beta in betas]
                return rounded[0] ** count, rounded[1] ** count
            case kind:
                precise = np.float32 if self.m.dtype == torch.float32 else np.float64
                used = [np.float32(beta) if kind == "rounded" else beta for beta in betas]
                return float(precise(used[0]) ** count), float(precise(used[1]) ** count)

    def _groups(self, rows: Sequence[int]) -> list[_Group]:
        """Return the members `rows` grouped by their rules."""
        by_rule: dict[Any, list[int]] = {}
        for index, row in enumerate(rows):
            by_rule.setdefault(_RULES[self.settings[row].optimiser], []).append(index)
        return [self._group(rule, rows, indices) for rule, indices in by_rule.items()]

    def _group(self, rule: Any, rows: Sequence[int], indices: list[int]) -> _Group:
        chosen, device = [rows[index] for index in indices], self.m.device
        settings = [self.settings[row] for row in chosen]
        table = torch.tensor([setting.constants for setting in settings], dtype=self.m.dtype, device=device)
        inside = [rule is PackedFirstOrder._adam and setting.convention == "inside" for setting in settings]
        return _Group(
            rule,
            chosen,
            _place(indices, device),
            _place(chosen, device),
            table.T.unsqueeze(2).unbind(0),
            torch.tensor(inside, device=device)[:, None] if any(inside) else None,
            any(setting.optimiser == "adamw" for setting in settings),
            any(setting.optimiser == "adamw" and setting.weight_decay_form == "l2" for setting in settings),
            rule is not PackedFirstOrder._heavy_ball and not bool(table[:, 2].all()),
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all members except `rows`."""
        place = torch.as_tensor(rows, device=self.m.device)
        self.m, self.v = self.m[place], self.v[place]
        for name in ("settings", "steps", "_powers"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])
        self._grouped = ([], [])

    def state(self, row: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return plain values and tensors from which `load` continues exactly."""
        values = {"steps": self.steps[row], "powers": [float(power) for power in self._powers[row]]}
        return values, {"m": self.m[row], "v": self.v[row]}

    def load(self, row: int, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`."""
        self.steps[row] = values["steps"]
        self._powers[row] = (np.float32(values["powers"][0]), np.float32(values["powers"][1]))
        self.m[row], self.v[row] = tensors["m"], tensors["v"]


_RULES = {
    "sgd": PackedFirstOrder._heavy_ball,
    "momentum": PackedFirstOrder._heavy_ball,
    "adagrad": PackedFirstOrder._scaled,
    "rmsprop": PackedFirstOrder._scaled,
    "adam": PackedFirstOrder._adam,
    "adamw": PackedFirstOrder._adam,
}
_DEVICE_RULES = {PackedFirstOrder._heavy_ball: 0, PackedFirstOrder._scaled: 1, PackedFirstOrder._adam: 2}


def _place(rows: Sequence[int], device: torch.device) -> slice | Tensor:
    """Return rows as a slice where they are consecutive, which reads and writes without a copy."""
    if list(rows) == list(range(rows[0], rows[-1] + 1)):
        return slice(rows[0], rows[-1] + 1)
    return torch.as_tensor(rows, dtype=torch.int64, device=device)
