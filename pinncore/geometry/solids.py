"""Solids, which fill their coordinates: their combinations, what is left of them, and their boundaries."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .checks import Array, Interval, is_symbol, known_names, number
from .pieces import NEAR, Columns, Flat, Limits, Piece, normal_name
from .predicates import holds
from .region import Pieced, Region

STEP: Final = 1e-6  # of the limits: what is on a side of a boundary is looked up so far from it


class Solid(Pieced):
    """A region as wide as its coordinates; `-`, `&` and `|` combine it with solids in some or all of them."""

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the coordinates, in order."""

    @abc.abstractmethod
    def covers(self, columns: Columns, margin: float) -> NDArray[np.bool_]:
        """Return which points [points] lie in the solid, widened by `margin` times its size."""

    @abc.abstractmethod
    def surfaces(self, limits: Limits) -> list[Piece]:
        """Return the pieces of the surface; `limits` are those of the domain, with every coordinate."""

    @property
    def pieces(self) -> Sequence[Piece]:
        return [Flat(self.limits)]

    def admits(self, piece: Piece, columns: Columns) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        return dict(columns), self.covers(columns, NEAR)

    def contains(self, columns: Columns) -> NDArray[np.bool_]:
        known_names("contains", self.names, columns)
        return self.covers(columns, NEAR)

    def where(self, predicate: Any) -> Solid:
        return Restricted(self, predicate)

    def __sub__(self, other: Solid) -> Solid:
        return Combined(self, "-", other)

    def __and__(self, other: Solid) -> Solid:
        return Combined(self, "&", other)

    def __or__(self, other: Solid) -> Solid:
        return Combined(self, "|", other)

    @property
    def boundary(self) -> Boundary:
        """Return the whole boundary, that of holes too; not what a predicate cuts off, which has no known shape."""
        return Boundary(self, (Part(self, "boundary"),))

    def boundary_of(self, solid: Solid) -> Boundary:
        """Return the boundary of another solid as far as it lies in this one or bounds it, such as that of a hole."""
        return Boundary(self, (Part(solid, "surface"),))

    def faces(self, *names: str) -> Boundary:
        """Return the faces at both ends of coordinates. Raises `SettingError` for what is no coordinate."""
        known_names("faces", names, self.names)
        if not names:
            raise SettingError("faces", (), "must name a coordinate", f'Write faces("{self.names[0]}").')
        return Boundary(self, tuple(Part(self, "face", name, end) for name in names for end in (0, 1)))

    def face(self, **at: Any) -> Boundary:
        """Return the face at one end of a coordinate. Raises `SettingError` for a value at neither end."""
        if len(at) != 1:
            raise SettingError("face", at, "must name one coordinate", f"Write face({self.names[0]}=...).")
        known_names("face", at, self.names)
        ((name, value),) = at.items()
        part = Part(self, "value", name, value)
        if not (self.has_symbols or is_symbol(value)):
            part.end(self.limits)
        return Boundary(self, (part,))

    @property
    @abc.abstractmethod
    def has_symbols(self) -> bool:
        """Return whether some of its numbers are not known yet."""


@dataclass(frozen=True)
class Combined(Solid):
    """Two solids together (`|`), what they have in common (`&`), or the first without the second (`-`)."""

    left: Solid
    operation: str
    right: Solid

    def __post_init__(self) -> None:
        if not isinstance(self.right, Solid):
            raise SettingError("domain", self.right, f"must be a solid where it stands after {self.operation}")
        if self.operation == "|":
            known_names("domain", self.left.names, self.right.names)
        known_names("domain", self.right.names, self.left.names)

    def __repr__(self) -> str:
        right = f"({self.right!r})" if isinstance(self.right, Combined) else repr(self.right)
        return f"{self.left!r} {self.operation} {right}"

    @property
    def names(self) -> tuple[str, ...]:
        return self.left.names

    @property
    def limits(self) -> dict[str, Interval]:
        limits, other = self.left.limits, self.right.limits
        if self.operation == "-":
            return limits
        outer = self.operation == "|"
        for name, (low, high) in other.items():
            ours = limits[name]
            ends = (min(low, ours[0]), max(high, ours[1])) if outer else (max(low, ours[0]), min(high, ours[1]))
            if not ends[0] < ends[1]:
                raise SettingError("domain", f"{self.left!r} & {self.right!r}", "must have points")
            limits[name] = ends
        return limits

    @property
    def has_symbols(self) -> bool:
        return self.left.has_symbols or self.right.has_symbols

    def covers(self, columns: Columns, margin: float) -> NDArray[np.bool_]:
        left = self.left.covers(columns, margin)
        if self.operation == "-":
            return left & ~self.right.covers(columns, -margin)
        right = self.right.covers(columns, margin)
        return left | right if self.operation == "|" else left & right

    def surfaces(self, limits: Limits) -> list[Piece]:
        return self.left.surfaces(limits) + self.right.surfaces(limits)


