"""Adam (Kingma and Ba 2015) on many members at once, in the three epsilon conventions found in the field.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   m^ = m/(1 - b1^t),   v^ = v/(1 - b2^t)
    torch   x <- x - lr m^ / (sqrt(v^) + eps)                                       Algorithm 1
    tf1     x <- x - lr sqrt(1 - b2^t)/(1 - b1^t) m / (sqrt(v) + eps)               "epsilon hat", before section 2.1
    inside  x <- x - lr m^ / sqrt(v^ + eps)                                         lectures

`tf1` is TensorFlow 1's whole convention: lr, b1, b2 and eps are rounded to float32, and the powers b1^t, b2^t are
float32 variables multiplied once a step, even where the weights are float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamSettings:
    """One member's Adam; `epochs` is the length over which the cosine schedule falls to zero."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    convention: Literal["torch", "tf1", "inside"] = "torch"
    schedule: Literal["constant", "cosine"] = "constant"
    epochs: int = 1

    def lr_at(self, epoch: int) -> float:
        """Learning rate of the step taken after `epoch` steps."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


class PackedAdam:
    """First and second moments [members, size] and a step count for each member."""

    def __init__(self, settings: Sequence[AdamSettings], like: Tensor) -> None:
        self.settings = list(settings)
        self.m, self.v = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = [0] * len(self.settings)
        self._powers = [(np.float32(1), np.float32(1)) for _ in self.settings]

    def step(self, x: Tensor, gradient: Tensor, rows: Sequence[int]) -> Tensor:
        """New points [rows, size] from points and gradients of the members `rows`."""
        place = torch.as_tensor(rows, device=x.device)
        fresh1, fresh2, eps, size, shrink = self._coefficients(rows, x)
        m, v = self.m[place], self.v[place]
        m = m + (gradient - m) * fresh1
        v = v + (gradient * gradient - v) * fresh2
        self.m[place], self.v[place] = m, v
        inside = torch.as_tensor([self.settings[row].convention == "inside" for row in rows], device=x.device)[:, None]
        root = torch.where(inside, (v / shrink**2 + eps).sqrt(), v.sqrt() / shrink + eps)
        return x - size * m / root

    def _coefficients(self, rows: Sequence[int], x: Tensor) -> tuple[Tensor, ...]:
        """1 - b1, 1 - b2, eps, step size and the root of the bias of v, each [rows, 1]; counts the step.

        All in double precision before they are rounded to that of `x`: 1 - 0.999 in float32 is 5e-5 off.
        """
        table = []
        for row in rows:
            settings = self.settings[row]
            lr, b1, b2, eps = settings.lr_at(self.steps[row]), settings.beta1, settings.beta2, settings.eps
            self.steps[row] += 1
            if settings.convention == "tf1":
                lr, b1, b2, eps = (float(np.float32(value)) for value in (lr, b1, b2, eps))
                self._powers[row] = (self._powers[row][0] * np.float32(b1), self._powers[row][1] * np.float32(b2))
                power1, power2 = (float(power) for power in self._powers[row])
                # "epsilon hat": the bias of v goes into the step size, eps is added to the raw root
                table.append((1 - b1, 1 - b2, eps, lr * math.sqrt(1 - power2) / (1 - power1), 1.0))
            else:
                count = self.steps[row]
                table.append((1 - b1, 1 - b2, eps, lr / (1 - b1**count), math.sqrt(1 - b2**count)))
        return torch.tensor(table, dtype=x.dtype, device=x.device).T[:, :, None].unbind(0)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all members but `rows`."""
        place = torch.as_tensor(rows, device=self.m.device)
        self.m, self.v = self.m[place], self.v[place]
        for name in ("settings", "steps", "_powers"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])

    def state(self, row: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values and tensors that `load` takes back exactly."""
        values = {"steps": self.steps[row], "powers": [float(power) for power in self._powers[row]]}
        return values, {"m": self.m[row], "v": self.v[row]}

    def load(self, row: int, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`."""
        self.steps[row] = values["steps"]
        self._powers[row] = (np.float32(values["powers"][0]), np.float32(values["powers"][1]))
        self.m[row], self.v[row] = tensors["m"], tensors["v"]
