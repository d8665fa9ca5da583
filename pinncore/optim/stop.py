"""Reasons why the training of a member ended, with advice; they are results, not exceptions."""

from __future__ import annotations

import enum


class StopReason(enum.StrEnum):
    """A reason why a member ended, with a sentence of advice."""

    EPOCHS_DONE = "epochs_done"
    ITERATIONS_DONE = "iterations_done"
    EVALUATIONS_DONE = "evaluations_done"
    GRADIENT_TOLERANCE = "gradient_tolerance"
    STEP_TOLERANCE = "step_tolerance"
    LOSS_TOLERANCE = "loss_tolerance"
    NO_DESCENT = "no_descent"
    HELD_OUT_STALLED = "held_out_stalled"
    NOT_FINITE = "not_finite"
    DIVERGED = "diverged"
    PRUNED = "pruned"

    @property
    def advice(self) -> str:
        """Return what happened and what a user can do about it."""
        return _ADVICE[self]

    @property
    def failed(self) -> bool:
        """Return whether the member has no usable result."""
        return self in (StopReason.NOT_FINITE, StopReason.DIVERGED)


_ADVICE = {
    StopReason.EPOCHS_DONE: "All epochs of the first stage ran; no second stage was requested.",
    StopReason.ITERATIONS_DONE: "All iterations of the second stage ran.",
    StopReason.EVALUATIONS_DONE: "max_evaluations was used up before iterations.",
    StopReason.GRADIENT_TOLERANCE: "The largest gradient component fell below tolerance_grad.",
    StopReason.STEP_TOLERANCE: "The last step was below tolerance_change; in float32 try float64.",
    StopReason.LOSS_TOLERANCE: "The loss changed by less than tolerance_change; in float32 try float64.",
    StopReason.NO_DESCENT: "The direction no longer descends; in float32 try float64, or a shorter history.",
    StopReason.HELD_OUT_STALLED: (
        "The held-out residual gained less than 1 % over 50 iterations; final_weights: last trains on."
    ),
    StopReason.NOT_FINITE: "The loss or its gradient is not finite; lower adam_lr or look at the initial weights.",
    StopReason.DIVERGED: "The loss passed divergence_factor times its first value; lower adam_lr or first_step.",
    StopReason.PRUNED: "Ended early: others were better at the same share of their training, or it no longer improved.",
}
