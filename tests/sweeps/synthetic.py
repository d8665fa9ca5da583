"""Synthetic studies, published by the real code: fields, curves and weights of the right shape without training."""

from __future__ import annotations

import importlib.resources
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pinncore.data.loading import load_data
from sweeps.storage.schema import setting_columns
from sweeps.storage.tables import StudyTables

from .problems import STRAIN, of_strain

STUDY_FILE = """\
study: {name}
problem: {{name: nonlocal_strain, data: strb100}}
search: {{sampler: random, trials: {trials}, objective: {objective}, seed: 0}}
space:
  width: {{choice: [8, 16, 24]}}
  depth: {{int: [1, 4]}}
  adam_lr: {{loguniform: [1.0e-4, 1.0e-2]}}
  lbfgs_history: {{choice: [10, 50, 200]}}
  init: {{choice: [torch, keras, tf1]}}
  scale_factor: {{choice: [1, 4, 8]}}
train: {{epochs: 1000, iterations: 500, keep_epochs: [0, 50, 1000]}}
"""
START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FAILURE = "loss became NaN in L-BFGS iteration 12"
STEPS = 1500  # planned steps of both stages
Points = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def points() -> Points:
    """Return x_mm, y_mm, local and reference strain of StrB100 if it is bundled, else of `small_points`."""
    if importlib.resources.files("pinncore").joinpath("datasets", "strb100.npz").is_file():
        gauss = load_data("strb100").gauss
        assert gauss.enonlocal_true is not None
        return gauss.x_mm, gauss.y_mm, gauss.elocal, gauss.enonlocal_true
    return small_points()


def small_points() -> Points:
    """Return x_mm, y_mm, local and reference strain of a synthetic damage band on a 20 x 20 grid."""
    axis = np.linspace(0.5, 99.5, 20)
    x_mm, y_mm = (array.ravel() for array in np.meshgrid(axis, axis))
    distance = np.hypot(x_mm - 31.0, 0.6 * y_mm)
    reference = 3.6e-4 * np.exp(-((distance / 16.0) ** 1.4)) + 4e-5 * (x_mm / 100.0) + 2e-6
    return x_mm, y_mm, reference * (1.0 + 1.1 * np.exp(-((distance / 5.0) ** 2))), reference


def config(number: int) -> dict[str, Any]:
    """Return the resolved configuration of trial `number`."""
    draw = np.random.default_rng([7, number])
    return {
        "train": {
            "width": int(draw.choice([8, 16, 24])),
            "depth": int(draw.integers(1, 5)),
            "activation": "tanh",
            "init": str(draw.choice(["torch", "keras", "tf1"])),
            "dtype": "float64",
            "engine": "auto",
            "allow_tf32": False,
            "first_stage": "adam",
            "epochs": 1000,
            "adam_lr": float(10 ** draw.uniform(-4, -2)),
            "lr_schedule": "cosine",
            "adam_beta1": 0.9,
            "adam_beta2": 0.999,
            "adam_eps": 1e-8,
            "adam_convention": "torch",
            "momentum": 0.9,
            "rmsprop_decay": 0.99,
            "weight_decay": 0.01,
            "weight_decay_form": "decoupled",
            "second_stage": "lbfgs",
            "iterations": 500,
            "lbfgs_history": int(draw.choice([10, 50, 200])),
            "lbfgs_memory": "auto",
            "lbfgs_curvature": "torch",
            "first_step": 1,
            "tolerance_grad": 1e-7,
            "tolerance_change": 2.2e-22,
            "max_evaluations": None,
            "final_weights": "last",
            "divergence_factor": 1e6,
            "record_every": 25,
            "keep_epochs": [0, 50, 1000],
        },
        "problem": {
            "name": "nonlocal_strain",
            "data": "strb100",
            "inputs": ["x", "y"],
            "formulation": "strong",
            "loss": "norm",
            "scale_factor": int(draw.choice([1, 4, 8])),
            "scale_scope": "consistent",
            "strain_multiplier": 1.0,
            "batch": None,
            "boundary_weight": 0.1,
            "strain_reference": "rms",
        },
    }


