"""The combinations of a study's space that its conditions and constraints allow.

Checks look at all of them where they are few, otherwise at the corners of the space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import SweepError
from .conditions import combinations, linked, sample_of_corners, with_parents
from .constraints import Constraint

if TYPE_CHECKING:
    from .study_spec import StudySpec


def is_few(spec: StudySpec, fields: Iterable[str], most: int) -> bool:
    """Return whether the swept fields among `fields`, with those they depend on, have at most `most` combinations."""
    by_field = [spec.space[field].finite_values() for field in with_parents(spec.space, fields)]
    return None not in by_field and math.prod(len(values or ()) for values in by_field) <= most


def candidates(spec: StudySpec, fields: Iterable[str], most: int, *, whole: bool) -> Iterator[dict[str, Any]]:
    """Yield values of the swept fields among `fields` and of those they depend on, regardless of constraints.

    With `whole`, every combination where there are at most `most`; otherwise every combination of corners, or a sample
    of `most` of them.
    """
    group = with_parents(spec.space, fields)
    if whole and is_few(spec, group, most):
        return combinations(spec.space, group, lambda kind: kind.finite_values())
    if math.prod(len(spec.space[field].arguments()) for field in group) <= most:
        return combinations(spec.space, group, lambda kind: kind.arguments())
    return sample_of_corners(spec.space, group, most)


def related(spec: StudySpec, groups: Iterable[Iterable[str]] = ()) -> list[list[str]]:
    """Return the swept fields in groups; conditions, constraints and `groups` connect the fields of one group."""
    connected = [*groups, *(constraint.names for constraint in spec.constraints)]
    connected += [[field, *kind.when] for field, kind in spec.space.items()]
    return [
        [field for field in spec.space if field in group] for group in linked(connected) if group & spec.space.keys()
    ]


def possible(spec: StudySpec, fields: Iterable[str], most: int, *, whole: bool) -> Iterator[dict[str, Any]]:
    """Yield the `candidates` for `fields` and all fields connected with them that the constraints allow."""
    wanted = set(fields)
    group = [field for fields_together in related(spec) if wanted & set(fields_together) for field in fields_together]
    constraints = [constraint for constraint in spec.constraints if constraint.names & set(group)]
    fixed = spec.flat()
    for chosen in candidates(spec, group, most, whole=whole):
        if all(_holds(constraint, {**fixed, **chosen}) for constraint in constraints):
            yield chosen


def grid_count(spec: StudySpec, most: int) -> int | None:
    """Return the number of allowed combinations of a space, or None where a dimension is continuous.

    Also None where conditions or constraints connect fields that have more than `most` combinations.
    """
    total, limited = 1, set().union(*(constraint.names for constraint in spec.constraints))
    for group in related(spec):
        values = spec.space[group[0]].finite_values()
        if values is not None and len(group) == 1 and not limited & set(group):
            total *= len(values)
        elif is_few(spec, group, most):
            total *= sum(1 for _ in possible(spec, group, most, whole=True))
        else:
            return None
    return total


def _holds(constraint: Constraint, values: Mapping[str, Any]) -> bool:
    """Return whether a constraint holds, or cannot be evaluated, which is reported elsewhere."""
    try:
        return constraint.holds(values)
    except SweepError:
        return True
