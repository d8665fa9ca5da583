"""The result of a trained member, and the trained network as its problem's metrics use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .advice import advice_on
from .engines import Engine
from .equations.channels import Channels
from .networks import Layers
from .optim import StopReason
from .problems import PointSet, Predictor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MemberResult:
    """The result of a member: metrics, curves, weights, field. Fields are physical.

    All but the curves are of the weights at the step `counts["kept_at"]`: the last ones, or the best held-out ones.

    `curves` maps column to array [rows]. `weights` maps the step (epochs of the first stage plus iterations of the
    second) to a flat vector. `seconds` are the member's share of its pack's time, by stage. `memory` is the form of the
    second stage's memory (None: SciPy keeps it). A member that failed has `failure` set, no metrics and no field.
    """

    label: int
    layers: Layers
    stop_reason: StopReason
    failure: str | None
    parameters: Array
    loss: float
    terms: dict[str, float]
    grad_norm: float
    metrics: dict[str, float | None]
    curves: dict[str, NDArray[Any]]
    weights: dict[int, Array]
    field: dict[str, Array]
    counts: dict[str, int]
    seconds: dict[str, float]
    engine: str
    memory: str | None
    device: str
    data_sha256: str

    @property
    def advice(self) -> str:
        """Return what happened at the end and what a user can do about it."""
        return advice_on(self.stop_reason, self.curves)


class MemberPredictor(Predictor):
    """One trained member, `row` of its engine, with parameters `x` [size]."""

    def __init__(self, engine: Engine, x: Tensor, row: int = 0) -> None:
        self._engine, self._x, self._row = engine, x, row

    def value(self, inputs: Array) -> Array:
        return self.channels(Channels(), PointSet("value", inputs, {}))[:, 0]

    def channels(self, channels: Channels, points: PointSet) -> Array:
        """Return channels without data columns [outputs, channels, points]."""
        none = np.zeros((0, len(points.inputs)))
        return _to_numpy(self._engine.channels(self._x, self._row, channels, points, none))

    def residual(self, group: int, points: PointSet) -> Array:
        return _to_numpy(self._engine.residuals(self._x, self._row, group, points))

    def input_gradient(self, inputs: Array) -> Array:
        return self._engine.slopes(self._x, self._row, PointSet("slopes", inputs, {}))


def _to_numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().cpu().numpy()
    return array
