"""A trained network as a function of position, in the physical units of its problem's columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import sympy as sp
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from .engines import Engine, engine_for
from .equations.channels import Channels
from .equations.evaluation import evaluated, without_arguments
from .errors import SettingError, WeightsError
from .geometry import Table
from .member import Member
from .networks import Layers, parameter_count
from .problems import Column, PointSet, Problem
from .problems.columns import rms
from .results import MemberPredictor
from .settings import TrainSettings
from .training import DTYPES, choose_device

Array = NDArray[np.float64]
Values = Array | dict[str, Array]  # of the only output or equation; of several by their symbols or names

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
        self._member = Member(train, problem)
        self.layers: Layers = self._member.layers
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

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return what must be given at a point: the network's inputs, and data that hard conditions need."""
        problem = self.problem
        symbols = {str(symbol) for output in problem.written.outputs.values() for symbol in output.free_symbols}
        more = (column for column in problem.known if column.symbol in symbols and column not in problem.input_columns)
        return (*problem.input_columns, *more)

    def predict(self, *coordinates: ArrayLike, **columns: ArrayLike) -> Values:
        """Return the problem's output [points], physical; several outputs as arrays by their symbols.

        Data at points are needed where the network has them as inputs. Raises `SettingError` where a column is missing
        or unknown.
        """
        points = self.points(*coordinates, **columns)
        return self._by_output(self.problem.to_physical(self._predictor.value(points.inputs), points))

    def gradient(self, *coordinates: ArrayLike, **columns: ArrayLike) -> Values:
        """Return the derivatives to the coordinates [points, coordinates], per their unit, other inputs held fixed.

        Those of several outputs are arrays by their symbols.
        """
        points, written = self.points(*coordinates, **columns), self.problem.written
        axes = range(len(written.coordinates))
        channels = self._predictor.channels(Channels(tuple(axes)), points)
        named, slopes = {}, {}
        for number, (field, values) in enumerate(zip(written.fields, channels, strict=True)):
            named[without_arguments(field).name] = values[0]
            for axis in axes:
                slopes[sp.Derivative(field, written.coordinates[axis])] = sp.Symbol(f"slope_{number}_{axis}")
                named[f"slope_{number}_{axis}"] = values[1 + axis]
        expressions = tuple(
            without_arguments(sp.diff(output, coordinate).xreplace(slopes))
            for output in written.outputs.values()
            for coordinate in written.coordinates
        )
        found = evaluated(expressions, {**points.values, **self.problem.symbol_values(), **named})
        return self._by_output(found.reshape(len(written.outputs), len(axes), -1).transpose(0, 2, 1))

    def residual(self, *coordinates: ArrayLike, **columns: ArrayLike) -> Values:
        """Return the residual [points] of the equation as it is written; those of several equations by their names.

        Data that are not given are interpolated linearly between the training points; the residual is NaN where that is
        impossible.
        """
        given = self._named(coordinates, columns)
        missing = [column.symbol for column in self.problem.known if column.symbol not in given]
        if missing:
            given |= dict(zip(missing, self._interpolated(missing, given).T, strict=True))
        return self.residual_at(self._points(given))

    def residual_at(self, points: PointSet) -> Values:
        """Return the residual [points] of the equation at points of the problem; of several equations by name."""
        problem = self.problem.pointwise
        found: dict[str, Array] = {}
        usable: NDArray[np.bool_] = np.all([np.isfinite(values) for values in points.values.values()], axis=0)
        inside = PointSet(points.name, points.inputs[usable], {n: v[usable] for n, v in points.values.items()})
        for index, group in enumerate(problem.groups):
            if group.terms[0] in problem.written.equations:
                values = np.full((len(group.terms), len(usable)), np.nan)
                if usable.any():
                    values[:, usable] = self._pointwise_predictor.residual(index, inside)
                sizes = [problem.residual_sizes.get(term, 1.0) for term in group.terms]
                found |= dict(zip(group.terms, values * np.array(sizes)[:, None], strict=True))
        return found if len(found) != 1 else next(iter(found.values()))

    def scaled_residuals(self, points: PointSet) -> dict[str, Array]:
        """Return the residual [points] of each equation at points of the problem, by its name.

        It is divided by the RMS of its forcing there, where the problem has one.
        """
        problem, found = self.problem.pointwise, self.residual_at(points)
        names = [term for term in problem.terms if term in problem.written.equations]
        residuals = found if isinstance(found, dict) else {names[0]: found}
        forcing = rms(problem.forcing(points))
        return {name: values / (forcing * problem.residual_sizes.get(name, 1.0)) for name, values in residuals.items()}

    def loss(self) -> float:
        """Return the loss on all points of the problem."""
        return float(self._engine.evaluate(self._x[None]).loss)

    def raw(self, points: PointSet) -> Array:
        """Return the outputs of the bare network [outputs, points] at points of the problem."""
        return self._predictor.value(points.inputs)

    def covers(self, *coordinates: ArrayLike) -> NDArray[np.bool_]:
        """Return whether points [points] lie where the network was trained; elsewhere its values are extrapolated.

        That is the problem's domain. Without one, a point is covered in a triangle of training points whose longest
        edge is at most `REACH` times that of nearly all triangles; points beyond them, in a hole or in a notch are not
        covered. With one coordinate, it is the range of the training points.
        """
        given, domain = self._named(coordinates, {}), self.problem.domain
        if domain is not None and not isinstance(domain, Table):
            return np.asarray(domain.contains(given))
        places, trained = self._places(given), self._trained_places
        if trained.shape[1] == 1:
            return np.asarray((places[:, 0] >= trained.min()) & (places[:, 0] <= trained.max()))
        if self._triangles is None:
            return np.zeros(len(places), dtype=bool)
        corners = self._triangles.points[self._triangles.simplices]
        edges = np.linalg.norm(corners[:, :, None] - corners[:, None], axis=3)
        longest = edges.max(axis=(1, 2))
        is_short = longest <= REACH * np.quantile(longest, NEARLY_ALL)
        at = self._triangles.find_simplex(places, tol=ON_EDGE)
        return np.asarray((at >= 0) & is_short[at])

    def metrics(self) -> dict[str, float | None]:
        """Return the metrics as at the end of its training: rel_l2, heldout_residual, ..."""
        return self.problem.evaluate(self._predictor)

    def field(self) -> dict[str, Array]:
        """Return the predicted fields at the field points, each column [points], as in the table fields."""
        return self.problem.field(self._engine.outputs(self._x[None], [0])[0].double().cpu().numpy())

    def points(self, *coordinates: ArrayLike, **columns: ArrayLike) -> PointSet:
        """Return a point set of network inputs. Raises `SettingError` where an input is missing or unknown."""
        return self._points(self._named(coordinates, columns))

    def _points(self, given: Mapping[str, Array]) -> PointSet:
        if missing := [column.name for column in self.columns if column.symbol not in given]:
            names = ", ".join(column.name for column in self.columns)
            raise SettingError(" and ".join(missing), None, f"must be given: the inputs of this network are {names}")
        return self.problem.at("given", given)

    def _named(self, coordinates: tuple[ArrayLike, ...], columns: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return points by symbol. Raises `SettingError` for unknown names and unequal lengths."""
        symbols = {column.name: column.symbol for column in (*self.problem.coordinates, *self.problem.known)}
        positional = dict(zip(symbols, coordinates, strict=False))
        for name in columns:
            if name not in symbols or name in positional:
                raise SettingError(name, None, f"must be one of {', '.join(symbols)}, each given once")
        given = {
            symbols[name]: _vector(name, values)
            for name, values in {**positional, **columns}.items()
            if values is not None
        }
        if len({len(values) for values in given.values()}) > 1:
            raise SettingError("points", [len(values) for values in given.values()], "must be arrays of one length")
        return given

    def _by_output(self, values: Array) -> Values:
        if len(values) == 1:
            only: Array = values[0]
            return only
        return {column.symbol: each for column, each in zip(self.problem.outputs, values, strict=True)}

    def _places(self, values: Mapping[str, Array]) -> Array:
        """Return coordinates [points, coordinates] for distances: those of the network where units differ."""
        columns, scales = self.problem.coordinates, self.problem.scales
        has_one_unit = len({column.unit for column in columns}) == 1
        factors = [1.0 if has_one_unit else scales[column.symbol][1] for column in columns]
        return np.stack([f * values[c.symbol] for f, c in zip(factors, columns, strict=True)], axis=1)

    @cached_property
    def _engine(self) -> Engine:
        return self._engine_of(self.problem)

    def _engine_of(self, problem: Problem) -> Engine:
        kind = engine_for(Member(self.train, problem), self._device)
        return kind(
            [problem],
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
        return MemberPredictor(self._engine, self._x)

    @cached_property
    def _pointwise_predictor(self) -> MemberPredictor:
        """Return the network for residuals at points, which its own loss may not have."""
        problem = self.problem.pointwise
        return self._predictor if problem is self.problem else MemberPredictor(self._engine_of(problem), self._x)

    @cached_property
    def _trained_places(self) -> Array:
        """Return the places of all training points, each once."""
        return np.unique(
            np.concatenate([self._places(points.values) for points in self.problem.pointwise.point_sets]), axis=0
        )

    @cached_property
    def _triangles(self) -> Delaunay | None:
        """Return the triangles between all training points; None where all points lie on one line."""
        points = self._trained_places
        return Delaunay(points) if np.linalg.matrix_rank(points - points[0]) == points.shape[1] else None

    def _interpolated(self, names: list[str], given: Mapping[str, Array]) -> Array:
        """Return data [points, names] between the points of the first group; NaN where that is impossible."""
        places, trained = self._places(given), self.problem.pointwise.point_sets[0].values
        corners, data = self._places(trained), np.stack([trained[name] for name in names], axis=1)
        if corners.shape[1] == 1:
            order = np.argsort(corners[:, 0])
            columns = [np.interp(places[:, 0], corners[order, 0], each[order], np.nan, np.nan) for each in data.T]
            return np.stack(columns, axis=1)
        if np.linalg.matrix_rank(corners - corners[0]) < corners.shape[1]:
            return np.full((len(places), len(names)), np.nan)
        return np.asarray(LinearNDInterpolator(corners, data)(places))


def _vector(name: str, values: ArrayLike) -> Array:
    """Return numbers as an array [points]. Raises `SettingError` for more dimensions."""
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1:
        raise SettingError(name, list(array.shape), "must be one number or an array of shape [points]")
    return array
