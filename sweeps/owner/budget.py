"""The budget of a study: when its limits are reached, and the time used so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..spec.sections import BudgetSettings
from ..storage.optuna_sql import Ledger
from ..study.trials import StudyTrials
from ..words import rounded

NOTE_EVERY_S: Final = 30.0  # interval between two records of the time used


def spent_reason(budget: BudgetSettings, trials: StudyTrials, hours: float, *, is_percent: bool) -> str | None:
    """Return why no new trial starts, as the limit reached and the amount used, or None within the budget.

    People see the objective, and so `budget.target`, in per cent where `is_percent`. `hours` is the wall-clock time of
    the study over all its attempts.
    """
    best, failures, device_hours = trials.best, trials.failures, trials.seconds / 3600
    if budget.target is not None and best and best.value is not None and best.value <= budget.target:
        target, value = (rounded(number, is_percent=is_percent) for number in (budget.target, best.value))
        return f"budget.target: {target} is reached ({value})"
    if budget.max_failures is not None and failures > budget.max_failures:
        failed = "trial has" if failures == 1 else "trials have"
        return f"budget.max_failures: {failures} {failed} failed, more than {budget.max_failures}"
    if budget.hours is not None and hours >= budget.hours:
        return f"budget.hours: {budget.hours:.10g} h are used up ({_format_hours(hours)} h)"
    if budget.device_hours is not None and device_hours >= budget.device_hours:
        return f"budget.device_hours: {budget.device_hours:.10g} h are used up ({_format_hours(device_hours)} h)"
    if budget.evaluations is not None and trials.evaluations >= budget.evaluations:
        return f"budget.evaluations: {budget.evaluations:,} are used up ({trials.evaluations:,})"
    return None


def _format_hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 1 else f"{hours:.2g}"


class UsedTime:
    """The wall-clock time that a study has used over all its attempts, recorded in its database now and then."""

    def __init__(self, hours_before: float, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._hours_before, self._ledger, self._clock = hours_before, ledger, clock
        self._began = self._noted = clock()

    @property
    def hours(self) -> float:
        """Return the hours used so far."""
        return self._hours_before + (self._clock() - self._began) / 3600

    def note(self) -> None:
        """Record the hours where that was not done for a while."""
        if self._clock() > self._noted + NOTE_EVERY_S:
            self._noted = self._clock()
            self._ledger.set_attribute("hours", self.hours)