def trial_row(
    number: int, replicate: int = 0, *, failure: str | None = None, pruned_at: int | None = None
) -> dict[str, Any]:
    """Return a row of `trials`; that of a failed member has no metrics, like real ones.

    `pruned_at` is the step, counted over both stages, at which the trial was pruned.
    """
    start = START + timedelta(seconds=20 * number)
    row = {
        **setting_columns(config(number), STRAIN.record),
        "trial": number,
        "replicate": replicate,
        "state": "FAIL" if failure else "COMPLETE" if pruned_at is None else "PRUNED",
        "pack": number // 4,
        "seed": 1000 + 100_000 * replicate + number,
        "attempt": 1,
        "rebatched": False,
        "started_at": start,
        "finished_at": start + timedelta(seconds=30),
        "engine_used": "torch",
        "lbfgs_memory_used": "two_loop",
        "device": "cpu",
        "host": "node-1",
        "python_version": "3.11.2",
        "torch_version": "2.13.0",
        "pinnsweep_version": "0.1.0",
        "data_hash": "d" * 64,
        "config_hash": f"{number:064x}",
        "spec_hash": "5" * 64,
    }
    if failure:
        return row | {"failure": failure, "stop_reason": "not_finite"}
    error = error_of(number, replicate)
    epochs = min(1000, STEPS if pruned_at is None else pruned_at)
    iterations = (STEPS if pruned_at is None else pruned_at) - epochs
    return row | {
        "rel_l2": error,
        "paper_metric": 300 * error,
        "process_zone_error": 1.4 * error,
        "distance_to_local": 0.17,
        "mean_abs_du_de": 0.0,
        "heldout_residual": 0.02 + error,
        "trained_residual": 0.016 + 0.8 * error,
        "spread": 1.0,
        "over_constant": 2.3 * error,
        "effective_g_mm2": 8.0,
        "loss": 0.3 + error,
        "loss_residual": 0.2 + error,
        "loss_lrb": 0.06,
        "loss_btb": 0.04,
        "grad_norm": 1e-4,
        "stop_reason": "iterations_done" if pruned_at is None else "pruned",
        "stop_advice": "Give iterations more.",
        "parameters": 337,
        "epochs_done": epochs,
        "iterations_done": iterations,
        "kept_at": epochs + iterations,
        "first_evaluations": epochs,
        "second_evaluations": int(1.224 * iterations),
        "evaluations": epochs + int(1.224 * iterations),
        "first_seconds": 0.0125 * epochs,
        "second_seconds": 0.0185 * iterations,
        "seconds": 0.0125 * epochs + 0.0185 * iterations,
    }


def error_of(number: int, replicate: int = 0) -> float:
    """Return the synthetic rel_l2 of a replicate of trial `number`, from 1 % to some tens of per cent."""
    error = 0.012 + 0.2 * np.random.default_rng([11, number]).random() ** 2
    spread = np.random.default_rng([19, number, replicate]).normal(0, 0.3) if replicate else 0.0
    return float(error * np.exp(spread))


def curve(number: int, replicate: int = 0, *, pruned_at: int | None = None) -> dict[str, Any]:
    """Return a synthetic training curve: 1000 epochs, then 500 iterations, cut at the step `pruned_at`."""
    epochs, iterations = np.arange(0, 1001, 25), np.arange(0, 501, 25)
    step = np.concatenate([epochs, iterations])
    phase = np.array(["first"] * epochs.size + ["second"] * iterations.size)
    is_reached = step + np.where(phase == "second", 1000, 0) <= (STEPS if pruned_at is None else pruned_at)
    evaluations = np.concatenate([epochs, 1000 + (1.224 * iterations).astype(int)])
    noise = np.random.default_rng([13, number, replicate] if replicate else [13, number]).normal(0, 0.05, step.size)
    end = error_of(number, replicate)
    decay = np.exp(-evaluations / 300.0 + noise)
    columns = {
        "phase": phase,
        "step": step,
        "evaluations": evaluations,
        "loss": 40 * decay + 0.3 + end,
        "loss_residual": 30 * decay + 0.2 + end,
        "loss_lrb": 6 * decay + 0.06,
        "loss_btb": 4 * decay + 0.04,
        "grad_norm": 100 * decay + 1e-4,
        "rel_l2": decay + end,
        "time_s": evaluations * 0.0135,
    }
    reached = {name: values[is_reached] for name, values in columns.items()}
    return {"trial": number, "replicate": replicate, **reached, "phase": reached["phase"].tolist()}


def field(number: int, at: Points, replicate: int = 0) -> dict[str, Any]:
    """Return a prediction whose relative L2 error is exactly `error_of(number, replicate)`."""
    x_mm, y_mm, local, reference = at
    wave = np.cos(np.pi * x_mm / 40 + number) * np.cos(np.pi * y_mm / 60)
    wave *= error_of(number, replicate) * np.linalg.norm(reference) / np.linalg.norm(wave)
    return {
        "trial": number,
        "replicate": replicate,
        "x_mm": x_mm,
        "y_mm": y_mm,
        "predicted": reference + wave,
        "reference": reference,
        "local": local,
    }


def weights(number: int, replicate: int = 0) -> dict[str, Any]:
    """Return the weights of a 2-6-6-1 network at four epochs."""
    draw = np.random.default_rng([17, number, replicate] if replicate else [17, number])
    rows = [
        (epoch, layer, row, column)
        for epoch in (0, 50, 1000, 1500)
        for layer, (inputs, outputs) in enumerate(((2, 6), (6, 6), (6, 1)), start=1)
        for row in range(-1, inputs)
        for column in range(outputs)
    ]
    epoch, layer, row, column = np.array(rows).T
    value = draw.normal(0, 0.4, len(rows)) * (1 + epoch / 1000)
    return {
        "trial": number,
        "replicate": replicate,
        "epoch": epoch,
        "layer": layer,
        "row": row,
        "column": column,
        "value": value,
    }


