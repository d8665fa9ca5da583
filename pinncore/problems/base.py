"""The base of problems: settings, equation, conditions, points, columns and metrics, in one class.

A subclass is a frozen record: its annotated fields are the settings, with rules and descriptions as annotations. What
tables, objectives, checks, pictures and pages need to know about a problem is read from its class; the equation and the
conditions are SymPy expressions, from which everything that engines evaluate follows.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast, dataclass_transform

import numpy as np
from typing_extensions import Doc

from ..data.tables import OpenTable
from ..errors import DataError, PinnError, ProblemError, SettingError
from ..settings import (
    PositiveFloat,
    PositiveInt,
    check_rules,
    hints,
)
from .columns import (
    HELDOUT_RESIDUAL,
    TRAINED_RESIDUAL,
    Array,
    Column,
    Line,
    Metric,
    PointSet,
    Yardstick,
    metrics_of,
    relative,
    rms,
)
from .declaring import (
    FIXED_SAMPLERS,
    Sampled,
    bare,
    base_settings,
    check_class,
    class_error,
    columns_of,
    is_literal,
    output_columns,
    sampled_settings,
)

if TYPE_CHECKING:
    from ..equations.channels import Group
    from ..equations.conditions import Condition
    from ..equations.texts import Text
    from ..equations.writing import Written
    from ..geometry import Region
    from .structure import Structure

HELD_OUT_POINTS = 2048
FIELD_POINTS = (10_000, 10_404, 10_816, 10_201, 9_216)  # about; where a grid of the training has one of them, the next
_CONSTANT = 1e-9  # relative standard deviation up to which a reference is a constant
_HELD_OUT_STREAM = 2**31  # of random numbers, beside those of the points that are trained on
_OF_ALL_ROUNDS = ("scales", "field_points", "solution", "held_out", "_reference", "_concrete", "_structure")
_HANDED_IN = ("open_table", "reference_store", "round", "tables")  # that copies keep

ReferenceStore = Callable[[str, Callable[[], dict[str, Array]]], dict[str, Array]]


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem(abc.ABC):
    """Equations and conditions for the outputs of a network, in physical units.

    The loss is a weighted sum over the loss terms, one for each equation and condition: of mean squares of residuals
    (`loss` "mean_square") or of their L2 norms ("norm": neither averaged nor squared).
    """

    name: ClassVar[str]
    coordinates: ClassVar[Any]  # {name: unit}; after the class is made a tuple of `Column`, as the next three
    outputs: ClassVar[Any]
    known: ClassVar[Any] = ()  # data of the equation at points
    shown: ClassVar[Any] = ()  # data in the table fields, under these names
    domain: ClassVar[Any] = None  # a `Region`, or a property that returns one
    term_meanings: ClassVar[Mapping[str, str]] = {}  # what terms measure, where the name does not say it
    quantity: ClassVar[str] = ""  # what the network's first output is, in pictures and captions
    metrics: ClassVar[tuple[Metric, ...]]
    together: ClassVar[tuple[tuple[str, ...], ...]] = ()  # settings with rules that involve several of them
    data_settings: ClassVar[tuple[str, ...]] = ()  # decide the points and their data
    point_settings: ClassVar[tuple[str, ...]] = ()  # decide which points are made of the data
    input_settings: ClassVar[tuple[str, ...]] = ()  # decide the inputs of the network
    pack_settings: ClassVar[tuple[str, ...] | None] = None  # equal in a pack; None: all that are not floats
    loss_settings: ClassVar[tuple[str, ...]] = ()  # decide what the loss measures
    equation_settings: ClassVar[tuple[str, ...]] = ()  # decide which equation is solved
    sized: ClassVar[tuple[str, ...]] = ()  # outputs with a reference size, `output_sizes`
    referenced: ClassVar[tuple[str, ...]] = ()  # loss terms with a reference size, `residual_sizes`
    mark: ClassVar[str] = "mark"  # what a line of `marks_of` is, in captions
    marks_of: ClassVar[Mapping[str, tuple[Line, ...]]] = {}  # lines to draw on fields, by the name of the data
    guesses: ClassVar[Mapping[str, str]] = {}  # fields that need no training: what they are, and their column in fields
    limits: ClassVar[Mapping[str, Yardstick]] = {}  # errors that an exact solution leaves, by the name of the data
    known_advice: ClassVar[str] = ""  # what to do where known data are much larger than in training
    reference_advice: ClassVar[str] = "Give the problem a reference"  # where a metric needs one

    loss: Annotated[
        Literal["mean_square", "norm"],
        Doc("Form of every loss term: mean_square, or norm (the L2 norm, neither averaged nor squared)."),
    ] = "mean_square"
    scale_factor: Annotated[
        PositiveFloat, Doc("The network sees every coordinate mapped to [-scale_factor, scale_factor].")
    ] = 1.0
    batch: Annotated[
        PositiveInt | None,
        Doc(
            "Points of every loss term in an epoch of the first stage, drawn anew; null takes all. The second stage "
            "always takes all."
        ),
    ] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if inspect.isabstract(cls):
            return
        if not hasattr(cls, "coordinates"):
            raise class_error(cls, "it needs coordinates, which the network sees, such as coordinates = {'x': 'm'}")
        for group in ("coordinates", "outputs", "known", "shown"):
            setattr(cls, group, columns_of(cls, group))
        cls.__annotations__ = {**_inherited(cls), **inspect.get_annotations(cls)}
        if cls.domain is not None:
            for name in sampled_settings():
                setattr(cls, name, getattr(cls, name, vars(Sampled)[name]))
            cls.data_settings = tuple(dict.fromkeys((*cls.data_settings, "points_table")))
            cls.together = tuple(dict.fromkeys((*cls.together, ("points_sampler", "resample_every"))))
        symbols = tuple(column.symbol for column in cls.outputs)
        if not hasattr(cls, "metrics"):
            cls.metrics = metrics_of(symbols)
        cls.quantity = cls.quantity or next(iter(symbols), "")
        try:
            dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        except (TypeError, ValueError) as problem:
            raise class_error(cls, str(problem)) from None
        check_class(cls)

    def __post_init__(self) -> None:
        check_rules(self)
        self._check_points()
        self.check()

    # what a subclass writes

    @abc.abstractmethod
    def equations(self, *arguments: Any) -> Any:
        """Return the residuals of the equations by name, in outputs, coordinates and known data."""

    def conditions(self, *arguments: Any) -> Any:
        """Return the conditions, a list of `Condition`."""
        return []

    def transform(self, *arguments: Any) -> Any:
        """Return outputs that fulfil conditions by construction, by name, in the plain outputs; None: as they are."""
        return None

    def reference(self, *arguments: Any) -> Any:
        """Return the solution: expressions in the coordinates, by output, a `Table`, or a function of arrays."""
        return None

    def check(self) -> None:  # noqa: B027 - most problems have no such rules
        """Check rules that involve several settings. Raises `SettingError`."""

    def _check_points(self) -> None:
        sampler, every = getattr(self, "points_sampler", None), getattr(self, "resample_every", None)
        if every is not None and sampler in FIXED_SAMPLERS:
            raise SettingError(
                "resample_every",
                every,
                f"must be null where points_sampler is {sampler}, which always gives the same points",
                "Leave resample_every out, or use points_sampler: sobol.",
            )

    @classmethod
    def advice(cls, values: Callable[[str], tuple[Any, ...]]) -> Iterator[str]:
        """Yield a sentence on each choice that is allowed but likely to mislead; `values` are those of a setting."""
        yield from ()

    @property
    def output_sizes(self) -> Mapping[str, float]:
        """Return the reference size of each output in `sized`: the network's output is multiplied by it."""
        return {}

    @property
    def residual_sizes(self) -> Mapping[str, float]:
        """Return the reference size of each loss term in `referenced`: its residual is divided by it."""
        return {}

    # what follows from the class

    @classmethod
    def title(cls) -> str:
        """Return the first line of the class's description, else of its file's."""
        text = cls.__dict__.get("__doc__") or ""
        if not text or text.startswith(f"{cls.__name__}("):  # what dataclasses write
            text = sys.modules[cls.__module__].__doc__ or cls.__name__
        return text.strip().partition("\n")[0]

    @classmethod
    def field_columns(cls) -> tuple[Column, ...]:
        """Return the columns of the table fields."""
        return (*cls.coordinates, *output_columns(cls.outputs), *cls.shown)

    @classmethod
    def equation_texts(cls) -> Mapping[str, Text]:
        """Return every loss term for people, by name, with the settings at their defaults. Raises `ProblemError`."""
        return cls().written.texts

    @classmethod
    def float_settings(cls) -> tuple[str, ...]:
        """Return the settings that are symbols in equations."""
        return tuple(name for name, hint in hints(cls).items() if bare(hint) is float)

    @classmethod
    def term_names(cls) -> tuple[str, ...]:
        """Return the loss terms of all choices of its settings, in order. Raises `ProblemError`."""
        names = dict.fromkeys(cls().terms)  # of the defaults
        for name, hint in hints(cls).items():
            if name in base_settings(cls):
                continue
            choices = (True, False) if bare(hint) is bool else typing.get_args(bare(hint)) if is_literal(hint) else ()
            for choice in choices:
                names |= dict.fromkeys(cls(**{name: choice}).terms)
        return tuple(names)

    def reading(self, open_table: OpenTable) -> Self:
        """Return the problem that opens users' tables with `open_table`."""
        return self._with(open_table=open_table)

    def storing(self, store: ReferenceStore) -> Self:
        """Return the problem that keeps a reference which takes time by `store(key, compute)`."""
        return self._with(reference_store=store)

    def at_round(self, number: int) -> Self:
        """Return the problem with the points drawn for the `number`th time, from 0."""
        if self.domain is None or number == vars(self).get("round", 0):
            return self
        again = self._with(round=number)
        vars(again).update({name: vars(self)[name] for name in _OF_ALL_ROUNDS if name in vars(self)})
        return again

    def _with(self, **values: Any) -> Self:
        problem = dataclasses.replace(self)
        kept = {name: vars(self)[name] for name in _HANDED_IN if name in vars(self)}
        vars(problem).update(kept, **values)
        return problem

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of the loss terms in the order of the groups. Raises `ProblemError`."""
        return tuple(term for group in self.groups for term in group.terms)

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the factor of each loss term."""
        found = {condition.name: self._weight(condition) for condition in self._concrete}
        return tuple(found.get(term, 1.0) for term in self.terms)

    def _weight(self, condition: Condition) -> float:
        weight = condition.weight
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            raise self._structure.writer.error(
                "conditions", f"{condition.name}: weight must be a number of at least 0, not {weight!r}"
            )
        return float(weight)

    @property
    def loss_form(self) -> str:
        """Return the form of every loss term: "norm", "mean_square" or, of coupled groups, "energy"."""
        return self.loss

    @property
    def coupling(self) -> Any:
        """Return the sparse matrix [points, points] M of the coupled group, where the loss form is "energy"."""
        raise NotImplementedError  # of problems that have a coupled group

    @property
    def formulation_advice(self) -> str:
        """Return what to do where the exact minimiser of the loss has most of the error."""
        return "Use more points, other weights of the conditions, or another form of the equation"

    @property
    def pointwise(self) -> Problem:
        """Return the problem with the same solution whose loss terms are residuals at points."""
        return self

    @property
    def groups(self) -> tuple[Group, ...]:
        """Return the residuals at common points that engines evaluate. Raises `ProblemError`."""
        return self._structure.groups(self.loss_form)

    @property
    def written(self) -> Written:
        """Return equations and conditions in symbols. Raises `ProblemError`."""
        return self._structure.written

    @cached_property
    def _structure(self) -> Structure:
        from .structure import Twin, structure_of

        structure = {name: value for name, value in vars(self).items() if name not in self.float_settings()}
        fields = {field.name for field in dataclasses.fields(self)} - set(base_settings(type(self)))
        key = json.dumps({name: value for name, value in structure.items() if name in fields}, default=str)
        return structure_of(type(self), key, Twin(self))

    @cached_property
    def _concrete(self) -> tuple[Condition, ...]:
        """Return the conditions with their regions and weights as numbers."""
        return self._structure.writer.conditions_of(self)

    def symbol_values(self) -> dict[str, float]:
        """Return the numbers of all symbols that are the same at all points, by name."""
        values = {name: float(getattr(self, name)) for name in self.float_settings()}
        values |= {f"size_{name}": size for name, size in self.output_sizes.items() if name in self.sized}
        return values | {
            f"factor_{name}": 1 / size for name, size in self.residual_sizes.items() if name in self.referenced
        }

    def group_columns(self, index: int, points: PointSet) -> Array:
        """Return the data columns [columns, points] of a group. Raises `ProblemError` where one is not finite."""
        group = self.groups[index]
        values = self._evaluated(group.columns, points)
        if not np.isfinite(values).all():
            column, at = np.argwhere(~np.isfinite(values))[0]
            place = ", ".join(f"{c.symbol} = {points.values[c.symbol][at]:g}" for c in self.coordinates)
            raise self._structure.writer.error(
                "equations" if group.terms[0] in self.written.equations else "conditions",
                f"{' and '.join(group.terms)}: {group.columns[column]} is not finite at {place}",
            )
        return values

    def group_parameters(self, index: int) -> Array:
        """Return the parameters [parameters] of a group. Raises `ProblemError` where one is not finite."""
        group = self.groups[index]
        values = self._evaluated(group.parameters, None)[:, 0] if group.parameters else np.zeros(0)
        if not np.isfinite(values).all():
            expression = group.parameters[int(np.argmin(np.isfinite(values)))]
            raise self._structure.writer.error(
                "equations", f"{' and '.join(group.terms)}: {expression} is not finite for these settings"
            )
        return values

    def _evaluated(self, expressions: tuple[Any, ...], points: PointSet | None, **more: Array) -> Array:
        from ..equations.evaluation import evaluated

        return evaluated(expressions, {**(points.values if points else {}), **self.symbol_values(), **more})

    def check_at_points(self) -> None:
        """Raise `ProblemError` where a term has no points or no finite numbers there, or a weight is none."""
        _ = self.weights
        for index, points in enumerate(self.point_sets):
            self.group_columns(index, points)
            self.group_parameters(index)

    # points

    @property
    def input_columns(self) -> tuple[Column, ...]:
        """Return the quantities that the network sees, in order; the first are the coordinates."""
        return self.coordinates

    @cached_property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Return centre and factor of each input by symbol: the network sees factor (value - centre)."""
        scales = {}
        for name, (low, high) in self._limits.items():
            half = (high - low) / 2
            scales[name] = (low + half, self.scale_factor / half if half > 0 else self.scale_factor)
        return scales

    @property
    def _limits(self) -> Mapping[str, tuple[float, float]]:
        from ..geometry import Table

        limits: Mapping[str, tuple[float, float]] = self._region.limits
        names = [column.symbol for column in self.coordinates]
        if isinstance(self.domain, Table):  # it may have columns of data and outputs beside them
            limits = {name: limits[name] for name in names if name in limits}
        if sorted(limits) != sorted(names):
            raise class_error(
                type(self), f"domain must be one of the coordinates {', '.join(names)}, not of {', '.join(limits)}"
            )
        return limits

    @property
    def seeds(self) -> Array:
        """Return the derivative [coordinates] of each network input to its coordinate."""
        return np.array([self.scales[column.symbol][1] for column in self.coordinates])

    def at(self, name: str, values: Mapping[str, Array]) -> PointSet:
        """Return physical points by symbol as a point set; known data that are no inputs may be missing."""
        scaled = [
            self.scales[column.symbol][1] * (values[column.symbol] - self.scales[column.symbol][0])
            for column in self.input_columns
        ]
        return PointSet(name, np.stack(scaled, axis=1), values)

    @property
    def _open_table(self) -> OpenTable | None:
        return vars(self).get("open_table")

    @property
    def _region(self) -> Region:
        return self._opened(self.domain)

    def _opened(self, region: Region) -> Region:
        """Return a region as a part of the domain; tables start at the folder of the problem's file."""
        from ..geometry import Table

        if self.domain is None:
            raise class_error(type(self), "it needs a domain, such as domain = Box(x=(0, 1))")
        if isinstance(region, Table):
            file = getattr(sys.modules[type(self).__module__], "__file__", None) or "."
            region = region.beside(Path(file).absolute().parent)
            return region.reading(self._open_table) if self._open_table else region
        return region.within(self.domain)

    @cached_property
    def point_sets(self) -> tuple[PointSet, ...]:
        """Return the points of each group. Raises `DataError` where they are missing."""
        conditions = {condition.name: condition for condition in self._concrete}
        sets: dict[str, PointSet] = {}
        for group in self.groups:
            term = group.terms[0]
            name = term if term in conditions else ""  # all equations have the same points
            if name not in sets:
                sets[name] = self._inside if not name else self._on(conditions[name], len(sets))
        return tuple(sets[group.terms[0] if group.terms[0] in conditions else ""] for group in self.groups)

    @property
    def _inside(self) -> PointSet:
        from ..geometry import Table

        settings, region = cast(Any, self), self._region
        if settings.points_sampler != "table":
            drawn = region.draw(settings.points, settings.points_sampler, self._seed(0), what="domain")
            return self.at("inside", self._complete("inside", drawn))
        if settings.points_table is None:
            raise SettingError("points_table", None, "must name a file where points_sampler is table")
        return self.at("inside", self._complete("inside", self._opened(Table(settings.points_table)).draw(1, "", 0)))

    def _on(self, condition: Condition, number: int) -> PointSet:
        settings: Any = self
        writer = self._structure.writer
        if condition.on is None:
            raise writer.error("conditions", f"{condition.name}: it needs on=, the region it stands on")
        sampler = "sobol" if settings.points_sampler == "table" else settings.points_sampler
        count = condition.points or settings.condition_points
        try:
            drawn = self._opened(condition.on).draw(
                count, sampler, self._seed(number), what=f"condition {condition.name}"
            )
            return self.at(condition.name, self._complete(condition.name, drawn))
        except PinnError as problem:
            raise writer.error("conditions", str(problem)) from None

    def _seed(self, *stream: int) -> tuple[int, ...]:
        return (getattr(self, "points_seed", 0), vars(self).get("round", 0), *stream)

    def _complete(self, name: str, drawn: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return drawn points. Raises `DataError` where there are none, or a coordinate is missing."""
        missing = [column.symbol for column in self.coordinates if column.symbol not in drawn]
        if missing:
            raise DataError(f"{self.name}: the points of {name} have no {missing[0]}")
        if not len(drawn[self.coordinates[0].symbol]):
            raise DataError(f"{self.name}: {name} has no points")
        return drawn

    @cached_property
    def field_points(self) -> PointSet:
        """Return the points where fields and errors are evaluated, none of them trained on."""
        from ..geometry import Table, field_grid

        if isinstance(self._reference, Table):
            return self.at("fields", self._complete("fields", self._opened(self._reference).draw(1, "", 0)))
        grids = (self.at("fields", field_grid(self._region, about)) for about in FIELD_POINTS)
        if getattr(self, "points_sampler", None) != "grid":
            return next(grids)
        trained = {place for points in self.point_sets for place in map(tuple, points.inputs.tolist())}
        return next(points for points in grids if trained.isdisjoint(map(tuple, points.inputs.tolist())))

    @cached_property
    def held_out(self) -> tuple[tuple[int, PointSet], ...]:
        """Return points of the equations that are never trained on, each with the index of its group."""
        groups = [index for index, group in enumerate(self.groups) if group.terms[0] in self.written.equations]
        known = {column.symbol for column in self.known}
        needed = {
            str(each) for index in groups for column in self.groups[index].columns for each in column.free_symbols
        }
        if not groups or known & needed:  # known at the points of tables alone
            return ()
        drawn = self._region.draw(HELD_OUT_POINTS, "sobol", (getattr(self, "points_seed", 0), 0, _HELD_OUT_STREAM))
        points = self.at("held out", drawn)
        return tuple((index, points) for index in groups)

    @cached_property
    def data_sha256(self) -> str:
        """Return the hash of the points with their data."""
        digest = hashlib.sha256()
        for points in self.point_sets:
            for name, values in sorted(points.values.items()):
                digest.update(f"{points.name}/{name}".encode() + np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()

    @property
    def data_notes(self) -> tuple[str, ...]:
        """Return sentences on the data: their units and ranges, and what was done to them."""
        return ()

    @property
    def data_warnings(self) -> tuple[str, ...]:
        """Return sentences on data that are allowed but doubtful."""
        return ()

    # results

    def to_physical(self, raw: Array, points: PointSet) -> Array:
        """Return the physical outputs [outputs, points] of the network's at points."""
        if tuple(self.written.outputs.values()) == self.written.fields:
            return raw
        from ..equations.evaluation import without_arguments

        names = (without_arguments(field).name for field in self.written.fields)
        outputs = tuple(without_arguments(output) for output in self.written.outputs.values())
        return self._evaluated(outputs, points, **dict(zip(names, raw, strict=True)))

    @cached_property
    def _reference(self) -> Any:
        """Return what the class's reference gives: None, expressions by output, a table or a function."""
        writer = self._structure.writer
        return writer.call("reference", self, writer.coordinates)

    @cached_property
    def solution(self) -> Array | None:
        """Return the reference [outputs, points] on `field_points`, physical; None where it is not known."""
        found = self._reference
        if found is None:
            return None
        from ..equations.evaluation import reference_values
        from ..geometry import Table

        store: ReferenceStore = vars(self).get("reference_store", lambda key, compute: compute())
        names = tuple(column.symbol for column in self.outputs)
        try:
            return reference_values(
                found, names, self.field_points, store, self._reference_key, is_table=isinstance(found, Table)
            )
        except ProblemError as problem:
            raise self._structure.writer.error("reference", str(problem)) from None

    @property
    def _reference_key(self) -> str:
        own = {name: getattr(self, name) for name in hints(type(self)) if name not in base_settings(type(self))}
        try:
            source = inspect.getsource(type(self))
        except (OSError, TypeError):  # typed into an interpreter
            source = repr(type(self))
        text = json.dumps([source, own, self.field_points.inputs.shape], default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def why_not(self, metric: str) -> str | None:
        """Return why a metric cannot be computed on these data, None where it can."""
        if any(record.name == metric and record.needs_reference for record in self.metrics):
            if self.solution is None:
                return "there is no reference"
            if not self.solution.any(axis=1).all():
                return "the reference is 0 everywhere"
        if metric == HELDOUT_RESIDUAL.name and not any(len(points) for _, points in self.held_out):
            return "there are no points to hold out"
        return None

    def forcing(self, points: PointSet) -> Array:
        """Return what the residual is compared with [points], in its unit."""
        return np.ones(len(points))

    def errors(self, raw: Array) -> dict[str, float] | None:
        """Return the relative L2 error of each of the network's outputs [outputs, points] on `field_points`."""
        if self.solution is None:
            return None
        physical = self.to_physical(raw, self.field_points)
        pairs = zip(self.outputs, physical, self.solution, strict=True)
        return {column.symbol: relative(found, expected) for column, found, expected in pairs}

    def error(self, raw: Array) -> float | None:
        """Return the relative L2 error: of the output, or the root mean square of those of several outputs."""
        errors = self.errors(raw)
        return None if errors is None else rms(np.array(list(errors.values())))

    def field(self, raw: Array) -> dict[str, Array]:
        """Return the predicted fields on `field_points`, by the names of `field_columns`."""
        values, physical = self.field_points.values, self.to_physical(raw, self.field_points)
        unknown = np.full_like(physical, np.nan) if self.solution is None else self.solution
        columns = output_columns(self.outputs)
        arrays = [array for pair in zip(physical, unknown, strict=True) for array in pair]
        return {
            **{column.name: values[column.symbol] for column in self.coordinates},
            **{column.name: array for column, array in zip(columns, arrays, strict=True)},
            **{column.name: values[column.symbol] for column in self.shown},
        }

    def evaluate(self, predict: Predictor) -> dict[str, float | None]:
        """Return the metrics of a trained network by name; one that cannot be computed is None."""
        values: dict[str, float | None] = dict.fromkeys(metric.name for metric in self.metrics)
        raw = predict.value(self.field_points.inputs)
        errors, solution = self.errors(raw), self.solution
        found: dict[str, float | None] = {}
        if errors is not None and solution is not None and solution.any(axis=1).all():
            physical = self.to_physical(raw, self.field_points)
            worst = np.abs(physical - solution).max(axis=1) / np.abs(solution).max(axis=1)
            found = {f"rel_l2_{name}": error for name, error in errors.items()}
            error = rms(np.array(list(errors.values())))
            found |= {"rel_l2": error, "max_error": float(worst.max()), **_beside_constant(error, physical, solution)}
        found[HELDOUT_RESIDUAL.name] = self.heldout_residual(predict)
        found[TRAINED_RESIDUAL.name] = self.trained_residual(predict)
        found |= self.measure(self.to_physical(raw, self.field_points), predict)
        return values | {name: value for name, value in found.items() if name in values}

    def heldout_residual(self, predict: Predictor) -> float | None:
        """Return the RMS of the residuals at points never trained on, over that of `forcing`; None without points."""
        return self._residual(predict, self.held_out)

    def trained_residual(self, predict: Predictor) -> float | None:
        """Return the same at the points that are trained on."""
        return self._residual(predict, tuple((index, self.point_sets[index]) for index, _ in self.held_out))

    def _residual(self, predict: Predictor, sets: tuple[tuple[int, PointSet], ...]) -> float | None:
        if not any(len(points) for _, points in sets):
            return None
        residuals = [predict.residual(index, points) for index, points in sets]
        forcing = [self.forcing(points) for _, points in sets]
        return rms(np.concatenate(residuals)) / rms(np.stack(forcing))

    def measure(self, u: Array, predict: Predictor) -> dict[str, float | None]:
        """Return metrics that only this problem has, from the physical outputs [outputs, points] on `field_points`."""
        return {}


def _inherited(cls: type[Problem]) -> dict[str, Any]:
    """Return the settings that a class has without writing their types: those of its points, and other defaults."""
    before = hints(cls.__mro__[1])
    sampled = sampled_settings() if cls.domain is not None else {}
    new = {name: hint for name, hint in sampled.items() if name not in before}
    return new | {name: hint for name, hint in before.items() if name in vars(cls)}


def _beside_constant(error: float, physical: Array, solution: Array) -> dict[str, float | None]:
    """Return how far outputs [outputs, points] are from constants; nothing where the reference is constant."""
    spread = solution.std(axis=1)
    constant = spread / np.sqrt(np.mean(solution**2, axis=1))  # the error of the best constant
    varies = constant > _CONSTANT
    if not varies.any():
        return {}
    smallest = float((physical.std(axis=1)[varies] / spread[varies]).min())
    return {"spread": smallest, "over_constant": error / rms(constant)}


class Predictor(abc.ABC):
    """A trained network, as a problem's metrics use it."""

    @abc.abstractmethod
    def value(self, inputs: Array) -> Array:
        """Return raw outputs [outputs, points] at network inputs [points, inputs]."""

    @abc.abstractmethod
    def residual(self, group: int, points: PointSet) -> Array:
        """Return the residuals [residuals, points] of a group on any points."""

    @abc.abstractmethod
    def input_gradient(self, inputs: Array) -> Array:
        """Return the derivatives [outputs, points, inputs] of the raw outputs to each network input."""
