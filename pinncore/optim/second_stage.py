"""The base of the packed second stages: they take losses and gradients and give the next points to evaluate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .stop import StopReason

OWN = "own/"  # prefix of tensors in a state that have the member's own size, not that of a row


class SecondStage(ABC):
    """The second stage of the members of a pack, each between two evaluations of its own.

    The first `tell()` starts a member with value and gradient at its start `x[i]`; until then `searches[i]` is None.
    From then on `x[i]`, `losses[i]`, `terms[i]` and `gradient[i]` are those of its last completed iteration. When it
    has ended, `stopped[i]` is the reason.
    """

    of_members: ClassVar[tuple[str, ...]] = (  # lists with one entry per member
        "settings",
        "searches",
        "stopped",
        "iterations",
        "evaluations",
        "losses",
        "terms",
    )

    def __init__(self, settings: Sequence[Any], x: Tensor) -> None:
        members = len(settings)
        self.settings = list(settings)
        self.x, self.gradient = x.clone(), torch.zeros_like(x)
        self.searches: list[Any] = [None] * members
        self.stopped: list[StopReason | None] = [None] * members
        self.iterations, self.evaluations = [0] * members, [0] * members
        self.losses, self.terms = [math.nan] * members, [()] * members  # type: list[float], list[tuple[float, ...]]

    @property
    @abstractmethod
    def forms(self) -> list[str | None]:
        """Return the form of each member's memory, None where SciPy keeps it."""

    @abstractmethod
    def points(self, rows: Sequence[int]) -> Tensor:
        """Return the points [rows, size] at which the members `rows` need an evaluation."""

    @abstractmethod
    def tell(
        self,
        rows: Sequence[int],
        losses: Sequence[float],
        gradient: Tensor,
        terms: Sequence[tuple[float, ...]] | None = None,
    ) -> list[int]:
        """Take loss and gradient [rows, size] at `points(rows)`; return the members that completed an iteration.

        Members that have stopped must not be among `rows`.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all members except `rows`."""
        place = torch.as_tensor(rows, dtype=torch.int64, device=self.x.device)
        self.x, self.gradient = self.x[place], self.gradient[place]
        for name in self.of_members:
            setattr(self, name, [getattr(self, name)[row] for row in rows])

    def state(self, row: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return plain values and tensors from which `load` continues exactly.

        Tensors named `own/...` have the member's own size, the others the size of a row.
        """
        values = {
            "iterations": self.iterations[row],
            "evaluations": self.evaluations[row],
            "loss": self.losses[row],
            "terms": list(self.terms[row]),
        }
        return values, {"x": self.x[row], "gradient": self.gradient[row]}

    def load(self, row: int, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Continue one member from its `state`."""
        self.iterations[row], self.evaluations[row] = values["iterations"], values["evaluations"]
        self.losses[row], self.terms[row] = values["loss"], tuple(values["terms"])
        self.x[row], self.gradient[row] = tensors["x"], tensors["gradient"]
