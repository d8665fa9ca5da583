"""Which dimensions of a space exist beside which values of others: the `when` of a study file.

A dimension exists where every field of its `when` exists itself and has one of the values listed there. The parameters
of a trial name the dimensions that exist, and no others.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .dimensions import Choice, Dimension, Int, LogInt

Space = Mapping[str, Dimension]


def is_active(space: Space, field: str, params: Mapping[str, Any]) -> bool:
    """Return whether the dimension `field` exists beside `params`."""
    return all(
        parent in params and contains(allowed, params[parent]) and is_active(space, parent, params)
        for parent, allowed in space[field].when.items()
    )


def parents_first(space: Space) -> list[str]:
    """Return the fields of a space, each after those that its `when` names, else in the order of the space."""
    ordered: dict[str, None] = {}

    def add(field: str) -> None:
        for parent in space[field].when:
            add(parent)
        ordered.setdefault(field)

    for field in space:
        add(field)
    return list(ordered)


def with_parents(space: Space, fields: Iterable[str]) -> list[str]:
    """Return the swept ones of `fields`, and all that decides whether they exist."""
    wanted = {field for field in fields if field in space}
    while parents := {parent for field in wanted for parent in space[field].when} - wanted:
        wanted |= parents
    return [field for field in parents_first(space) if field in wanted]


def combinations(
    space: Space, fields: Iterable[str], values: Callable[[Dimension], Sequence[Any] | None]
) -> Iterator[dict[str, Any]]:
    """Yield every different combination of the dimensions `fields` and of those they depend on, once.

    `values` says which values of a dimension are tried.
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
    """Yield `count` combinations of corners of the dimensions, always the same ones."""
    order, generator = with_parents(space, fields), random.Random(0)
    for _ in range(count):
        chosen: dict[str, Any] = {}
        for field in order:
            if is_active(space, field, chosen):
                chosen[field] = generator.choice(space[field].corners())
        yield chosen


def grid_size(space: Space) -> int:
    """Return the number of different combinations of a space without continuous dimensions.

    Values of a dimension on which no other depends are counted, not tried.
    """
    order = parents_first(space)
    looked_at: dict[str, list[Any]] = {field: [] for field in space}
    for kind in space.values():
        for parent, allowed in kind.when.items():
            looked_at[parent] += [value for value in allowed if not contains(looked_at[parent], value)]

    def counted(chosen: dict[str, Any], position: int) -> int:
        if position == len(order):
            return 1
        field = order[position]
        if not is_active(space, field, chosen):
            return counted(chosen, position + 1)
        others = len(space[field].finite_values() or ()) - len(looked_at[field])
        each = sum(counted({**chosen, field: value}, position + 1) for value in looked_at[field])
        return each + (others * counted(chosen, position + 1) if others else 0)

    return counted({}, 0)


def contains(values: Iterable[Any], value: Any) -> bool:
    """Return whether a plain value is among others, true being no 1."""
    return any(other == value and isinstance(other, bool) == isinstance(value, bool) for other in values)


def attached(
    space: Space, conditions: Mapping[str, Mapping[str, Sequence[Any]]]
) -> tuple[dict[str, Dimension], list[list[str]]]:
    """Return a space with its conditions, checked already, and the circles among them, which are left out."""
    circles: list[list[str]] = []
    kept = dict(conditions)
    while circle := _circle(kept):
        circles.append(circle)
        kept = {field: when for field, when in kept.items() if field not in circle}
    whens = {field: {parent: tuple(values) for parent, values in when.items()} for field, when in kept.items()}
    return {field: dataclasses.replace(kind, when=whens.get(field, {})) for field, kind in space.items()}, circles


def possible_values(kind: Dimension, written: Any) -> tuple[list[Any], list[Any]] | None:
    """Return which of the values written in a `when` its field can have, and which not; None for a continuum.

    A list that is itself a value of the field is that value, any other a list of values.
    """
    if not isinstance(kind, (Choice, Int, LogInt)):
        return None
    several = isinstance(written, list) and not _has(kind, written)
    listed = written if several else [written]
    possible = [_own(kind, value) for value in listed if _has(kind, value)]
    return possible, [value for value in listed if not _has(kind, value)]


def never_active(space: Space, field: str) -> bool:
    """Return whether no combination of the other dimensions lets `field` exist."""
    parents = with_parents(space, space[field].when)
    looked_at = {
        parent: [value for kind in space.values() for value in kind.when.get(parent, ())] for parent in parents
    }
    narrowed: Space = {parent: Choice(tuple(looked_at[parent]), when=space[parent].when) for parent in parents}
    whole = {**narrowed, field: space[field]}
    tried = combinations(narrowed, parents, lambda kind: kind.finite_values())
    return not any(is_active(whole, field, chosen) for chosen in tried)


def linked(groups: Iterable[Iterable[str]]) -> list[set[str]]:
    """Return groups of fields with those that share a field made one."""
    merged: list[set[str]] = []
    for group in groups:
        joined = set(group)
        for other in [other for other in merged if other & joined]:
            joined |= other
            merged.remove(other)
        merged.append(joined)
    return merged


def _has(kind: Choice | Int | LogInt, value: Any) -> bool:
    if isinstance(kind, Choice):
        return contains(kind.values, value)
    return isinstance(value, int) and not isinstance(value, bool) and kind.low <= value <= kind.high


def _own(kind: Choice | Int | LogInt, value: Any) -> Any:
    """Return a value as the dimension itself writes it: 10.0 for 10."""
    return next(own for own in kind.values if contains([own], value)) if isinstance(kind, Choice) else value


def _circle(conditions: Mapping[str, Iterable[str]]) -> list[str]:
    """Return fields that depend on each other in a circle, each on the next, or nothing."""
    done: set[str] = set()

    def search(field: str, path: list[str]) -> list[str]:
        if field in path:
            return path[path.index(field) :]
        if field in done:
            return []
        done.add(field)
        return next(filter(None, (search(parent, [*path, field]) for parent in conditions.get(field, ()))), [])

    return next(filter(None, (search(field, []) for field in conditions)), [])
