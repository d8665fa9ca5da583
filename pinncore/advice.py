"""What a user can do about the end of a training: a sentence on its reason, and one on where its curve was going."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .optim import StopReason
from .settings import PHASES

LIMITS: Final = (StopReason.EPOCHS_DONE, StopReason.ITERATIONS_DONE, StopReason.EVALUATIONS_DONE)
LAST_PART: Final = 0.2  # of the steps of the last stage, whose course is judged
FLAT: Final = 0.02  # relative change over the last part that counts as none
_FEWEST_ROWS: Final = 3
_STEPS: Final = dict(zip(PHASES, ("epochs", "iterations"), strict=True))


def advice_on(reason: StopReason, curves: Mapping[str, NDArray[Any]]) -> str:
    """Return what happened and what a user can do about it; where a limit ended a training, by its `curves`."""
    return f"{reason.advice} {_course(curves)}" if reason in LIMITS else reason.advice


def _course(curves: Mapping[str, NDArray[Any]]) -> str:
    """Return a sentence on the error in the last part of the last stage, or on the loss where no error is known."""
    last = curves["phase"] == curves["phase"][-1:]
    step, unit = curves["step"][last], _STEPS.get(str(*curves["phase"][-1:]), "steps")
    has_error = bool(last.any()) and bool(np.isfinite(curves["rel_l2"][last]).all())
    name, values = ("error", curves["rel_l2"][last]) if has_error else ("loss", curves["loss"][last])
    late = step >= (1 - LAST_PART) * step.max(initial=0)
    if late.sum() < _FEWEST_ROWS or not (values[late] > 0).all():
        return "The curve has too few rows to tell whether more would help; record_every sets their distance."
    course = np.log(values[late])
    slope = np.polyfit(step[late] - step[-1], course - course[-1], 1)[0]
    span = int(step[-1] - step[late][0])
    change = float(np.expm1(slope * span))
    over = f"over the last {span:,} {unit}"
    if change < -FLAT:
        text = f"The {name} still fell by {100 * -change:.2g} % {over}: more may lower it further."
    elif change <= FLAT:
        text = f"The {name} was flat {over}: more will hardly lower it."
    else:
        text = f"The {name} rose by {100 * change:.2g} % {over}: more is not likely to lower it."
    least = int(np.argmin(values))
    if values[-1] > (1 + FLAT) * values[least]:
        lowest = f"{100 * values[least]:.4g} %" if has_error else f"{values[least]:.4g}"
        text += f" It was lowest, {lowest}, after {int(step[least]):,} {unit}."
    return text