def publish(
    tables: StudyTables,
    flush: str,
    numbers: Sequence[int],
    *,
    failed: Sequence[int] = (),
    lost: Collection[tuple[int, int]] = (),
    replicates: int = 1,
    at: Points | None = None,
) -> None:
    """Publish the trials `numbers` and `failed` as one flush, fields at the points `at`.

    `lost` are the replicates (trial, replicate) of `numbers` that failed.
    """
    at = at or small_points()
    members = [(n, r) for n in numbers for r in range(replicates) if (n, r) not in lost]
    failures = [*lost, *((n, r) for n in failed for r in range(replicates))]
    tables.publish(
        flush,
        trials=[trial_row(*member) for member in members]
        + [trial_row(*member, failure=FAILURE) for member in failures],
        curves=[curve(*member) for member in members],
        fields=[field(number, at, replicate) for number, replicate in members],
        weights=[weights(*member) for member in members],
    )


def publish_pruned(
    tables: StudyTables, flush: str, numbers: Sequence[int], *, at_step: int, replicates: int = 1
) -> None:
    """Publish trials pruned at a step; the first of several replicates was already complete."""
    steps = {(n, r): None if r == 0 < replicates - 1 else at_step for n in numbers for r in range(replicates)}
    tables.publish(
        flush,
        trials=[trial_row(*member, pruned_at=step) for member, step in steps.items()],
        curves=[curve(*member, pruned_at=step) for member, step in steps.items()],
    )


def with_search(text: str, keys: str) -> str:
    """Return a study file with more keys in its section `search`."""
    return text.replace("seed: 0", f"seed: 0, {keys}", 1)


def make_study(
    study_dir: Path,
    *,
    trials: int = 12,
    failed: int = 2,
    per_flush: int = 4,
    replicates: int = 1,
    objective: str = "rel_l2",
    text: str = STUDY_FILE,
    at: Points | None = None,
) -> StudyTables:
    """Write a study folder with study file, `trials` complete and `failed` failed trials, and events."""
    study_dir.mkdir(parents=True, exist_ok=True)
    text = with_search(text, f"replicates: {replicates}") if replicates > 1 else text
    (study_dir / "study.yaml").write_text(
        text.format(name=study_dir.name, trials=trials + failed, objective=objective), encoding="utf-8"
    )
    tables = StudyTables(of_strain(study_dir))
    for first in range(0, trials, per_flush):
        numbers = range(first, min(first + per_flush, trials))
        publish(tables, f"pack-{first // per_flush:06d}", numbers, replicates=replicates, at=at)
    if failed:
        publish(tables, "pack-failed", (), failed=range(trials, trials + failed), replicates=replicates)
    tables.publish_events(
        "attempt-001",
        [{"time": START, "attempt": 1, "event": "started", "detail": "2 CPUs"}]
        + [{"time": START, "attempt": 1, "trial": n, "pack": n // per_flush, "event": "asked"} for n in range(trials)],
    )
    return tables


def make_pruned_study(study_dir: Path, *, replicates: int = 5, at: Points | None = None) -> StudyTables:
    """Write a study under asha in which every kind of pruning, failure and repetition occurs.

    Trials 0-19 are complete, one replicate of trial 3 having failed; 20-27 were pruned at the second rung and 28-31 at
    the third; 32 and 33 failed, 34 is 32 trained again; 35 has the configuration of trial 0.
    """
    study_dir.mkdir(parents=True, exist_ok=True)
    text = with_search(STUDY_FILE, f"replicates: {replicates}, pruner: asha")
    (study_dir / "study.yaml").write_text(text.format(name=study_dir.name, trials=35, objective="rel_l2"))
    tables, seeds = StudyTables(of_strain(study_dir)), range(replicates)
    publish(tables, "complete", range(20), lost={(3, 1)}, replicates=replicates, at=at)
    publish_pruned(tables, "second-rung", range(20, 28), at_step=175, replicates=replicates)
    publish_pruned(tables, "third-rung", range(28, 32), at_step=500, replicates=replicates)
    publish(tables, "failed", (), failed=(32, 33), replicates=replicates)
    tables.publish(
        "again", trials=[trial_row(34, r) | {"retry_of": 32} for r in seeds], curves=[curve(34, r) for r in seeds]
    )
    tables.publish("copy", trials=[trial_row(0, r) | {"trial": 35, "duplicate_of": 0, "seconds": 0.0} for r in seeds])
    return tables
