"""Each of the seven traps is marked from the numbers of a study that fell into it, and fine where none did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pinncore.budget.parts import OVERFITTED
from sweeps.report import loss_traps, traps

from .. import synthetic
from .test_report import Page, read

Change = Callable[[int], dict[str, Any]]
IDENTITY, CONSTANT, LOSS, SCALING, EPSILON, SECOND, OVERFITTING = range(7)


def marks(
    folder: Path,
    change: Change = lambda trial: {},
    curves: Mapping[int, Mapping[str, Any]] | None = None,
    trials: int = 8,
    without_curves: bool = False,
) -> list[list[str]]:
    """Return state, trap and evidence of each mark on a study whose trials are changed row by row; trial 0 is best.

    `curves` changes columns of the curves, by trial.
    """
    tables = synthetic.make_study(folder, trials=0, failed=0)
    rows = [
        synthetic.trial_row(trial) | {"rel_l2": 0.01 + 0.01 * trial, "loss": 0.3 + 0.01 * trial} | change(trial)
        for trial in range(trials)
    ]
    courses = [synthetic.curve(0)]
    for trial, columns in (curves or {}).items():
        length = len(next(iter(columns.values())))
        cut = {
            name: values if name in ("trial", "replicate") else values[:length] for name, values in courses[0].items()
        }
        courses.append({**cut, "trial": trial, **columns})
    tables.publish("a", trials=rows, curves=[] if without_curves else courses)
    study = read(folder)
    assert study.best is not None
    page = Page(str(traps.traps(study, study.best)))
    texts = page.texts[2:]  # after the heading and the sentence below it
    return [texts[at : at + 3] for at in range(0, len(texts), 3)]


def test_a_study_without_faults_is_fine(tmp_path: Path) -> None:
    trap_marks = marks(tmp_path / "demo")
    assert [state for state, *_ in trap_marks] == ["fine"] * 7
    assert all(title.endswith("?") for _, title, _ in trap_marks), "a title is no finding"
    assert "17 % away from the local strain e. Predictions within 10 %: 0 of 8." in trap_marks[IDENTITY][2]
    assert "correlation of loss and rel_l2: 1.00 (8 trainings; that with the lowest loss also" in trap_marks[LOSS][2]
    assert "scale_scope is consistent everywhere" in trap_marks[SCALING][2]
    assert "effective g 8 mm^2" in trap_marks[SCALING][2]
    assert "varies 1 times as much as the reference" in trap_marks[CONSTANT][2]
    assert "(constant): 0 of 8. " in trap_marks[CONSTANT][2]
    assert "torch with 1e-08" in trap_marks[EPSILON][2] and "times epsilon" in trap_marks[EPSILON][2]
    assert trap_marks[SECOND][2].startswith(
        "1.22 evaluations per iteration; first_step below 1 in 0 of 8; float32 in 0"
    )


@pytest.mark.parametrize(
    ("trap", "change", "evidence"),
    [
        (IDENTITY, lambda trial: {"distance_to_local": 0.02 if trial == 3 else 0.17}, "10 %: 1 of 8 (trial 3)."),
        (CONSTANT, lambda trial: {"spread": 0.01 if trial in (3, 5) else 1.0}, "2 of 8 (trials 3, 5)."),
        (CONSTANT, lambda trial: {"over_constant": 1.2 if trial else 0.1}, "(trivial): 7 of 8 (trials 1, 2"),
        (
            IDENTITY,
            lambda trial: {"inputs": ["x", "y", "g", "elocal"], "mean_abs_du_de": 0.97, "distance_to_local": 0.01},
            "Mean |du/de| of the best trial: 0.97.",
        ),
        (
            LOSS,
            lambda trial: {"loss": 0.5 - 0.01 * trial},
            "-1.00 (8 trainings; that with the lowest loss has rank 8 by error, 8 %)",
        ),
        (
            SCALING,
            lambda trial: {"scale_scope": "all"},
            "8 of 8 trainings have scale_scope all, with scale_factor 1 to 8",
        ),
        (SCALING, lambda trial: {"scale_scope": "elocal"}, "They solve the equation itself, with raw inputs"),
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


@pytest.mark.parametrize(
    ("trap", "column", "threshold", "is_below"),
    [
        (IDENTITY, "distance_to_local", traps.IDENTITY_TRAP, True),
        (CONSTANT, "spread", traps.CONSTANT, True),
        (CONSTANT, "over_constant", traps.TRIVIAL, False),
        (OVERFITTING, "heldout_residual", OVERFITTED, False),
    ],
)
def test_one_trial_beyond_a_threshold_is_enough(
    tmp_path: Path, trap: int, column: str, threshold: float, is_below: bool
) -> None:
    for name, value in (("below", 0.999 * threshold), ("above", 1.001 * threshold)):
        is_faulty = (name == "below") == is_below
        found = marks(
            tmp_path / name,
            lambda trial, value=value: {"trained_residual": 1.0} | ({column: value} if trial == 5 else {}),
        )
        assert found[trap][0] == ("look out" if is_faulty else "fine")
        assert ("1 of 8 (trial 5)" in found[trap][2]) == is_faulty


def test_losses_are_ranked_within_one_form_only(tmp_path: Path) -> None:
    """Mean squares of good trials may be larger than norms of bad ones; within each form, the loss orders trials."""

    def change(trial: int) -> dict[str, Any]:
        form = ("norm", "mean_square")[trial % 2]
        return {"problem_loss": form, "loss": (1 + trial) * (1.0 if form == "norm" else 1e-3)}

    state, _, evidence = marks(tmp_path / "two", change, trials=16)[LOSS]
    assert state == "fine"
    assert "1.00 with problem_loss mean_square (8 trainings;" in evidence
    assert "Losses of different forms cannot be compared." in evidence
    state, _, evidence = marks(tmp_path / "few", change)[LOSS]
    assert state == "not checked" and evidence.endswith("there are 4.")


def test_the_equation_that_was_solved_is_named(tmp_path: Path) -> None:
    errors = {1.0: (8.0, None), 10.0: (0.8, 0.11557), 100.0: (0.08, 0.15432)}

    def change(trial: int) -> dict[str, Any]:
        factor = [*errors][trial % 3]
        g, error = errors[factor]
        return {"scale_scope": "all", "scale_factor": factor, "effective_g_mm2": g, "equation_error": error}

    state, _, evidence = marks(tmp_path / "demo", change)[SCALING]
    assert state == "look out" and "5 of them solved another equation." in evidence
    assert "With scale_factor 10 the effective g is 0.8 mm^2, and its exact solution is 11.56 % off." in evidence
    assert "With scale_factor 100 the effective g is 0.08 mm^2, and its exact solution is 15.43 % off." in evidence


@pytest.mark.parametrize(("times", "state"), [(0.99, "fine"), (1.01, "look out")])
def test_an_error_that_rose_while_the_loss_fell_is_marked(tmp_path: Path, times: float, state: str) -> None:
    """The result of trial 5 is compared with the lowest error on its way; in trial 6, the loss did not fall."""

    def change(trial: int) -> dict[str, Any]:
        return {"rel_l2": 0.05 * loss_traps.RISEN * times if trial in (5, 6) else 0.01 + 0.01 * trial, "loss": 1.0}

    lowest = {trial: {"rel_l2": [0.3, 0.05], "loss": [50.0, 0.5 if trial == 6 else 2.0]} for trial in (5, 6)}
    found = marks(tmp_path / "demo", change, curves=lowest)[OVERFITTING]
    assert found[0] == state
    assert ("1 of 8 (trial 5)" in found[2]) == (state == "look out")


@pytest.mark.parametrize(("result", "state"), [((0.05, 2.0), "fine"), ((0.3, 1.0), "look out")])
def test_what_came_after_the_kept_weights_is_no_overfitting(
    tmp_path: Path, result: tuple[float, float], state: str
) -> None:
    """The error rose on the way: that is the result's where the last weights are kept, and not where the best are."""
    course = {5: {"rel_l2": [0.05, 0.3], "loss": [2.0, 1.0]}}
    kept = {"rel_l2": result[0], "loss": result[1]}
    assert marks(tmp_path / "demo", lambda trial: kept if trial == 5 else {}, course)[OVERFITTING][0] == state


def test_what_a_study_has_not_cannot_be_a_trap(tmp_path: Path) -> None:
    missing = ("distance_to_local", "loss", "spread", "over_constant", "heldout_residual", "trained_residual")
    bare = dict.fromkeys(missing) | {"first_stage": "sgd", "iterations": 0}
    trap_marks = marks(tmp_path / "demo", lambda trial: bare, without_curves=True)
    unknown, without = "not checked", "not applicable"
    assert [state for state, *_ in trap_marks] == [unknown, unknown, unknown, "fine", without, without, unknown]
