"""A trained network as a function of position, in the physical units of its problem's columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from .engines import Engine, choose_engine
from .errors import SettingError, WeightsError
from .networks import Layers, layer_sizes, parameter_count
from .problems import PointSet, Problem
from .results import MemberPredictor
from .settings import TrainSettings
from .training import DTYPES, choose_device

Array = NDArray[np.float64]

REACH = 2.0  # a triangle with an edge longer than this times a usual edge spans a gap between the training points
NEARLY_ALL = 0.95  # share of the triangles that are usual
ON_EDGE = 1e-9  # share of a triangle by which a point on the edge of the plate may be outside, by rounding


class TrainedNetwork:
    """A network with its weights, the problem it was trained on, and the scaling between the two.

    `parameters` is the flat vector [parameters] of `MemberResult.parameters`, float64. The network is evaluated in the
    precision and by the engine of its training, so its numbers are those of its metrics. Points are arrays of one
    length: the coordinates in order, or every column by its name (`x_mm=...`). Raises `WeightsError` where the
    parameters do not fit the network, `DataError` where the data cannot be read, `SettingError` where the device cannot
    be used.
    """

    def __init__(self, problem: Problem, train: TrainSettings, parameters: Array, *, device: str = "cpu") -> None:
        self.train, self.problem = train, problem
        self.layers: Layers = layer_sizes(len(problem.input_columns), width=train.width, depth=train.depth)
        self.parameters: Array = np.array(parameters, dtype=np.float64)
        expected = (parameter_count(self.layers),)
        if self.parameters.shape != expected:
            shape = "-".join(map(str, self.layers))
            raise WeightsError(
                f"parameters: a network {shape} has a vector of shape {expected}, got {self.parameters.shape}"
            )
        self._device = choose_device(device)

    @property
    def activation(self) -> str:
        """Return the activation of the hidden layers."""
        return self.train.activation

    def predict(self, *coordinates: ArrayLike, **columns: ArrayLike) -> Array:
        """Return the problem's quantity [points], physical.

        Data at points are needed where the network has them as inputs. Raises `SettingError` where a column is missing
        or unknown.
        """
        return self.problem.to_physical(self._predictor.value(self.points(*coordinates, **columns).inputs))

    def gradient(self, *coordinates: ArrayLike, **columns: ArrayLike) -> Array:
        """Return the derivatives to both coordinates [points, 2], per their unit, other inputs held fixed."""
        _, *slopes, _ = self._engine.jets(self._x, 0, self.points(*coordinates, **columns))
        factors = [self.problem.scales[column.symbol][1] for column in self.problem.coordinates]
        return self.problem.to_physical(torch.stack(slopes, dim=1).double().cpu().numpy()) * factors

    def residual(self, *coordinates: ArrayLike, **columns: ArrayLike) -> Array:
        """Return the residual [points] of the equation of the training, in the unit of the output.

        Data that are not given are interpolated linearly between the training points; the residual is NaN where that is
        impossible. At `problem.held_out` its RMS over that of the forcing is the metric heldout_residual.
        """
        given = self._named(coordinates, columns)
        missing = [column.name for column in self.problem.known if column.name not in given]
        if missing:
            given |= dict(zip(missing, self._interpolated(missing, given).T, strict=True))
        return self.residual_at(self.points(**given))

    def residual_at(self, points: PointSet) -> Array:
        """Return the residual [points] at points of the problem, in the unit of the output."""
        return self.problem.to_physical(self._predictor.residual(points))

    def covers(self, *coordinates: ArrayLike) -> NDArray[np.bool_]:
        """Return whether points [points] lie where the network was trained; elsewhere its values are extrapolated.

        A point is covered in a triangle of training points whose longest edge is at most `REACH` times that of nearly
        all triangles. Points beyond the domain, in a hole or in a notch are not covered.
        """
        points = self._positions(self._named(coordinates, {}))
        if self._triangles is None:
            return np.zeros(len(points), dtype=bool)
        corners = self._triangles.points[self._triangles.simplices]
        longest_mm = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        is_short = longest_mm <= REACH * np.quantile(longest_mm, NEARLY_ALL)
        at = self._triangles.find_simplex(points, tol=ON_EDGE)
        return (at >= 0) & is_short[at]

    def metrics(self) -> dict[str, float | None]:
        """Return the metrics as at the end of its training: rel_l2, heldout_residual, ..."""
        return self.problem.evaluate(self._predictor)

    def field(self) -> dict[str, Array]:
        """Return the predicted field at the training points, each column [points], as in the table fields."""
        output = self._engine.outputs(self._x[None], [0])[0].double().cpu().numpy()
        return self.problem.field(output)

    def points(self, *coordinates: ArrayLike, **columns: ArrayLike) -> PointSet:
        """Return a point set of network inputs. Raises `SettingError` where an input is missing or unknown."""
        given = self._named(coordinates, columns)
        names = [column.name for column in self.problem.input_columns]
        if missing := [name for name in names if name not in given]:
            rule = f"must be given: the inputs of this network are {', '.join(names)}"
            raise SettingError(" and ".join(missing), None, rule)
        return self.problem.points(self.problem.terms[0], given)

    def _named(self, coordinates: tuple[ArrayLike, ...], columns: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return points by the names of columns. Raises `SettingError` for unknown names and unequal lengths."""
        known = [column.name for column in (*self.problem.coordinates, *self.problem.known)]
        positional = dict(zip(known, coordinates, strict=False))
        for name in columns:
            if name not in known or name in positional:
                raise SettingError(name, None, f"must be one of {', '.join(known)}, each given once")
        given = {
            name: _vector(name, values) for name, values in {**positional, **columns}.items() if values is not None
        }
        if len({len(values) for values in given.values()}) > 1:
            raise SettingError("points", [len(values) for values in given.values()], "must be arrays of one length")
        return given

    def _positions(self, columns: Mapping[str, Array]) -> Array:
        return np.stack([columns[column.name] for column in self.problem.coordinates], axis=1)

    @cached_property
    def _engine(self) -> Engine:
        kind = choose_engine(self.train.engine, self._device)
        return kind(
            [self.problem],
            kind.arrange([self.layers]),
            dtype=DTYPES[self.train.dtype],
            device=self._device,
            activation=self.train.activation,
            allow_tf32=self.train.allow_tf32,
        )

    @cached_property
    def _x(self) -> torch.Tensor:
        engine = self._engine
        return engine.layout.pack([self.parameters], dtype=engine.dtype, device=engine.device)[0]

    @property
    def _predictor(self) -> MemberPredictor:
        return MemberPredictor(self._engine, self._x, self.layers)

    @cached_property
    def _triangles(self) -> Delaunay | None:
        """Return the triangles between all training points; None where all points lie on one line."""
        places = [self._positions(points.columns) for points in self.problem.point_sets]
        points = np.unique(np.concatenate(places), axis=0)
        return Delaunay(points) if np.linalg.matrix_rank(points - points[0]) == 2 else None

    def _interpolated(self, names: list[str], given: Mapping[str, Array]) -> Array:
        """Return data [points, names] between the points of the first term; NaN where that is impossible."""
        places, trained = self._positions(given), self.problem.point_sets[0].columns
        corners = self._positions(trained)
        if np.linalg.matrix_rank(corners - corners[0]) < 2:
            return np.full((len(places), len(names)), np.nan)
        between = LinearNDInterpolator(corners, np.stack([trained[name] for name in names], axis=1))
        return np.asarray(between(places))


def _vector(name: str, values: ArrayLike) -> Array:
    """Return numbers as an array [points]. Raises `SettingError` for more dimensions."""
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1:
        raise SettingError(name, list(array.shape), "must be one number or an array of shape [points]")
    return array
