"""The budget of a study: when its limits are reached."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec.sections import BudgetSettings


@dataclass(frozen=True)
class Spent:
    """Use of a study so far, over all its attempts.

    `hours` are wall-clock hours and `device_hours` the hours in which packs held a device, summed over devices.
    `evaluations` counts evaluations of loss and gradient, `failures` failed trials. `best` is the lowest objective,
    None before a trial is complete.
    """

    hours: float = 0
    device_hours: float = 0
    evaluations: int = 0
    failures: int = 0
    best: float | None = None


def spent_reason(budget: BudgetSettings, spent: Spent) -> str | None:
    """Return why no new trial starts, as the limit reached and the amount used, or None within the budget."""
    if budget.target is not None and spent.best is not None and spent.best <= budget.target:
        return f"budget.target: {budget.target:.10g} is reached ({spent.best:.4g})"
    if budget.max_failures is not None and spent.failures > budget.max_failures:
        trials = "trial has" if spent.failures == 1 else "trials have"
        return f"budget.max_failures: {spent.failures} {trials} failed, more than {budget.max_failures}"
    if budget.hours is not None and spent.hours >= budget.hours:
        return f"budget.hours: {budget.hours:.10g} h are used up ({_format_hours(spent.hours)} h)"
    if budget.device_hours is not None and spent.device_hours >= budget.device_hours:
        return f"budget.device_hours: {budget.device_hours:.10g} h are used up ({_format_hours(spent.device_hours)} h)"
    if budget.evaluations is not None and spent.evaluations >= budget.evaluations:
        return f"budget.evaluations: {budget.evaluations:,} are used up ({spent.evaluations:,})"
    return None


def _format_hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 1 else f"{hours:.2g}"
