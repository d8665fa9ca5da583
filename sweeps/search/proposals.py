"""What a study and its sampler exchange, proposals one way and trials the other, and what all samplers have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from optuna.distributions import BaseDistribution

from ..spec.samplers import SamplerTraits
from ..spec.study_spec import StudySpec
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


class Search(ABC):
    """The trials of a study: their number, and the parameters of each. Its subclasses are the samplers.

    `history` are the trials of earlier starts, `warm` those of other studies to learn from; samplers that do not learn
    use neither. Parameters are plain values of the active fields; `stored` and `distributions` return them as Optuna
    keeps them.
    """

    traits: ClassVar[SamplerTraits]

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        self.points, self._settings = Points(spec), spec.search

    @property
    def size(self) -> int | None:
        """Return the number of places, None where it is not limited."""
        return None

    @property
    def limit(self) -> int:
        """Return the total number of trials.

        Raises `SweepError` where a grid is too large to count its allowed combinations, or has none.
        """
        return min((count for count in (self._settings.trials, self.size) if count is not None), default=0)

    @abstractmethod
    def propose(self, index: int) -> Proposal:
        """Return the configuration at place `index` of the sequence, the same one in every call.

        Raises `SweepError` where no allowed point is found, `IndexError` beyond the end of a grid or list, and
        `ValueError` for a place that is not ready.
        """

    def tell(
        self, index: int, state: str, values: tuple[float, ...] | None = None, rungs: Mapping[int, float] | None = None
    ) -> None:
        """Report the state of a trial; a complete trial without a finite number for each objective counts as failed.

        A trial that is COMPLETE or PRUNED stays so; a failed trial may be trained again. Raises `ValueError` for a
        trial that a sampler that learns has not proposed.
        """
        return None

    def generation_of(self, index: int) -> range:
        """Return the places proposed together with `index`: a generation in deterministic mode, else `index` alone."""
        return range(index, index + 1)

    def ready(self, index: int) -> bool:
        """Return whether `index` can be proposed: in deterministic mode, all earlier generations must have ended."""
        return True

    def stored(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as Optuna stores them: lists and mappings as JSON text."""
        return {name: self.points.space[name].encode(value) for name, value in params.items()}

    def decoded(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plain parameters for those that Optuna stores."""
        return {name: self.points.space[name].decode(value) for name, value in stored.items()}

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Return the distributions of Optuna for the active fields."""
        return {name: self.points.distributions[name] for name in params}
