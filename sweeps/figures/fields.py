"""Pictures of the field of one training: maps over two coordinates, lines over one, slices of three or four."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from pinncore.problems import Column
from pinncore.problems.columns import Line
from pinncore.problems.declaring import output_columns

from .drawing import Array, axis_label
from .lines import Lines, line_figure
from .maps import Map, Plane, error_map, field_map, figure_of, log_limits, log_map, relative_map
from .slices import View, views_of

Kind = Literal["lines", "predicted", "reference", "error", "relative-error"]
_FROM_ZERO = 0.5  # smallest over largest value up to which the colour scale of a positive field starts at 0


class Picture(NamedTuple):
    """A picture of a field: what it shows, of which output and in which view (their numbers), on which scale."""

    kind: Kind
    output: int = 0
    view: int = 0
    is_log: bool = False


@dataclass(frozen=True)
class OutputField:
    """Prediction and reference [points] of one output; the latter is NaN where it is not known."""

    column: Column
    predicted: Array
    reference: Array

    @cached_property
    def has_reference(self) -> bool:
        """Return whether the reference is known."""
        return bool(np.isfinite(self.reference).all())

    @property
    def error(self) -> Array:
        """Return prediction minus reference [points]."""
        return self.predicted - self.reference

    @cached_property
    def relative(self) -> Array:
        """Return the absolute error over the reference in per cent [points], the largest where the latter is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = np.abs(100 * self.error / self.reference)
        is_known = np.isfinite(percent)
        return np.where(is_known, percent, percent[is_known].max(initial=0.0))

    @property
    def scale(self) -> Array:
        """Return the values [points] that colour scales are made for."""
        return self.reference if self.has_reference else self.predicted

    @property
    def limits(self) -> tuple[float, float]:
        """Return the ends of the linear scale: from 0, where the values are positive and not all near the largest."""
        low, high = float(self.scale.min()), float(self.scale.max())
        return (0.0 if 0 < low <= _FROM_ZERO * high else low), high

    @cached_property
    def spans_a_decade(self) -> bool:
        """Return whether the field has no negative values and a logarithmic scale shows more of it."""
        limits, largest = log_limits(self.scale), np.abs(self.scale).max()
        return limits is not None and limits[1] > 10 * limits[0] and self.scale.min() >= -1e-3 * largest


class KeptField:
    """The field of one training, from the columns [points] of the table `fields`, with pictures of it."""

    def __init__(
        self,
        coordinates: Sequence[Column],
        outputs: Sequence[Column],
        columns: Mapping[str, Array],
        marks: Sequence[Line] = (),
    ) -> None:
        self.coordinates, self.marks = tuple(coordinates), marks
        names = [column.name for column in output_columns(tuple(outputs))]
        pairs = zip(outputs, names[0::2], names[1::2], strict=True)
        self.outputs = tuple(OutputField(column, columns[name], columns[known]) for column, name, known in pairs)
        self.places = [columns[column.name] for column in coordinates]

    @property
    def points(self) -> int:
        """Return the number of points."""
        return len(self.places[0])

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Return which points are drawn over which coordinates; slices in the order of their rows."""
        return views_of(self.coordinates, self.places, few=len(self.outputs) > 1)

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """Return the points of each view over its two coordinates."""
        return tuple(
            Plane.of(
                (self.coordinates[first], self.coordinates[second]),
                (self.places[first][view.points], self.places[second][view.points]),
                self.marks,
            )
            for view in self.views
            for first, second in [view.axes]
        )

    @property
    def is_drawable(self) -> bool:
        """Return whether there are points, and all predictions are numbers."""
        return self.points > 1 and all(np.isfinite(output.predicted).all() for output in self.outputs)

    @property
    def rows(self) -> tuple[tuple[Picture, ...], ...]:
        """Return all pictures, those of a row side by side: one row for each output, for each slice of a single one.

        A single output over two coordinates has a second row on logarithmic colour scales, where it has no negative
        values and spans at least a decade.
        """
        if len(self.coordinates) == 1:
            return tuple((Picture("lines", number),) for number in range(len(self.outputs)))
        linear = tuple(
            tuple(Picture(kind, number, view) for kind in self._kinds(output))
            for number, output in enumerate(self.outputs)
            for view in range(len(self.views))
        )
        (first, *others) = self.outputs
        if others or len(self.views) > 1 or not first.spans_a_decade:
            return linear
        log = [Picture(picture.kind, is_log=True) for picture in linear[0] if picture.kind != "error"]
        has_relative = first.has_reference and bool((first.relative > 0).any())
        return (*linear, (*log, *[Picture("relative-error", is_log=True)] * has_relative))

    @staticmethod
    def _kinds(output: OutputField) -> tuple[Kind, ...]:
        return ("predicted", "reference", "error") if output.has_reference else ("predicted",)

    def name(self, picture: Picture) -> str:
        """Return the name of a picture, in which letters, digits, dashes and underscores occur."""
        parts: list[str] = [picture.kind]
        if len(self.outputs) > 1:
            parts.append(self.outputs[picture.output].column.symbol)
        if len(self.views) > 1:
            parts.append("".join(self.coordinates[axis].symbol for axis in self.views[picture.view].axes))
        if picture.is_log and picture.kind != "relative-error":
            parts.append("log")
        return "-".join(parts)

    def figure(self, *pictures: Picture, of: str = "", small: bool = False) -> Figure:
        """Draw pictures of one kind below each other; `of` ends the titles.

        They are `small` where many stand side by side. Prediction and reference of an output share colour scales, in
        all slices.
        """
        if pictures[0].kind == "lines":
            return line_figure(*(self.lines(picture, of) for picture in pictures))
        return figure_of(*(self.map(picture, of) for picture in pictures), small=small)

    def _title(self, picture: Picture, of: str) -> str:
        kind = "Error / reference" if picture.kind == "relative-error" else picture.kind.capitalize()
        if len(self.outputs) > 1:
            kind = f"{self.outputs[picture.output].column.symbol} {picture.kind}"
        log = ", log" if picture.is_log and picture.kind != "relative-error" else ""
        place = self.views[picture.view].place
        return "\n".join(part for part in (f"{kind}{log}{of}", place) if part)

    def lines(self, picture: Picture, of: str = "") -> Lines:
        """Return what a picture over one coordinate shows; `of` ends its title."""
        output, (along,) = self.outputs[picture.output], self.coordinates
        symbol = output.column.symbol
        return Lines(
            self.places[0],
            output.predicted,
            output.reference if output.has_reference else None,
            axis_label(along.symbol, along.unit),
            symbol,
            output.column.unit,
            f"{symbol} over {along.symbol}{of}",
        )

    def map(self, picture: Picture, of: str = "") -> Map:
        """Return what a picture over two coordinates shows; `of` ends its title."""
        output, shown = self.outputs[picture.output], self.views[picture.view].points
        plane, unit, title = self.planes[picture.view], output.column.unit, self._title(picture, of)
        if picture.kind == "error":
            return error_map(plane, output.error[shown], title=title, unit=unit, of=output.error)
        if picture.kind == "relative-error":
            return relative_map(plane, output.relative[shown], title=title)
        values = (output.predicted if picture.kind == "predicted" else output.reference)[shown]
        if picture.is_log:
            return log_map(plane, values, title=title, unit=unit, of=output.scale)
        return field_map(plane, values, title=title, unit=unit, limits=output.limits)
