"""The result of a trained member, and the trained network as its problem's metrics use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .activations import activation_of
from .advice import advice_on
from .engines import Engine
from .networks import Layers, unflatten
from .optim import StopReason
from .problems import Jet, PointSet, Predictor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MemberResult:
    """The result of a member: metrics, curves, weights, field. Strains are physical, lengths in mm.

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
        sigma = activation_of(self._engine.activation)
        weights = unflatten(self._engine.layout.unpack(self._x, 0), self._layers)
        for w, b in weights[:-1]:
            z = torch.as_tensor(activation @ w + b)
            value = sigma.value(z)
            first = sigma.slopes(z, value).first.numpy()
            activation, slope = value.numpy(), (w if slope is None else slope @ w) * first[:, None, :]
        w, _ = weights[-1]
        return (np.broadcast_to(w, (len(inputs), *w.shape)) if slope is None else slope @ w)[:, :, 0]


def _to_numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().cpu().numpy()
    return array
