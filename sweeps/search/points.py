"""The points of a study's space: active fields only, parents before the fields that depend on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import SweepError
from ..spec.conditions import contains, is_active, parents_first
from ..spec.dimensions import Choice, Dimension, Int, LogInt, LogUniform, Uniform

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

MOST_TRIES: Final = 100_000  # points that may be forbidden in a row

_MISSING: Final = object()


class Points:
    """The space of a study, with its conditional fields and its constraints."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.space: dict[str, Dimension] = {name: spec.space[name] for name in sorted(spec.space)}
        self.distributions = {name: kind.distribution() for name, kind in self.space.items()}
        self.is_conditional = any(kind.when for kind in self.space.values())
        self.is_constrained = bool(spec.search.constraints)
        self._order = parents_first(self.space)

    def choose(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """Return the point whose active fields have the values `value_of` gives them, asked parents first."""
        chosen: dict[str, Any] = {}
        for name in self._order:
            if not self.is_conditional or is_active(self.space, name, chosen):
                chosen[name] = value_of(name)
        return {name: chosen[name] for name in self.space if name in chosen}

    def at(self, units: Sequence[float]) -> dict[str, Any]:
        """Return the point at shares of the probability of each field, one for each field of the space by name."""
        share = dict(zip(self.space, units, strict=True))
        return self.choose(lambda name: self.space[name].from_unit(float(share[name])))

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Whether every constraint holds."""
        return not self.is_constrained or self.spec.allowed(params)

    def fitting(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return those of another study's parameters that make a point of this space, None where they make none."""
        chosen = self.choose(lambda name: params.get(name, _MISSING))
        return chosen if all(_contains(self.space[name], value) for name, value in chosen.items()) else None

    def forbidden(self, count: int) -> SweepError:
        """Return the error for a search in which the constraints forbid all of so many points."""
        rules = "; ".join(self.spec.search.constraints)
        return SweepError(
            f"search.constraints must leave points of the space, and forbid {count:,} of {count:,}: {rules}. "
            "Loosen them, or narrow the space to where they hold."
        )


def _contains(kind: Dimension, value: Any) -> bool:
    match kind:
        case Choice():
            return contains(kind.values, value)
        case Int() | LogInt():
            return type(value) is int and kind.low <= value <= kind.high
        case Uniform() | LogUniform():
            return type(value) in (int, float) and kind.low <= value <= kind.high
    return False