@dataclass(frozen=True)
class Restricted(Solid):
    """What is left of a solid where a predicate holds."""

    solid: Solid
    predicate: Any

    @property
    def names(self) -> tuple[str, ...]:
        return self.solid.names

    @property
    def limits(self) -> dict[str, Interval]:
        return self.solid.limits

    @property
    def has_symbols(self) -> bool:
        return self.solid.has_symbols

    def covers(self, columns: Columns, margin: float) -> NDArray[np.bool_]:
        return self.solid.covers(columns, margin) & holds(self.predicate, {name: columns[name] for name in self.names})

    def surfaces(self, limits: Limits) -> list[Piece]:
        return self.solid.surfaces(limits)


@dataclass(frozen=True)
class Part:
    """A choice from the surface of a solid: all of its `boundary` or `surface`, or a `face` by its end or `value`."""

    solid: Solid
    kind: str
    name: str = ""
    at: Any = None

    def end(self, limits: Limits) -> int:
        """Return which end of its coordinate a face is at. Raises `SettingError` where it is at neither."""
        if self.kind == "face":
            return int(self.at)
        low, high = limits[self.name]
        value = number(f"face({self.name})", self.at)
        for index, end in enumerate((low, high)):
            if math.isclose(value, end, rel_tol=1e-12, abs_tol=1e-12 * (high - low)):
                return index
        raise SettingError(
            f"face({self.name})",
            value,
            f"must be an end of {self.name}, {low:g} or {high:g}",
            f"At({self.name}={value:g}) is a slice inside the domain.",
        )

    def pieces(self, limits: Limits) -> list[Piece]:
        """Return the chosen pieces, in a domain of these limits. Raises `SettingError` where there are none."""
        known_names("domain", self.solid.names, limits)
        surfaces = self.solid.surfaces(limits)
        if self.kind in ("boundary", "surface"):
            return surfaces
        ours = self.solid.limits
        end = self.end(ours)
        chosen: list[Piece] = [
            piece
            for piece in surfaces
            if isinstance(piece, Flat)
            and piece.side == self.name
            and piece.bounds[self.name][0] == ours[self.name][end]
        ]
        if not chosen:
            raise SettingError("faces", self.name, "must be a coordinate with flat ends", "Write on=domain.boundary.")
        return chosen


@dataclass(frozen=True)
class Boundary(Pieced):
    """Parts of surfaces, as far as they bound a domain; `|` adds parts. Normals point out of the domain."""

    domain: Solid
    parts: tuple[Part, ...]
    predicates: tuple[Any, ...] = ()

    def within(self, domain: Region | None) -> Boundary:
        """Return the boundary as far as it bounds or lies in `domain`: faces of a box, without the domain's holes."""
        if domain == self.domain or not isinstance(domain, Solid):
            return self
        parts = self.parts
        if not isinstance(self.domain, (Combined, Restricted)):  # a simple shape, which may lie inside the domain
            parts = tuple(replace(part, kind="surface") if part.kind == "boundary" else part for part in parts)
        return replace(self, domain=domain, parts=parts)

    def where(self, predicate: Any) -> Boundary:
        return replace(self, predicates=(*self.predicates, predicate))

    def __or__(self, other: Boundary) -> Boundary:
        if not isinstance(other, Boundary) or (self.domain, self.predicates) != (other.domain, other.predicates):
            raise SettingError(
                "domain", other, "must be of the same domain and predicates where | joins it", "Join, then write where."
            )
        return replace(self, parts=tuple(dict.fromkeys((*self.parts, *other.parts))))

    @property
    def pieces(self) -> Sequence[Piece]:
        limits = self.domain.limits
        return [
            replace(piece, may_be_inside=part.kind == "surface") for part in self.parts for piece in part.pieces(limits)
        ]

    def admits(self, piece: Piece, columns: Columns) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        limits, normals = self.domain.limits, piece.normals(columns)
        outer, inner = (
            self.domain.covers(
                {
                    name: np.asarray(columns[name]) + sign * STEP * (high - low) * normals[normal_name(name)]
                    for name, (low, high) in limits.items()
                },
                NEAR,
            )
            for sign in (1, -1)
        )
        inside = (outer | inner) if piece.may_be_inside else (outer ^ inner)
        for predicate in self.predicates:
            inside = inside & holds(predicate, {name: columns[name] for name in limits})
        turned = np.where(outer & ~inner, -1.0, 1.0)  # the domain lies where the normal of the surface points to
        normals = {name: turned * values + 0.0 for name, values in normals.items()}  # no -0
        return {name: columns[name] for name in limits} | normals, inside
