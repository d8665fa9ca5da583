"""What is left of a trained member, and the trained network as its problem's metrics see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .engines import Engine
from .networks import Layers, unflatten
from .optim import StopReason
from .problems import Jet, PointSet, Predictor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MemberResult:
    """What is left of a member: judgement, curves, weights, field. Strains are physical, lengths in mm.

    `curves` maps column to array [rows]; `weights` maps the running epoch (Adam epochs, then L-BFGS iterations on top)
    to a flat vector; `seconds` are the member's share of its pack's time, by phase. A member that failed has
    `failure` set, no metrics and no field.
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
    device: str
    data_sha256: str


class MemberPredictor(Predictor):
    """One trained member, alone in its engine."""

    def __init__(self, engine: Engine, x: Tensor, layers: Layers) -> None:
        self._engine, self._x, self._layers = engine, x, layers

    def value(self, inputs: Array) -> Array:
        return _to_numpy(self._engine.jets(self._x, 0, PointSet("value", inputs, {}))[0])

    def residual(self, points: PointSet) -> Array:
        jet = Jet(*self._engine.jets(self._x, 0, points))
        data = {name: self._engine.as_tensor(values) for name, values in points.data.items()}
        return _to_numpy(self._engine.problems[0].residual(points.term, jet, data))

    def input_gradient(self, inputs: Array) -> Array:
        activation, slope = inputs, None
        weights = unflatten(self._engine.layout.unpack(self._x, 0), self._layers)
        for w, b in weights[:-1]:
            activation = np.tanh(activation @ w + b)
            slope = (w if slope is None else slope @ w) * (1 - activation**2)[:, None, :]
        w, _ = weights[-1]
        return (np.broadcast_to(w, (len(inputs), *w.shape)) if slope is None else slope @ w)[:, :, 0]


def _to_numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().cpu().numpy()
    return array
