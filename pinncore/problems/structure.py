"""What all problems of one class with equal settings, floats apart, have in common: their equations in symbols."""

from __future__ import annotations

import functools
from functools import cached_property
from typing import Any

from ..equations.analysis import group
from ..equations.channels import Group
from ..equations.evaluation import symbol
from ..equations.writing import Writer, Written


class Twin:
    """A hashable wrapper that makes the symbolic twin of a problem; equal to every other, so that caches ignore it."""

    def __init__(self, problem: Any) -> None:
        self.problem = problem

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twin)

    def __hash__(self) -> int:
        return 0


class Structure:
    """What all problems of a class with the same settings, floats apart, have in common."""

    def __init__(self, writer: Writer, referenced: tuple[str, ...]) -> None:
        self.writer = writer
        self._referenced = referenced
        self._groups: dict[str, tuple[Group, ...]] = {}

    @cached_property
    def written(self) -> Written:
        return self.writer.written()

    def groups(self, loss_form: str) -> tuple[Group, ...]:
        """Return the groups: where the loss is a mean square, all equations share one."""
        if loss_form not in self._groups:
            terms, equations = list(self.written.terms), list(self.written.equations)
            factors = {name: symbol(f"factor_{name}") for name in self._referenced}
            conditions = [[name] for name in terms if name not in equations]
            shared = [equations] if loss_form == "mean_square" and equations else [[name] for name in equations]
            self._groups[loss_form] = tuple(group(self.written, names, factors) for names in shared + conditions)
        return self._groups[loss_form]


@functools.lru_cache(maxsize=64)
def structure_of(kind: type[Any], key: str, symbolic: Twin) -> Structure:
    twin = object.__new__(kind)
    vars(twin).update(vars(symbolic.problem))
    for name in [name for name in vars(twin) if isinstance(getattr(kind, name, None), cached_property)]:
        del vars(twin)[name]
    floats = kind.float_settings()
    vars(twin).update({name: symbol(name) for name in floats})
    writer = Writer(
        twin,
        coordinates=tuple(column.symbol for column in kind.coordinates),
        outputs=tuple(column.symbol for column in kind.outputs),
        known=tuple(column.symbol for column in kind.known),
        settings=floats,
        sizes=kind.sized,
    )
    return Structure(writer, kind.referenced)
