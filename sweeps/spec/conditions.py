"""Dimensions that exist only for some values of other dimensions: the `when` of a study file.

A dimension exists where every field of its `when` exists itself and has one of the values listed there. The parameters
of a trial name the dimensions that exist, and no others.
"""

from __future__ import annotations

import dataclasses
import graphlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .dimensions import Choice, Dimension, contains

Space = Mapping[str, Dimension]


def is_active(space: Space, field: str, params: Mapping[str, Any]) -> bool:
    """Return whether the dimension `field` exists for the values `params` of the other dimensions."""
    return all(
        parent in params and contains(allowed, params[parent]) and is_active(space, parent, params)
        for parent, allowed in space[field].when.items()
    )


def parents_first(space: Space) -> list[str]:
    """Return the fields of a space in its order, but each after those that its `when` names."""
    ordered: dict[str, None] = {}

    def add(field: str) -> None:
        for parent in space[field].when:
            add(parent)
        ordered.setdefault(field)

    for field in space:
        add(field)
    return list(ordered)


def with_parents(space: Space, fields: Iterable[str]) -> list[str]:
    """Return the swept fields among `fields` and all fields they depend on, parents first."""
    wanted = {field for field in fields if field in space}
    while parents := {parent for field in wanted for parent in space[field].when} - wanted:
        wanted |= parents
    return [field for field in parents_first(space) if field in wanted]


def combinations(
    space: Space, fields: Iterable[str], values: Callable[[Dimension], Sequence[Any] | None]
) -> Iterator[dict[str, Any]]:
    """Yield every distinct combination of the dimensions `fields` and of those they depend on, once.

    `values` returns the values of a dimension to combine.
    """
    order = with_parents(space, fields)

    def extended(chosen: dict[str, Any], position: int) -> Iterator[dict[str, Any]]:
        if position == len(order):
            yield chosen
        elif not is_active(space, order[position], chosen):
            yield from extended(chosen, position + 1)
        else:
            for value in values(space[order[position]]) or ():
                yield from extended({**chosen, order[position]: value}, position + 1)

    return extended({}, 0)


def sample_of_corners(space: Space, fields: Iterable[str], count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` random combinations of corners of the dimensions, the same ones in every call."""
    order, generator = with_parents(space, fields), random.Random(0)
    for _ in range(count):
        chosen: dict[str, Any] = {}
        for field in order:
            if is_active(space, field, chosen):
                chosen[field] = generator.choice(space[field].arguments())
        yield chosen


def with_conditions(
    space: Space, conditions: Mapping[str, Mapping[str, Sequence[Any]]]
) -> tuple[dict[str, Dimension], list[list[str]]]:
    """Return a space with its conditions, already checked, and the circles among them, which are left out."""
    circles: list[list[str]] = []
    kept = dict(conditions)
    while circle := _circle(kept):
        circles.append(circle)
        kept = {field: when for field, when in kept.items() if field not in circle}
    whens = {field: {parent: tuple(values) for parent, values in when.items()} for field, when in kept.items()}
    return {field: dataclasses.replace(kind, when=whens.get(field, {})) for field, kind in space.items()}, circles


def possible_values(kind: Dimension, written: Any) -> tuple[list[Any], list[Any]] | None:
    """Return which of the values written in a `when` its field can have, and which not.

    None for a continuous dimension. A list that is itself a value of the field is that value; any other list is a list
    of values.
    """
    if kind.finite_values() is None:
        return None
    values = written if isinstance(written, list) and not kind.has(written) else [written]
    own = kind.arguments()  # for 10 instead of 10.0
    possible = [next((same for same in own if contains([same], value)), value) for value in values if kind.has(value)]
    return possible, [value for value in values if not kind.has(value)]


def never_active(space: Space, field: str) -> bool:
    """Return whether no combination of the other dimensions lets `field` exist."""
    parents = with_parents(space, space[field].when)
    in_conditions = {
        parent: [value for kind in space.values() for value in kind.when.get(parent, ())] for parent in parents
    }
    narrowed: Space = {parent: Choice(tuple(in_conditions[parent]), when=space[parent].when) for parent in parents}
    with_field = {**narrowed, field: space[field]}
    chosen = combinations(narrowed, parents, lambda kind: kind.finite_values())
    return not any(is_active(with_field, field, params) for params in chosen)


def linked(groups: Iterable[Iterable[str]]) -> list[set[str]]:
    """Return groups of fields, those that share a field merged."""
    merged: list[set[str]] = []
    for group in groups:
        joined = set(group)
        for other in [other for other in merged if other & joined]:
            joined |= other
            merged.remove(other)
        merged.append(joined)
    return merged


def _circle(conditions: Mapping[str, Iterable[str]]) -> list[str]:
    """Return fields that depend on each other in a circle, each on the next; empty where there is no circle."""
    try:
        graphlib.TopologicalSorter(conditions).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1][:0:-1]
        first = circle.index(next(field for field in conditions if field in circle))
        return circle[first:] + circle[:first]
    return []
