"""Records that describe a problem: columns of points, metrics, yardsticks, point sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Line = tuple[tuple[float, float], tuple[float, float]]  # two positions


@dataclass(frozen=True)
class Column:
    """A quantity at points: its symbol in the equation, its name in tables, its unit, other names in users' tables."""

    symbol: str
    name: str
    unit: str = "1"
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A number that says how good a trained network is; the smaller the better where it is an objective.

    People see it in per cent where it is a relative error (`is_percent`), and in short lists where it is a key metric.
    """

    name: str
    meaning: str
    unit: str = "1"
    needs_reference: bool = False
    is_percent: bool = False
    is_key: bool = False
    is_objective: bool = True


class Yardstick(NamedTuple):
    """A relative L2 error to compare others with: of a guess that needs no training, or a limit of the data."""

    what: str
    rel_l2: float
    is_limit: bool = False


_FEW: Final = 4  # outputs up to which short lists of trials show the error of each

REL_L2 = Metric(
    "rel_l2",
    "Relative L2 error of the predicted field with respect to the reference; 0.01 is 1 %",
    needs_reference=True,
    is_percent=True,
    is_key=True,
)
MAX_ERROR = Metric(
    "max_error",
    "Largest error at a point, relative to the largest reference value",
    needs_reference=True,
    is_percent=True,
)
HELDOUT_RESIDUAL = Metric(
    "heldout_residual",
    "RMS of the residual at points not used for training, divided by the RMS of its forcing there",
    is_key=True,
)
TRAINED_RESIDUAL = Metric(
    "trained_residual",
    "The same at the points of the training; where `heldout_residual` is a multiple of it, the network overfits",
    is_objective=False,
)
SPREAD = Metric(
    "spread",
    "Standard deviation of the prediction over that of the reference, the smallest of several outputs; near 0 the "
    "prediction is constant",
    needs_reference=True,
    is_objective=False,
)
OVER_CONSTANT = Metric(
    "over_constant",
    "`rel_l2` over that of the best constant field; from 1 on the prediction is no better than a constant",
    needs_reference=True,
    is_objective=False,
)


def metrics_of(outputs: tuple[str, ...]) -> tuple[Metric, ...]:
    """Return the metrics that every problem with these outputs has."""
    each = tuple(
        Metric(
            f"rel_l2_{output}",
            f"`rel_l2` of the output {output} alone",
            needs_reference=True,
            is_percent=True,
            is_key=len(outputs) <= _FEW,
        )
        for output in outputs
    )
    return (
        REL_L2,
        *(each if len(outputs) > 1 else ()),
        MAX_ERROR,
        HELDOUT_RESIDUAL,
        TRAINED_RESIDUAL,
        SPREAD,
        OVER_CONSTANT,
    )


@dataclass(frozen=True)
class PointSet:
    """Points of loss terms: `inputs` [points, network inputs] in the network's units, `values` by symbol [points].

    `values` are physical: coordinates, known data, on boundaries the outward normal.
    """

    name: str
    inputs: Array
    values: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.inputs)


def rms(values: Array) -> float:
    """Return the root mean square of values of any shape."""
    return float(np.sqrt(np.mean(values**2)))


def relative(values: Array, reference: Array) -> float:
    """Return ||values - reference|| / ||reference||."""
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))
