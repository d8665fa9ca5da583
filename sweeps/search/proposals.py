"""The data exchanged between a study and its sampler: proposals one way, trials the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ..spec.samplers import SamplerTraits
from ..states import COMPLETE, FAIL, FINISHED
from .points import Points


@dataclass(frozen=True)
class PastTrial:
    """A trial as a sampler sees it.

    `index` is its place in the sampler's sequence; `params` are plain values of the active fields; `state` is one of
    WAITING, RUNNING, COMPLETE, FAIL and PRUNED; `values` are the objectives of a complete trial; `rungs` maps rungs, in
    thousandths of the planned steps, to the metric there; `attrs` are those of its proposal.
    """

    index: int
    params: Mapping[str, Any]
    state: str
    values: tuple[float, ...] | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Return whether its result is known."""
        return self.state in FINISHED

    def checked(self, objectives: int) -> PastTrial:
        """Return the trial, as failed where it is complete without a finite number for each objective."""
        if self.state != COMPLETE:
            return replace(self, values=None)
        values = tuple(self.values or ())
        if len(values) != objectives or not all(math.isfinite(value) for value in values):
            return replace(self, state=FAIL, values=None)
        return replace(self, values=values)


@dataclass(frozen=True)
class Proposal:
    """A configuration to train: plain values of the active fields.

    `attrs` are JSON values that are stored with the trial and returned in `PastTrial.attrs`.
    """

    params: dict[str, Any]
    attrs: dict[str, Any] = field(default_factory=dict)


class Sampler(ABC):
    """A rule that turns places in a sequence into configurations.

    `history` are the trials of earlier starts, `warm` those of other studies; samplers that do not learn use neither.
    """

    traits: ClassVar[SamplerTraits]

    def __init__(self, points: Points, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        self.points, self._settings = points, points.spec.search

    @property
    def size(self) -> int | None:
        """Return the number of places, None where it is not limited."""
        return None

    @abstractmethod
    def propose(self, index: int) -> Proposal:
        """Return the configuration at place `index`, the same one in every call."""

    def tell(self, index: int, state: str, values: tuple[float, ...] | None, rungs: Mapping[int, float]) -> None:
        """Take note of the state and the results of a trial, in a sampler that learns."""
        return None

    def generation_of(self, index: int) -> range:
        """Return the places that are proposed together with `index`."""
        return range(index, index + 1)

    def ready(self, index: int) -> bool:
        """Return whether all results are known that `index` must wait for."""
        return True
