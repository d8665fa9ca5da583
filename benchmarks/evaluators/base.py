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
    "bmm": Listing("own", "batched products (engine torch)", packs=True),
    "torch_func": Listing("with_torch_func", "torch.func, vmap of grad", packs=True),
}
GPU_RIVALS: Final = ("slides", "bmm", "torch_func", "jax")
RIVALS: Final = tuple(name for name in EVALUATORS if name not in (OWN, "bmm", "torch_func"))


class Evaluator(abc.ABC):
    """An evaluator of loss and gradient of all members of a case; parameters and points are set once."""

    note: str = ""  # the choices made, for the table

    @abc.abstractmethod
    def evaluate(self) -> None:
        """Compute loss and gradient of every member; on a CPU completely, on a GPU they may be on their way."""

    def wait(self) -> None:  # noqa: B027, most have nothing to wait for
        """Return when everything that was started is done."""

    @abc.abstractmethod
    def answer(self) -> tuple[Array, Array]:
        """Return losses [members] and gradients [members, parameters] of the last evaluation."""


class Trainer(abc.ABC):
    """The first stage of all members of a case, by full-batch Adam with constant learning rate, as torch has it."""

    @abc.abstractmethod
    def start(self) -> None:
        """Set all members to their start weights; optimisers begin anew."""

    @abc.abstractmethod
    def train(self, epochs: int) -> None:
        """Train all members completely."""

    @abc.abstractmethod
    def losses(self) -> list[float]:
        """Return the losses of all members at their weights."""


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
