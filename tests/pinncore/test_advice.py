"""What is said about the end of a training: by its reason, and by where its error was going."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pinncore import StopReason, TrainSettings, train
from pinncore.advice import advice_on


def curves(values: Any, *, phase: str = "second", every: int = 10, loss: Any = None) -> dict[str, Any]:
    """Return a stage of 400 epochs whose error is 0.5, then a stage with these errors."""
    number = len(values)
    first = 40 if phase == "second" else 0
    error = np.array([*[0.5] * first, *values], dtype=float)
    return {
        "phase": np.array([*["first"] * first, *[phase] * number]),
        "step": np.array([*range(0, 10 * first, 10), *range(0, every * number, every)]),
        "rel_l2": error,
        "loss": np.array([*[9.0] * first, *loss]) if loss is not None else np.full(len(error), 5.0),
    }


FALLING = np.geomspace(0.2, 0.02, 31)
FLAT = [*np.geomspace(0.2, 0.02, 20), *[0.02] * 11]
RISING = [*np.geomspace(0.2, 0.015, 16), *np.geomspace(0.0151, 0.02, 15)]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (FALLING, "The error still fell by 37 % over the last 60 iterations: more may lower it further."),
        (FLAT, "The error was flat over the last 60 iterations: more will hardly lower it."),
        (
            RISING,
            "The error rose by 13 % over the last 60 iterations: more is not likely to lower it. "
            "It was lowest, 1.5 %, after 150 iterations.",
        ),
        (FALLING[:2], "The curve has too few rows to tell whether more would help"),
    ],
)
@pytest.mark.parametrize("reason", [StopReason.ITERATIONS_DONE, StopReason.EVALUATIONS_DONE])
def test_at_a_limit_the_error_decides_whether_more_helps(values: Any, sentence: str, reason: StopReason) -> None:
    advice = advice_on(reason, curves(values))
    assert advice.startswith(reason.advice) and sentence in advice
    assert ("more may lower" in advice) == (values is FALLING)


def test_epochs_are_judged_alike_and_one_wave_changes_nothing() -> None:
    wave = FALLING * (1 + 0.01 * np.cos(np.arange(31)))
    assert "still fell by 38 % over the last 60 epochs" in advice_on(
        StopReason.EPOCHS_DONE, curves(wave, phase="first")
    )


def test_without_a_reference_the_loss_is_judged() -> None:
    unknown = curves([np.nan] * 31, loss=np.geomspace(9.0, 3.0, 31))
    assert "The loss still fell by 20 %" in advice_on(StopReason.ITERATIONS_DONE, unknown)


def test_other_ends_do_not_depend_on_the_curve() -> None:
    for reason in (StopReason.NO_DESCENT, StopReason.DIVERGED, StopReason.PRUNED):
        assert advice_on(reason, curves(FALLING)) == reason.advice
    empty = {name: values[:0] for name, values in curves(FALLING).items()}
    assert "too few rows" in advice_on(StopReason.ITERATIONS_DONE, empty)


def test_a_result_says_it() -> None:
    result = train(settings=TrainSettings(width=3, depth=1, epochs=40, iterations=0, record_every=4), device="cpu")
    assert result.advice.startswith(StopReason.EPOCHS_DONE.advice) and "over the last 8 epochs" in result.advice
