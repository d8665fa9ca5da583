"""The base of problems: point sets with data, and a residual on each that reads like its equation."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]


class Jet(NamedTuple):
    """The network's output and its derivatives to the first two inputs, each of shape [..., points]."""

    value: Tensor
    x: Tensor
    y: Tensor
    laplacian: Tensor


@dataclass(frozen=True)
class PointSet:
    """The points of one loss term: network inputs [points, inputs] and data by name [points]."""

    term: str
    inputs: Array
    data: Mapping[str, Array]
    weight: float = 1.0


class Problem(abc.ABC):
    """An equation and its boundary conditions, in the units of the network.

    The loss is a weighted sum over the point sets: of L2 norms of the residual (`loss_form` "norm": neither averaged
    nor squared) or of mean squares ("mean_square").
    """

    name: ClassVar[str]
    settings: Any
    loss_form: str
    point_sets: tuple[PointSet, ...]

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of the loss terms, in the order of the point sets."""
        return tuple(points.term for points in self.point_sets)

    @property
    def inputs(self) -> int:
        """Return the number of network inputs."""
        return int(self.point_sets[0].inputs.shape[1])

    @property
    @abc.abstractmethod
    def data_sha256(self) -> str:
        """Return the hash of the problem's data."""

    @abc.abstractmethod
    def residual(self, term: str, u: Jet, data: Mapping[str, Tensor]) -> Tensor:
        """Return the residual at every point [..., points], pointwise in `u` and `data`: one call serves a pack."""

    @abc.abstractmethod
    def to_physical(self, output: Array) -> Array:
        """Return the physical quantity of the network's output."""

    @abc.abstractmethod
    def metrics(self, predict: Predictor) -> dict[str, float | None]:
        """Return the metrics of the trained network; their names are columns of the results."""

    @abc.abstractmethod
    def error(self, output: Array) -> float | None:
        """Return the relative L2 error of outputs [points] on the first point set, or None without a reference."""

    @abc.abstractmethod
    def field(self, output: Array) -> dict[str, Array]:
        """Return the predicted field on the first point set as named columns, with units in the names."""


class Predictor(abc.ABC):
    """A trained network, as a problem's metrics use it."""

    @abc.abstractmethod
    def value(self, inputs: Array) -> Array:
        """Return outputs [points] at network inputs [points, inputs]."""

    @abc.abstractmethod
    def residual(self, points: PointSet) -> Array:
        """Return the residual [points] of the problem on any points."""

    @abc.abstractmethod
    def input_gradient(self, inputs: Array) -> Array:
        """Return the derivatives [points, inputs] of the output to each input."""
