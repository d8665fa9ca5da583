"""The points of a study's space: values of the active fields, chosen parents first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..errors import SweepError
from ..spec.conditions import is_active, parents_first
from ..spec.dimensions import Dimension
from ..spec.study_spec import StudySpec

MOST_TRIES: Final = 100_000  # forbidden points in a row before the search fails

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
        """Return the point whose active fields have the values that `value_of` returns, called for parents first."""
        chosen: dict[str, Any] = {}
        for name in self._order:
            if not self.is_conditional or is_active(self.space, name, chosen):
                chosen[name] = value_of(name)
        return {name: chosen[name] for name in self.space if name in chosen}

    def at(self, units: Sequence[float]) -> dict[str, Any]:
        """Return the point at `units`, a share of the probability for each field of the space, in order of names."""
        share = dict(zip(self.space, units, strict=True))
        return self.choose(lambda name: self.space[name].from_unit(float(share[name])))

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Return whether every constraint holds."""
        return not self.is_constrained or self.spec.allowed(params)

    def fitting(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the part of another study's parameters that is a point of this space, or None where there is none."""
        chosen = self.choose(lambda name: params.get(name, _MISSING))
        return chosen if all(self.space[name].has(value) for name, value in chosen.items()) else None

    def forbidden(self, count: int) -> SweepError:
        """Return the error for a search in which the constraints forbid all of `count` points."""
        rules = "; ".join(self.spec.search.constraints)
        return SweepError(
            f"search.constraints must allow some points of the space, but forbid {count:,} of {count:,}: {rules}. "
            "Loosen them, or narrow the space to where they hold."
        )
