"""What every evaluator offers, the list of them, and the choice among several ways to write one."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ..case import Array

TRIES = 5


@dataclass(frozen=True)
class Listing:
    """An evaluator by name: its module, what must be installed for it, and whether it can take members together."""

    module: str
    label: str
    needs: tuple[str, ...] = ()
    packs: bool = False


OWN: Final = "pinnsweep"
EVALUATORS: Final = {
    OWN: Listing("own", "pinnsweep", packs=True),
    "slides": Listing("slides", "slides' nested autograd"),
    "deepxde": Listing("with_deepxde", "DeepXDE (torch)", ("deepxde",)),
    "jinns": Listing("with_jinns", "jinns, its Laplacian", ("jinns", "jax", "equinox")),
    "jinns_jvp": Listing("with_jinns", "jinns, own jvp", ("jinns", "jax", "equinox")),
    "jax": Listing("with_jax", "JAX forward Laplacian", ("jax",), packs=True),
}
RIVALS: Final = tuple(name for name in EVALUATORS if name != OWN)


class Evaluator(abc.ABC):
    """Loss and gradient of all members of a case; parameters and points are set once, everything else is computed."""

    note: str = ""  # what was chosen, for the reader of the table

    @abc.abstractmethod
    def evaluate(self) -> None:
        """Compute loss and gradient of every member, to the end: nothing is left to be computed lazily."""

    @abc.abstractmethod
    def answer(self) -> tuple[Array, Array]:
        """Losses [members] and gradients [members, parameters] of the last evaluation."""


def fastest(ways: Mapping[str, Callable[[], object]]) -> str:
    """The name of the way that takes least time on this machine, each compiled by a first call."""
    if len(ways) == 1:
        return next(iter(ways))
    best: dict[str, float] = {}
    for name, way in ways.items():
        way()
        best[name] = min(_seconds(way) for _ in range(TRIES))
    return min(best, key=best.__getitem__)


def _seconds(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started
