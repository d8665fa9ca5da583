"""Traces: what a program recorded of a training, in plain arrays with a manifest.

Arrays of step n belong to the weights after n steps of the first stage; those of iteration k to the weights after k
iterations of the second. Names in a step, each of which may be missing:

    W1 [in, out], b1 [out], W2, ...       weights
    u, u_x, u_xx, laplacian, ... [points] prediction and derivatives at the points of the first loss term
    lrb/u_x, ... [points]                 the same at the points of another loss term
    loss_terms [terms], loss []           unweighted terms in the order of the problem, and their weighted sum
    grad_W1, ...                          gradient of the loss
    m_W1, v_W1, ...                       moments of the optimiser after n steps
    update_W1, ...                        weights after n + 1 steps minus those after n

and in an iteration: W1, ..., grad_W1, ..., loss, and of the search that follows direction_W1, ..., length [],
evaluations [], step_W1, ... Derivatives are to the inputs of the network, unless the manifest says `coordinates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..networks import Layers, flatten

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]

FORMAT: Final = "pinnsweep trace 1"


@dataclass(frozen=True)
class Trace:
    """A trace as it was read: float64 arrays of the numbers recorded, whatever their precision.

    `settings` are those of `TrainSettings` that the manifest states, `problem` those of the problem beside its `name`.
    Shapes are as recorded, except that biases are [out] and point arrays [points].
    """

    source: str  # the file
    framework: str
    version: str
    dtype: str  # float32 or float64
    layers: Layers
    settings: Mapping[str, Any]
    problem: Mapping[str, Any]
    derivatives: str = "inputs"  # or coordinates
    seed: int | None = None
    steps: Mapping[int, Arrays] = field(default_factory=dict)
    iterations: Mapping[int, Arrays] = field(default_factory=dict)
    loss_terms_by_step: Array | None = None  # [steps, terms], from step 0 on
    points: Mapping[str, Arrays] = field(default_factory=dict)  # by loss term, then by symbol: physical, [points]
    notes: tuple[str, ...] = ()  # how it was read, where that is not evident

    def vector(self, step: int, prefix: str = "") -> Array:
        """Return the flat vector [parameters] of the arrays W1, b1, ... of a step, or of those with a prefix."""
        arrays = self.steps[step]
        return flatten([(arrays[f"{prefix}W{k}"], arrays[f"{prefix}b{k}"]) for k in range(1, len(self.layers))])
