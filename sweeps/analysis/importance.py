"""The importance of each hyperparameter for a place among the best trials: PED-ANOVA, and how much of it is chance.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
IJCAI 2023 (arXiv 2304.10255), computed by Optuna, dimensions that exist only `when` included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..search.optuna_samplers import quiet
from ..states import PRUNED
from .study_axes import Axis, Judged

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Array = NDArray[np.float64]

FEWEST_TRIALS: Final = 10
FEWEST_TOP: Final = 5  # PED-ANOVA needs so many trials among the best
_SHARE: Final = 0.1  # share of the trials that count as the best
_MOST_TRIALS: Final = 2000  # of more, so many are drawn, which is enough
_MOST_ROUNDS, _FEWEST_ROUNDS, _WORK = 60, 20, 20_000  # rounds times trials


@dataclass(frozen=True)
class DimensionImportance:
    """The importance of one dimension; the shares of all dimensions add up to 1.

    90 % of the results for random halves of the trials lie between `low` and `high`. A dimension without any effect
    stays below `noise` in 95 % of cases. `p_value` is how often chance alone gives as much, estimated by permuting the
    values of the trials. It is not corrected for the number of dimensions.
    """

    name: str
    share: float
    low: float
    high: float
    noise: float
    p_value: float

    @property
    def is_noise(self) -> bool:
        """Return whether chance alone explains the importance."""
        return self.p_value > 0.05


@dataclass(frozen=True)
class Importance:
    """The dimensions of a study, the most important first.

    The best `top` of the `trials` are compared with all. `why_not` is the reason where there are no dimensions.
    """

    metric: str
    trials: int
    top: int
    dimensions: tuple[DimensionImportance, ...]
    why_not: str | None = None


def importance(study: Judged) -> Importance:
    """Return the importance of every dimension that has more than one value.

    The best tenth of the trials, at least five, count as the best. Pruned trials count as worse than every complete
    one, failed trials as the worst.
    """
    chosen = np.arange(len(study.trials))
    if len(chosen) > _MOST_TRIALS:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, _MOST_TRIALS, replace=False))
    values = _ranks(study)[chosen]
    number, complete = len(chosen), int(np.count_nonzero(study.complete[chosen]))
    top = max(FEWEST_TOP, int(np.ceil(_SHARE * number)))
    axes = [axis for axis in study.axes if not axis.is_constant]
    why_not = _why_not(number, complete, axes, values)
    if why_not:
        return Importance(study.metric, number, 0, (), why_not)
    top = min(top, complete)
    generator, rounds = np.random.default_rng(0), max(_FEWEST_ROUNDS, min(_MOST_ROUNDS, _WORK // number))
    with quiet():
        evaluate = _evaluator(axes, chosen, top / number)
        result = evaluate(values)
        by_chance = np.array([evaluate(generator.permutation(values)) for _ in range(rounds)])
        halves = np.array([_of_a_half(evaluate, values, generator) for _ in range(rounds)])
    total = result.sum() or 1.0
    shares = halves / np.maximum(halves.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    noise = np.quantile(by_chance, 0.95, axis=0) / total
    p_values = (1 + np.count_nonzero(by_chance >= result, axis=0)) / (1 + rounds)
    low, high = np.quantile(shares, [0.05, 0.95], axis=0)
    columns = zip((a.name for a in axes), result / total, low, high, noise, p_values, strict=True)
    dimensions = [DimensionImportance(name, *map(float, numbers)) for name, *numbers in columns]
    return Importance(study.metric, number, top, tuple(sorted(dimensions, key=lambda dimension: -dimension.share)))


def _why_not(number: int, complete: int, axes: list[Axis], values: Array) -> str | None:
    if not axes:
        return "no dimension has more than one value"
    if number < FEWEST_TRIALS:
        return f"importance needs at least {FEWEST_TRIALS} trials, and {number} have finished"
    if complete < FEWEST_TOP:
        return f"importance needs at least {FEWEST_TOP} complete trials, and there are {complete}"
    return "all trials have the same value" if np.ptp(values) == 0 else None


def _ranks(study: Judged) -> Array:
    """Return the ranks of the trials, of which PED-ANOVA uses only the order; pruned, then failed ones come last."""
    number = len(study.trials)
    ranks = np.where(study.states == PRUNED, float(number), float(number + 1))
    complete = study.complete
    ranks[complete] = np.unique(study.values[complete], return_inverse=True)[1]
    return ranks


def _evaluator(axes: list[Axis], chosen: NDArray[np.int64], share: float) -> Callable[[Array], Array]:
    """Return a function that computes the importance of each dimension from the trials' values.

    An infinite value leaves a trial out. Shapes: [trials] to [dimensions].
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    distributions = {axis.name: _distribution(axis) for axis in axes}
    trials = []
    for trial in chosen:
        existing = [axis for axis in axes if np.isfinite(axis.places[trial])]
        params = {axis.name: _param(axis, axis.places[trial]) for axis in existing}
        own = {axis.name: distributions[axis.name] for axis in existing}
        trials.append(optuna.trial.create_trial(params=params, distributions=own, value=0.0))
    study = optuna.create_study()
    study.add_trials(trials)
    for stored, trial in zip(study.get_trials(deepcopy=False), trials, strict=True):
        stored.distributions = trial.distributions  # the storage made copies, which are slow to compare
    names = list(distributions)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(share, 0.5))

    def evaluate(values: Array) -> Array:
        shares = evaluator.evaluate(study, names, target=lambda trial: float(values[trial.number]))
        return np.array([shares[name] for name in names])

    return evaluate


def _of_a_half(evaluate: Callable[[Array], Array], values: Array, generator: np.random.Generator) -> Array:
    """Return the importance for a random half of the trials (delete-half jackknife, Shao and Wu 1989)."""
    left_out = generator.permutation(len(values)) < len(values) // 2
    return evaluate(np.where(left_out, np.inf, values))


def _distribution(axis: Axis) -> BaseDistribution:
    """Return the dimension as a distribution of Optuna; categories become their indices, as they may be of any type."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.categories is not None:
        return CategoricalDistribution(range(len(axis.categories)))
    if axis.is_whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.is_log)
    return FloatDistribution(axis.low, axis.high, log=axis.is_log)


def _param(axis: Axis, place: float) -> Any:
    inside = min(max(place, axis.low), axis.high)
    return int(inside) if axis.categories is not None or axis.is_whole else float(inside)
