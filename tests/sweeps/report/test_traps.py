"""Each of the six traps is marked from the numbers of a study that fell into it, and fine where none did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.report.traps import traps

from .. import synthetic
from .test_report import Page, read

Change = Callable[[int], dict[str, Any]]
IDENTITY, LOSS, SCALING, EPSILON, SECOND, OVERFITTING = range(6)


def marks(folder: Path, change: Change = lambda trial: {}, curve: Mapping[str, Any] | None = None) -> list[list[str]]:
    """Return state, trap and evidence of each mark on a study of eight trials, changed row by row; trial 0 is best."""
    tables = synthetic.make_study(folder, trials=0, failed=0)
    rows = [
        synthetic.trial_row(trial) | {"rel_l2": 0.01 + 0.01 * trial, "loss": 0.3 + 0.01 * trial} | change(trial)
        for trial in range(8)
    ]
    tables.publish("a", trials=rows, curves=[synthetic.curve(0) | dict(curve or {})])
    study = read(folder)
    assert study.best is not None
    page = Page(str(traps(study, study.best)))
    texts = page.texts[2:]  # after the heading and the sentence below it
    return [texts[at : at + 3] for at in range(0, len(texts), 3)]


def test_a_study_without_faults_is_fine(tmp_path: Path) -> None:
    trap_marks = marks(tmp_path / "demo")
    assert [state for state, *_ in trap_marks] == ["fine"] * 6
    assert all(title.endswith("?") for _, title, _ in trap_marks), "a title is no finding"
    assert "17 % away from the local strain e. Predictions within 5 %: 0 of 8." in trap_marks[IDENTITY][2]
    assert (
        "rank correlation of 1.00" in trap_marks[LOSS][2]
        and "The trial with the lowest loss also has the lowest error (1 %)." in trap_marks[LOSS][2]
    )
    assert "scale_scope is consistent everywhere" in trap_marks[SCALING][2]
    assert "torch with 1e-08" in trap_marks[EPSILON][2] and "times epsilon" in trap_marks[EPSILON][2]
    assert trap_marks[SECOND][2].startswith(
        "1.22 evaluations per iteration; first_step below 1 in 0 of 8; float32 in 0"
    )


@pytest.mark.parametrize(
    ("trap", "change", "evidence"),
    [
        (IDENTITY, lambda trial: {"distance_to_local": 0.17 if trial else 0.02}, "Predictions within 5 %: 1 of 8."),
        (
            IDENTITY,
            lambda trial: {"inputs": ["x", "y", "g", "elocal"], "mean_abs_du_de": 0.97, "distance_to_local": 0.01},
            "Mean |du/de| of the best trial: 0.97.",
        ),
        (
            LOSS,
            lambda trial: {"loss": 0.5 - 0.01 * trial},
            "correlation of -1.00. The trial with the lowest loss has rank 8",
        ),
        (LOSS, lambda trial: {"problem_loss": ("norm", "mean_square")[trial % 2], "loss": 1.0 / (trial + 1)}, "forms"),
        (
            SCALING,
            lambda trial: {"scale_scope": "all"},
            "8 of 8 trainings have scale_scope all, with scale_factor 1 to 8",
        ),
        (
            SCALING,
            lambda trial: {"scale_scope": "all" if trial else "consistent"},
            "The best trial is not one of them.",
        ),
        (EPSILON, lambda trial: {"adam_convention": ("torch", "tf1")[trial % 2]}, "They differ between trials"),
        (EPSILON, lambda trial: {"adam_eps": 0.1}, "Another convention would have taken different steps."),
        (SECOND, lambda trial: {"first_step": 0.001}, "every line search starts too short"),
        (SECOND, lambda trial: {"dtype": "float32"}, "float32 makes L-BFGS stop early"),
        (SECOND, lambda trial: {"second_evaluations": 1850}, "line searches are long"),
        (SECOND, lambda trial: {"iterations_done": 0 if trial == 3 else 500}, "1 of 8 took no step"),
    ],
)
def test_a_study_that_fell_into_a_trap_is_marked(tmp_path: Path, trap: int, change: Change, evidence: str) -> None:
    trap_marks = marks(tmp_path / "demo", change)
    assert [place for place, (state, *_) in enumerate(trap_marks) if state == "look out"] == [trap]
    assert evidence in trap_marks[trap][2]


def test_an_error_that_rose_while_the_loss_fell_is_marked(tmp_path: Path) -> None:
    course = synthetic.curve(0)
    rising = np.where(np.arange(course["step"].size) < 40, course["rel_l2"], 0.2)
    falling = 50.0 / (1.0 + np.arange(course["step"].size))
    state, _, evidence = marks(tmp_path / "demo", curve={"rel_l2": rising, "loss": falling})[OVERFITTING]
    assert state == "look out" and "times its minimum, while the loss fell to" in evidence


def test_what_came_after_the_kept_weights_is_no_overfitting(tmp_path: Path) -> None:
    course = synthetic.curve(0)
    is_late = course["step"] + np.where(np.array(course["phase"]) == "second", 1000, 0) > 1100
    rising, falling = np.where(is_late, 0.2, 0.01), 50.0 / (1.0 + np.arange(course["step"].size))
    curve = {"rel_l2": rising, "loss": falling}
    assert marks(tmp_path / "last", curve=curve)[OVERFITTING][0] == "look out"
    state, _, evidence = marks(tmp_path / "kept", lambda trial: {"kept_at": 1100}, curve=curve)[OVERFITTING]
    assert state == "fine" and "The error of the best trial ended near its minimum" in evidence


def test_what_a_study_has_not_cannot_be_a_trap(tmp_path: Path) -> None:
    bare = {"distance_to_local": None, "loss": None, "first_stage": "sgd", "iterations": 0}
    trap_marks = marks(tmp_path / "demo", lambda trial: bare, curve={"rel_l2": None})
    unknown, without = "not checked", "not applicable"
    assert [state for state, *_ in trap_marks] == [unknown, unknown, "fine", without, without, unknown]
