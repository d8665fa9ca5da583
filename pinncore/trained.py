"""A trained network as a function of position, in physical units: lengths in mm, strains dimensionless."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from .data import FieldData, Points
from .engines import Engine, choose_engine
from .errors import SettingError, WeightsError
from .networks import Layers, layer_sizes, parameter_count
from .problems import NonlocalStrain, NonlocalStrainSettings, PointSet
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
    length. `data` are read from `problem.data` unless given. Raises `WeightsError` where the parameters do not fit the
    network, `DataError` where the data cannot be read, `SettingError` where the device cannot be used.
    """

    def __init__(
        self,
        problem: NonlocalStrainSettings,
        train: TrainSettings,
        parameters: Array,
        *,
        data: FieldData | None = None,
        device: str = "cpu",
    ) -> None:
        self.train = train
        self.layers: Layers = layer_sizes(len(problem.inputs), width=train.width, depth=train.depth)
        self.parameters: Array = np.array(parameters, dtype=np.float64)
        expected = (parameter_count(self.layers),)
        if self.parameters.shape != expected:
            shape = "-".join(map(str, self.layers))
            raise WeightsError(
                f"parameters: a network {shape} has a vector of shape {expected}, got {self.parameters.shape}"
            )
        self.problem = NonlocalStrain(problem, data=data)
        self._device = choose_device(device)

    @property
    def activation(self) -> str:
        """Return the activation of the hidden layers."""
        return self.train.activation

    def predict(
        self, x_mm: ArrayLike, y_mm: ArrayLike, *, g_mm2: ArrayLike | None = None, elocal: ArrayLike | None = None
    ) -> Array:
        """Return the non-local strain [points], physical.

        `g_mm2` and `elocal` (physical) are needed where the network has them as inputs. Raises `SettingError` where one
        is missing.
        """
        points = self.points(x_mm, y_mm, g_mm2, elocal)
        return self.problem.to_physical(self._predictor.value(points.inputs))

    def gradient(
        self, x_mm: ArrayLike, y_mm: ArrayLike, *, g_mm2: ArrayLike | None = None, elocal: ArrayLike | None = None
    ) -> Array:
        """Return the derivatives of the strain to x and y [points, 2], per mm, other inputs held fixed."""
        points = self.points(x_mm, y_mm, g_mm2, elocal)
        _, x, y, _ = self._engine.jets(self._x, 0, points)
        slopes = torch.stack([x, y], dim=1).double().cpu().numpy()
        return self.problem.to_physical(slopes) * self.problem.scaling.length

    def residual(
        self, x_mm: ArrayLike, y_mm: ArrayLike, *, g_mm2: ArrayLike | None = None, elocal: ArrayLike | None = None
    ) -> Array:
        """Return the residual u - g (u_xx + u_yy) - e [points] of the equation of the training, as a physical strain.

        With scale_scope `consistent` that is the physical equation. Where `g_mm2` and `elocal` are not given, they are
        interpolated linearly between the Gauss points; the residual is NaN where that is impossible. Its RMS over that
        of `elocal` at `problem.data.held_out` is the metric heldout_residual.
        """
        x, y = _vector("x_mm", x_mm), _vector("y_mm", y_mm)
        if g_mm2 is None or elocal is None:
            between = self._between_gauss_points(x, y)
            g_mm2, elocal = (between[:, 0] if g_mm2 is None else g_mm2), (between[:, 1] if elocal is None else elocal)
        points = self.points(x, y, g_mm2, elocal)
        return self.problem.to_physical(self._predictor.residual(points))

    def covers(self, x_mm: ArrayLike, y_mm: ArrayLike) -> NDArray[np.bool_]:
        """Return whether points [points] lie where the network was trained; elsewhere its values are extrapolated.

        A point is covered in a triangle of training points whose longest edge is at most `REACH` times that of nearly
        all triangles. Points beyond the plate, in a hole or in a notch are not covered.
        """
        points = np.stack([_vector("x_mm", x_mm), _vector("y_mm", y_mm)], axis=1)
        if self._triangles is None:
            return np.zeros(len(points), dtype=bool)
        corners = self._triangles.points[self._triangles.simplices]
        longest_mm = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        is_short = longest_mm <= REACH * np.quantile(longest_mm, NEARLY_ALL)
        at = self._triangles.find_simplex(points, tol=ON_EDGE)
        return (at >= 0) & is_short[at]

    def metrics(self) -> dict[str, float | None]:
        """Return the metrics as at the end of its training: rel_l2, heldout_residual, ..."""
        return self.problem.metrics(self._predictor)

    def field(self) -> dict[str, Array]:
        """Return the predicted field at the Gauss points: x_mm, y_mm, predicted, reference, local, each [points]."""
        output = self._engine.outputs(self._x[None], [0])[0].double().cpu().numpy()
        return self.problem.field(output)

    def points(self, x_mm: ArrayLike, y_mm: ArrayLike, g_mm2: ArrayLike | None, elocal: ArrayLike | None) -> PointSet:
        """Return a point set of network inputs. Raises `SettingError` where an input is missing.

        `g_mm2` and `elocal` are zero where they are not given and the network does not need them.
        """
        x, y = _vector("x_mm", x_mm), _vector("y_mm", y_mm)
        columns = {"g": g_mm2, "elocal": elocal}
        missing = [name for name in self.problem.settings.inputs if name in columns and columns[name] is None]
        if missing:
            rule = f"must be given: the inputs of this network are {', '.join(self.problem.settings.inputs)}"
            raise SettingError(" and ".join(missing), None, rule)
        others = [np.zeros_like(x) if values is None else _vector(name, values) for name, values in columns.items()]
        if len({len(values) for values in (x, y, *others)}) > 1:
            raise SettingError("points", [len(values) for values in (x, y, *others)], "must be arrays of one length")
        return self.problem.points("residual", Points(x, y, *others), 1.0)

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
        data = self.problem.data
        places = [np.stack([table.x_mm, table.y_mm], axis=1) for table in (data.gauss, data.lrb, data.btb)]
        points = np.unique(np.concatenate(places), axis=0)
        return Delaunay(points) if np.linalg.matrix_rank(points - points[0]) == 2 else None

    def _between_gauss_points(self, x_mm: Array, y_mm: Array) -> Array:
        """Return g_mm2 and elocal at points, shape [points, 2]; NaN where they cannot be interpolated."""
        gauss = self.problem.data.gauss
        places = np.stack([gauss.x_mm, gauss.y_mm], axis=1)
        if np.linalg.matrix_rank(places - places[0]) < 2:
            return np.full((len(x_mm), 2), np.nan)
        between = LinearNDInterpolator(places, np.stack([gauss.g_mm2, gauss.elocal], axis=1))
        return np.asarray(between(np.stack([x_mm, y_mm], axis=1)))


def _vector(name: str, values: ArrayLike) -> Array:
    """Return numbers as an array [points]. Raises `SettingError` for more dimensions."""
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1:
        raise SettingError(name, list(array.shape), "must be one number or an array of shape [points]")
    return array
