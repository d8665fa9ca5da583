"""The reasons for which a budget ends a study."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sweeps.owner.budget import spent_reason
from sweeps.spec.sections import BudgetSettings
from sweeps.study.trials import StudyTrials, Trial, Window

MUCH: dict[str, Any] = {"hours": 1e6, "device_hours": 1e6, "evaluations": 10**12, "failures": 10**6, "best": 0.0}


def reason_of(
    budget: BudgetSettings,
    *,
    hours: float = 0.0,
    device_hours: float = 0.0,
    evaluations: int = 0,
    failures: int = 0,
    best: float | None = None,
) -> str | None:
    trials = StudyTrials(1, 0.5, ["rel_l2"])
    trials.seconds, trials.evaluations, trials.counts["FAIL"] = 3600 * device_hours, evaluations, failures
    trials.add(Trial(0, 0, {}, "", 0, Window(0, 1, 1, 0), "COMPLETE", None if best is None else (best,)))
    return spent_reason(budget, trials, hours, is_percent=True)


def test_without_limits_nothing_is_used_up() -> None:
    assert reason_of(BudgetSettings(), **MUCH) is None


@pytest.mark.parametrize(
    ("limit", "spent", "reason"),
    [
        ({"hours": 2.0}, {"hours": 2.03}, "budget.hours: 2 h are used up (2.03 h)"),
        ({"hours": 1234567.5}, {"hours": 1234567.5}, "budget.hours: 1234567.5 h are used up (1234567.50 h)"),
        ({"hours": 0.001}, {"hours": 0.00123}, "budget.hours: 0.001 h are used up (0.0012 h)"),
        ({"device_hours": 8.5}, {"device_hours": 8.5}, "budget.device_hours: 8.5 h are used up (8.50 h)"),
        (
            {"evaluations": 1_000_000},
            {"evaluations": 1_000_512},
            "budget.evaluations: 1,000,000 are used up (1,000,512)",
        ),
        ({"target": 0.01}, {"best": 0.01}, "budget.target: 1 % is reached (1 %)"),
        ({"target": 0.01}, {"best": 0.0093217}, "budget.target: 1 % is reached (0.9322 %)"),
        ({"max_failures": 0}, {"failures": 1}, "budget.max_failures: 1 trial has failed, more than 0"),
        ({"max_failures": 3}, {"failures": 5}, "budget.max_failures: 5 trials have failed, more than 3"),
    ],
)
def test_the_reason_names_limit_and_use(limit: dict[str, Any], spent: dict[str, Any], reason: str) -> None:
    assert reason_of(BudgetSettings(**limit), **spent) == reason


@pytest.mark.parametrize(
    ("limit", "spent"),
    [
        ({"hours": 2.0}, {"hours": math.nextafter(2.0, 0)}),
        ({"device_hours": 2.0}, {"device_hours": 1.99, "hours": 10.0}),
        ({"evaluations": 100}, {"evaluations": 99}),
        ({"target": 0.01}, {"best": math.nextafter(0.01, 1)}),
        ({"target": 0.01}, {"best": None}),
        ({"target": 0.01}, {"best": math.nan}),
        ({"max_failures": 0}, {"failures": 0}),
        ({"max_failures": 3}, {"failures": 3}),
    ],
)
def test_just_below_a_limit_the_study_goes_on(limit: dict[str, Any], spent: dict[str, Any]) -> None:
    assert reason_of(BudgetSettings(**limit), **spent) is None


def test_a_reached_target_is_named_before_what_it_took() -> None:
    limits = BudgetSettings(hours=1.0, evaluations=1, max_failures=0, target=0.5)
    assert str(reason_of(limits, **MUCH)).startswith("budget.target: ")
