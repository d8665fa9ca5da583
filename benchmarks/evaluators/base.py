"""The interface of the evaluators, their list, and the choice of the fastest implementation."""

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
    """An entry of the list: module, label, modules that must be installed, and whether it evaluates packs."""

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
    "jax": Listing("with_jax", "JAX forward derivatives", ("jax",), packs=True),
}
RIVALS: Final = tuple(name for name in EVALUATORS if name != OWN)


class Evaluator(abc.ABC):
    """An evaluator of loss and gradient of all members of a case; parameters and points are set once."""

    note: str = ""  # the choices made, for the table

    @abc.abstractmethod
    def evaluate(self) -> None:
        """Compute loss and gradient of every member completely; nothing is left to lazy evaluation."""

    @abc.abstractmethod
    def answer(self) -> tuple[Array, Array]:
        """Return losses [members] and gradients [members, parameters] of the last evaluation."""


def fastest(ways: Mapping[str, Callable[[], object]]) -> str:
    """Return the name of the fastest function on this machine, each compiled by a first call."""
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
