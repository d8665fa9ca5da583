"""Which configurations a study can come to: the combinations of its space that its conditions and constraints allow.

Checks look at them before anything runs: at all where they are few, else at the corners of the space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import SweepError
from .conditions import combinations, grid_size, linked, sample_of_corners, with_parents
from .constraints import Constraint

if TYPE_CHECKING:
    from .study_spec import StudySpec


def usable_constraints(spec: StudySpec) -> list[Constraint]:
    """Return the constraints of a study that can be read and name fields alone; others are mistakes of their own."""
    fields, found = flat(spec, {}), []
    for text in spec.search.constraints:
        try:
            constraint = Constraint.parse(text)
        except ValueError:
            continue
        if constraint.names <= fields.keys():
            found.append(constraint)
    return found


def flat(spec: StudySpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every field of train and problem, the names that a constraint may use."""
    config = spec.config(params)
    return {name: value for section in config.values() for name, value in section.items() if name != "name"}


def is_few(spec: StudySpec, fields: Iterable[str], most: int) -> bool:
    """Return whether the swept ones of `fields`, and what they depend on, have at most `most` combinations."""
    listed = [spec.space[field].finite_values() for field in with_parents(spec.space, fields)]
    return None not in listed and math.prod(len(values or ()) for values in listed) <= most


def tried(spec: StudySpec, fields: Iterable[str], most: int, *, whole: bool) -> Iterator[dict[str, Any]]:
    """Yield values of the swept ones of `fields` and of what they depend on, constraints left aside.

    With `whole` every combination where they are at most `most`; otherwise every combination of corners, or `most` of
    them.
    """
    group = with_parents(spec.space, fields)
    if whole and is_few(spec, group, most):
        return combinations(spec.space, group, lambda kind: kind.finite_values())
    if math.prod(len(spec.space[field].corners()) for field in group) <= most:
        return combinations(spec.space, group, lambda kind: kind.corners())
    return sample_of_corners(spec.space, group, most)


def related(spec: StudySpec, groups: Iterable[Iterable[str]] = ()) -> list[list[str]]:
    """Return the swept fields in groups that neither a condition, nor a constraint, nor one of `groups` connects."""
    connected = [*groups, *(constraint.names for constraint in usable_constraints(spec))]
    connected += [[field, *kind.when] for field, kind in spec.space.items()]
    return [
        [field for field in spec.space if field in group] for group in linked(connected) if group & spec.space.keys()
    ]


def possible(spec: StudySpec, fields: Iterable[str], most: int, *, whole: bool) -> Iterator[dict[str, Any]]:
    """Yield what `tried` does, for `fields` and all that is connected with them, where the constraints allow it."""
    wanted = set(fields)
    group = [field for found in related(spec) if wanted & set(found) for field in found]
    constraints = [constraint for constraint in usable_constraints(spec) if constraint.names & set(group)]
    fixed = flat(spec, {})
    for chosen in tried(spec, group, most, whole=whole):
        if all(_holds(constraint, {**fixed, **chosen}) for constraint in constraints):
            yield chosen


def grid_count(spec: StudySpec, most: int) -> int | None:
    """Return the number of allowed combinations of a space, or None in a continuum.

    Where constraints have to be decided, also None for more than `most` combinations of the fields they connect.
    """
    if any(kind.finite_values() is None for kind in spec.space.values()):
        return None
    limited = set().union(*(constraint.names for constraint in usable_constraints(spec)))
    total = 1
    for group in related(spec):
        if not limited & set(group):
            total *= grid_size({field: spec.space[field] for field in group})
        elif is_few(spec, group, most):
            total *= sum(1 for _ in possible(spec, group, most, whole=True))
        else:
            return None
    return total


def _holds(constraint: Constraint, values: Mapping[str, Any]) -> bool:
    """Return whether a constraint holds; what cannot be decided is a mistake of its own."""
    try:
        return constraint.holds(values)
    except SweepError:
        return True
