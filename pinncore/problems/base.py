"""The base of problems: settings, loss terms, columns and metrics of one equation, in one class.

A subclass is a frozen record: its annotated fields are the settings, with rules and descriptions as annotations. What
tables, objectives, checks, pictures and pages need to know about a problem is read from its class.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from ..data.tables import OpenTable
from ..settings import check_rules

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
Line = tuple[tuple[float, float], tuple[float, float]]  # two positions


class Jet(NamedTuple):
    """The network's output and its derivatives to the first two inputs, each of shape [..., points]."""

    value: Tensor
    x: Tensor
    y: Tensor
    laplacian: Tensor


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


REL_L2 = Metric(
    "rel_l2",
    "Relative L2 error of the predicted field with respect to the reference; 0.01 is 1 %",
    needs_reference=True,
    is_percent=True,
    is_key=True,
)
HELDOUT_RESIDUAL = Metric(
    "heldout_residual",
    "RMS of the residual at points not used for training, divided by the RMS of its forcing there",
    is_key=True,
)


@dataclass(frozen=True)
class PointSet:
    """The points of one loss term.

    `inputs` [points, inputs] and `data` by symbol [points] are in the network's units; `columns` by name [points] are
    the same points in physical units.
    """

    term: str
    inputs: Array
    data: Mapping[str, Array]
    weight: float = 1.0
    columns: Mapping[str, Array] = field(default_factory=dict)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Problem(abc.ABC):
    """An equation and its boundary conditions, in the units of the network.

    The loss is a weighted sum over the point sets: of L2 norms of the residual (`loss_form` "norm": neither averaged
    nor squared) or of mean squares ("mean_square"). The first point set is where fields and errors are evaluated.
    """

    name: ClassVar[str]
    terms: ClassVar[tuple[str, ...]]  # of the loss, one for each point set
    term_meanings: ClassVar[Mapping[str, str]] = {}  # what terms measure, where the name does not say it
    quantity: ClassVar[str] = "solution"  # what the network's output is, in pictures and captions
    unit: ClassVar[str] = "1"  # of the output
    coordinates: ClassVar[tuple[Column, Column]]  # the first two inputs of the network
    known: ClassVar[tuple[Column, ...]] = ()  # data of the equation at points, which may be inputs too
    shown: ClassVar[tuple[Column, ...]] = ()  # data in the table fields, under these names
    metrics: ClassVar[tuple[Metric, ...]] = (REL_L2, HELDOUT_RESIDUAL)
    together: ClassVar[tuple[tuple[str, ...], ...]] = ()  # settings with rules that involve several of them
    data_settings: ClassVar[tuple[str, ...]] = ()  # decide the points and their data
    input_settings: ClassVar[tuple[str, ...]] = ()  # decide the inputs of the network
    pack_settings: ClassVar[tuple[str, ...] | None] = None  # equal in a pack, where one residual serves all; None: all
    loss_settings: ClassVar[tuple[str, ...]] = ()  # decide what the loss measures
    equation_settings: ClassVar[tuple[str, ...]] = ()  # decide which equation is solved
    mark: ClassVar[str] = "mark"  # what a line of `marks` is, in captions
    reference_advice: ClassVar[str] = "Give the problem a reference"  # where a metric needs one

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        check_rules(self)
        self.check()

    def check(self) -> None:  # noqa: B027 - most problems have no such rules
        """Check rules that involve several settings. Raises `SettingError`."""

    @classmethod
    def advice(cls, values: Callable[[str], tuple[Any, ...]]) -> Iterator[str]:
        """Yield a sentence on each choice that is allowed but likely to mislead; `values` are those of a setting."""
        yield from ()

    @classmethod
    def field_columns(cls) -> tuple[Column, ...]:
        """Return the columns of the table fields."""
        output = (Column("u", "predicted", cls.unit), Column("u_ref", "reference", cls.unit))
        return (*cls.coordinates, *output, *cls.shown)

    def reading(self, open_table: OpenTable) -> Problem:
        """Return the problem that opens users' tables with `open_table`; itself where it reads none."""
        return self

    @property
    def input_columns(self) -> tuple[Column, ...]:
        """Return the quantities that the network sees, in order; the first two are the coordinates."""
        return self.coordinates

    @property
    @abc.abstractmethod
    def point_sets(self) -> tuple[PointSet, ...]:
        """Return the points of each loss term, in the order of `terms`. Raises `DataError` where they are missing."""

    @abc.abstractmethod
    def residual(self, term: str, u: Jet, data: Mapping[str, Tensor]) -> Tensor:
        """Return the residual at every point [..., points], pointwise in `u` and `data`: one call serves a pack."""

    @property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Return centre and factor of each column by symbol: the network sees factor (value - centre)."""
        return {column.symbol: (0.0, 1.0) for column in (*self.coordinates, *self.known)}

    @property
    def output_factor(self) -> float:
        """Return the network's output over the physical quantity."""
        return 1.0

    @property
    def loss_form(self) -> str:
        """Return the form of every loss term: "norm" or "mean_square"."""
        return "norm"

    @property
    def held_out(self) -> PointSet | None:
        """Return points of the equation that are never trained on, or None."""
        return None

    @property
    def reference(self) -> Array | None:
        """Return the solution [points] on the first point set, physical, or None where it is not known."""
        return None

    @property
    def marks(self) -> tuple[Line, ...]:
        """Return lines to draw on fields, physical."""
        return ()

    @property
    def data_notes(self) -> tuple[str, ...]:
        """Return sentences on the data: their units and ranges, and what was done to them."""
        return ()

    @property
    def data_warnings(self) -> tuple[str, ...]:
        """Return sentences on data that are allowed but doubtful."""
        return ()

    def why_not(self, metric: str) -> str | None:
        """Return why a metric cannot be computed on these data, None where it can."""
        if any(record.name == metric and record.needs_reference for record in self.metrics):
            if self.reference is None:
                return "there is no reference"
            if not self.reference.any():
                return "the reference is 0 everywhere"
        if metric == HELDOUT_RESIDUAL.name and (self.held_out is None or not len(self.held_out.inputs)):
            return "there are no points to hold out"
        return None

    @cached_property
    def data_sha256(self) -> str:
        """Return the hash of the points with their data and the reference."""
        digest = hashlib.sha256()
        columns = [(points.term, points.columns) for points in self.point_sets]
        if self.reference is not None:
            columns.append(("reference", {"reference": self.reference}))
        for term, arrays in columns:
            for name, values in sorted(arrays.items()):
                digest.update(f"{term}/{name}".encode() + np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()

    def forcing(self, points: PointSet) -> Array:
        """Return what the residual is compared with [points], in the network's units."""
        return np.ones(len(points.inputs))

    @property
    def term_weights(self) -> Mapping[str, float]:
        """Return the factors of loss terms that are not 1."""
        return {}

    def points(self, term: str, columns: Mapping[str, Array]) -> PointSet:
        """Return physical points, by the names of columns, as the point set of a term; unknown data may be missing."""
        scaled = {}
        for column in (*self.coordinates, *self.known):
            if column.name in columns:
                centre, factor = self.scales[column.symbol]
                scaled[column.symbol] = factor * (columns[column.name] - centre)
        inputs = np.stack([scaled[column.symbol] for column in self.input_columns], axis=1)
        data = {column.symbol: scaled[column.symbol] for column in self.known if column.symbol in scaled}
        return PointSet(term, inputs, data, self.term_weights.get(term, 1.0), dict(columns))

    def to_physical(self, output: Array) -> Array:
        """Return the physical quantity of the network's output."""
        return output / self.output_factor

    def error(self, output: Array) -> float | None:
        """Return the relative L2 error of outputs [points] on the first point set, or None without a reference."""
        return None if self.reference is None else relative(self.to_physical(output), self.reference)

    def field(self, output: Array) -> dict[str, Array]:
        """Return the predicted field on the first point set, by the names of `field_columns`."""
        columns = self.point_sets[0].columns
        names = {column.symbol: column.name for column in self.known}
        return {
            **{column.name: columns[column.name] for column in self.coordinates},
            "predicted": self.to_physical(output),
            "reference": np.full(len(output), np.nan) if self.reference is None else self.reference,
            **{column.name: columns[names[column.symbol]] for column in self.shown},
        }

    def yardsticks(self, field: Mapping[str, Array]) -> tuple[Yardstick, ...]:
        """Return errors to compare a result with, from columns of `field`; none where there is no reference."""
        reference = field["reference"]
        if not len(reference) or not np.isfinite(reference).all() or not reference.any():
            return ()
        mean = np.full(len(reference), reference.mean())
        return (Yardstick("the best constant field", relative(mean, reference)),)

    def evaluate(self, predict: Predictor) -> dict[str, float | None]:
        """Return the metrics of a trained network by name; one that cannot be computed is None."""
        values: dict[str, float | None] = dict.fromkeys(metric.name for metric in self.metrics)
        output = predict.value(self.point_sets[0].inputs)
        values["rel_l2"] = self.error(output)
        if self.held_out is not None:
            values["heldout_residual"] = rms(predict.residual(self.held_out)) / rms(self.forcing(self.held_out))
        return values | self.measure(self.to_physical(output), predict)

    def measure(self, u: Array, predict: Predictor) -> dict[str, float | None]:
        """Return the metrics that only this problem has, from the physical output [points] on the first point set."""
        return {}


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


def rms(values: Array) -> float:
    """Return the root mean square of values of any shape."""
    return float(np.sqrt(np.mean(values**2)))


def relative(values: Array, reference: Array) -> float:
    """Return ||values - reference|| / ||reference||."""
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))
