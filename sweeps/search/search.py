"""The trials of a study in the order in which they are proposed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from optuna.distributions import BaseDistribution

from .cmaes import CmaEs
from .independent import Grid, Listed, QuasiRandom, Random
from .optuna_samplers import Gp, Nsga2, Tpe
from .points import Points
from .proposals import PastTrial, Proposal, Sampler

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

CLASSES: Final[Mapping[str, type[Sampler]]] = {
    "random": Random,
    "grid": Grid,
    "qmc": QuasiRandom,
    "tpe": Tpe,
    "gp": Gp,
    "cmaes": CmaEs,
    "nsga2": Nsga2,
    "list": Listed,
}


class Search:
    """The trials of a study: their number, and the parameters of each.

    `history` are the trials of earlier starts, `warm` those of other studies to learn from; samplers that do not learn
    use neither. Parameters are plain values of the active fields; `stored` and `distributions` return them as Optuna
    keeps them.
    """

    def __init__(self, spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> None:
        self._trials = spec.search.trials
        self._points = Points(spec)
        self._sampler = CLASSES[spec.search.sampler](self._points, history, warm)

    @property
    def limit(self) -> int:
        """Return the total number of trials.

        Raises `SweepError` where a grid is too large to count its allowed combinations, or has none.
        """
        counts = [count for count in (self._trials, self._sampler.size) if count is not None]
        return min(counts, default=0)

    @property
    def learns(self) -> bool:
        """Return whether proposals depend on results."""
        return self._sampler.traits.learns

    def generation_of(self, index: int) -> range:
        """Return the places proposed together with `index`: a generation in deterministic mode, else `index` alone."""
        return self._sampler.generation_of(index)

    def ready(self, index: int) -> bool:
        """Return whether `index` can be proposed: in deterministic mode, all earlier generations must have ended."""
        return self._sampler.ready(index)

    def propose(self, index: int) -> Proposal:
        """Return the configuration at place `index` of the sequence, the same one in every call.

        Raises `SweepError` where no allowed point is found, `IndexError` beyond the end of a grid or list, and
        `ValueError` for a place that is not ready.
        """
        return self._sampler.propose(index)

    def tell(
        self, index: int, state: str, values: tuple[float, ...] | None = None, rungs: Mapping[int, float] | None = None
    ) -> None:
        """Report the state of a trial; a complete trial without a finite number for each objective counts as failed.

        A trial that is COMPLETE or PRUNED stays so; a failed trial may be trained again. Raises `ValueError` for a
        trial that a sampler that learns has not proposed.
        """
        self._sampler.tell(index, state, values, rungs or {})

    def stored(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as Optuna stores them: lists and mappings as JSON text."""
        return {name: self._points.space[name].encode(value) for name, value in params.items()}

    def decoded(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plain parameters for those that Optuna stores."""
        return {name: self._points.space[name].decode(value) for name, value in stored.items()}

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Return the distributions of Optuna for the active fields."""
        return {name: self._points.distributions[name] for name in params}
