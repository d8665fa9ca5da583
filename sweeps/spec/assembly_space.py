"""The space of a study file: its dimensions, and the conditions under which they exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Set
from typing import Any

from ..errors import NOT_GIVEN, Mistake
from .conditions import attached, never_active, possible_values
from .dimensions import KINDS, Choice, Dimension, dimension
from .mistakes import did_you_mean
from .yaml_text import joined

Absolute = Callable[[str, Any], Any]  # field and value to the value with its paths absolute


def built(
    written: Mapping[str, Mapping[str, Any]], fields: Collection[str], unsure: Set[str], absolute: Absolute
) -> tuple[dict[str, Dimension], list[Mistake]]:
    """Return the space of the readable part of a file, and what is wrong with its conditions, which are left out.

    `fields` are all fields that could be swept; `unsure` those with a mistake, of which nothing is said here.
    """
    space: dict[str, Dimension] = {}
    for name, content in written.items():
        for kind in [key for key in content if key in KINDS][:1]:
            space[name] = dimension(kind, [absolute(name, value) for value in content[kind]])
    mistakes: list[Mistake] = []
    conditions: dict[str, dict[str, list[Any]]] = {}
    for name in space:
        for parent, value in written[name].get("when", {}).items():
            place = f"space.{name}.when.{parent}"
            if parent in unsure:
                conditions.setdefault(name, {})[parent] = []
            elif parent in space:
                made_absolute = [absolute(parent, v) for v in value] if isinstance(value, list) else value
                conditions.setdefault(name, {})[parent] = []
                allowed = conditions[name][parent]
                mistakes += _of_values(space[parent], parent, absolute(parent, made_absolute), place, allowed)
            else:
                mistakes.append(_not_swept(parent, value, place, fields, [other for other in space if other != name]))
    conditions = {name: when for name, when in conditions.items() if all(when.values())}
    space, circles = attached(space, conditions)
    mistakes += [_circle(circle) for circle in circles]
    return space, mistakes + list(_without_a_case(space))


def _of_values(kind: Dimension, parent: str, value: Any, place: str, allowed: list[Any]) -> Iterator[Mistake]:
    """Put the values of `parent` that a condition names into `allowed`, and yield what is no value of it."""
    found = possible_values(kind, value)
    if found is None:
        rule = f"{parent} is drawn from a continuum, in which no value comes up twice"
        yield Mistake(place, value, rule, "Let it depend on a choice or a range of whole numbers.")
        return
    possible, impossible = found
    allowed += possible
    if not possible and not impossible:
        yield Mistake(place, value, "must list at least 1 value")
    for wrong in impossible:
        if isinstance(kind, Choice):
            hint = did_you_mean(wrong, list(map(str, kind.values)))
        else:
            low, high = kind.arguments()
            hint = f"Valid: whole numbers from {low} to {high}."
        yield Mistake(place, wrong, f"is no value of space.{parent}", hint)


def _not_swept(parent: str, value: Any, place: str, fields: Collection[str], others: list[str]) -> Mistake:
    if parent in fields:
        hint = f"Sweep {parent} under space, or remove it here."
        return Mistake(place, value, f"{parent} is not swept, so nothing can depend on it", hint)
    hint = did_you_mean(parent, others) if others else ""
    return Mistake(place, value, "names no swept field", hint)


def _circle(circle: list[str]) -> Mistake:
    pairs = zip(circle, [*circle[1:], circle[0]], strict=True)
    chain = ", ".join(f"{field} depends on {parent}" for field, parent in pairs)
    rule = f"{chain}, so {'none of them would ever' if len(circle) > 1 else 'it would never'} exist"
    return Mistake(f"space.{circle[0]}.when", NOT_GIVEN, rule, "Leave one of these conditions out.")


def _without_a_case(space: Mapping[str, Dimension]) -> Iterator[Mistake]:
    for name, kind in space.items():
        if kind.when and never_active(space, name):
            rule = "holds for no combination of the other dimensions"
            yield Mistake(joined(f"space.{name}", "when"), NOT_GIVEN, rule, "Look at the conditions of those it names.")
