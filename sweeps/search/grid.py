"""Every combination of a finite space once: computed where fields are independent, written out where they are not.

Places 0, 1, ... are counted with the first field by name changing fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from ..errors import SweepError
from ..spec.conditions import is_active, parents_first, with_parents
from ..spec.constraints import Constraint
from .points import Points

MOST_WRITTEN_OUT: Final = 1_000_000

Digits = npt.NDArray[np.int32]  # number of the value of a field, -1 where the field is inactive


@final
class Product:
    """The combinations of independent fields; `place` is written in mixed radix, one digit for each field."""

    def __init__(self, points: Points) -> None:
        self._values = {name: kind.finite_values() or () for name, kind in points.space.items()}
        self.size = self.allowed = math.prod(map(len, self._values.values()))

    def point(self, place: int) -> dict[str, Any]:
        """Return the combination at `place`."""
        params = {}
        for name, values in self._values.items():
            place, digit = divmod(place, len(values))
            params[name] = values[digit]
        return params

    def allows(self, place: int) -> bool:
        """Return whether every constraint holds at `place`."""
        return True


@final
class Table:
    """The distinct combinations of fields that depend on each other or obey constraints, as columns of digits.

    Raises `SweepError` where they are too many to write out.
    """

    def __init__(self, points: Points) -> None:
        self._points = points
        self._values = {name: kind.finite_values() or () for name, kind in points.space.items()}
        self._columns: dict[str, Digits] = {}
        self.size = 1
        for name in parents_first(dict(reversed(points.space.items()))):
            self._expand(name)
        self._allowed = self._where_allowed()
        self.allowed = int(self._allowed.sum())

    def point(self, place: int) -> dict[str, Any]:
        """Return the combination at `place`."""
        return self._params({name: self._columns[name][place] for name in self._values})

    def allows(self, place: int) -> bool:
        """Return whether every constraint holds at `place`."""
        return bool(self._allowed[place])

    def _expand(self, name: str) -> None:
        """Repeat each row for every value of a field; rows where it is inactive stay single.

        Raises `SweepError` where the rows become too many.
        """
        active = self._where_active(name)
        times = np.where(active, len(self._values[name]), 1)
        self.size = int(times.sum())
        if self.size > MOST_WRITTEN_OUT:
            raise SweepError(
                f"a grid with `when` or search.constraints may have {MOST_WRITTEN_OUT:,} combinations, got "
                f"{self.size:,} or more. List fewer values, or use the sampler qmc or random."
            )
        first = np.repeat(np.cumsum(times) - times, times)
        digits = np.where(np.repeat(active, times), np.arange(self.size) - first, -1)
        self._columns = {parent: np.repeat(column, times) for parent, column in self._columns.items()}
        self._columns[name] = digits.astype(np.int32)

    def _where_active(self, name: str) -> npt.NDArray[np.bool_]:
        space = self._points.space
        parents = with_parents(space, space[name].when)
        return self._of_rows(parents, lambda params: is_active(space, name, params))

    def _where_allowed(self) -> npt.NDArray[np.bool_]:
        spec, allowed = self._points.spec, np.ones(self.size, dtype=bool)
        fixed = spec.flat()
        for rule in spec.constraints:
            values = {name: fixed[name] for name in rule.names}
            allowed &= self._of_rows(with_parents(spec.space, rule.names), partial(_holds, rule, values))
        return allowed

    def _of_rows(self, names: list[str], holds: Callable[[dict[str, Any]], bool]) -> npt.NDArray[np.bool_]:
        """Return for each row whether `holds` is true of its fields `names`, called once for each combination."""
        key = np.zeros(self.size, dtype=np.int64)
        for name in names:
            key = np.unique(key * (len(self._values[name]) + 1) + self._columns[name] + 1, return_inverse=True)[1]
        _, rows, inverse = np.unique(key, return_index=True, return_inverse=True)
        answers = [holds(self._params({name: self._columns[name][row] for name in names})) for row in rows]
        return np.array(answers, dtype=bool)[inverse]

    def _params(self, digits: dict[str, Any]) -> dict[str, Any]:
        return {name: self._values[name][digit] for name, digit in digits.items() if digit >= 0}


def _holds(rule: Constraint, fixed: dict[str, Any], params: dict[str, Any]) -> bool:
    return rule.holds({**fixed, **params})
