"""Plain Ray Tune over PINN code for PyTorch, as a user writes it: a function, with its own actor for every trial.

Ray imports this file in each actor, so it imports only what such a user would.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from ..case import Case, unflatten
from ..evaluators.slides import StrainModel
from .slides_trial import Schedule, train


def sweep(
    case: str,
    points: Sequence[Mapping[str, Any]],
    starts: Sequence[Sequence[float]],
    *,
    space: Mapping[str, Any],
    depth: int,
    dtype: str,
    schedule: Schedule,
    folder: Path,
) -> list[dict[str, Any]]:
    """Train the networks at `points` from `starts`, in any order; return what each trial reported."""
    starts_by_rate = [(point["adam_lr"], list(start)) for point, start in zip(points, starts, strict=True)]
    trainable = functools.partial(_train, case=case, starts=starts_by_rate, depth=depth, dtype=dtype, schedule=schedule)
    results: Any = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=dict(space),
        tune_config=tune.TuneConfig(
            metric="rel_l2",
            mode="min",
            search_alg=OptunaSearch(points_to_evaluate=[dict(point) for point in points], seed=0),
            num_samples=len(points),
        ),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0),
    ).fit()
    return [result.metrics or {} for result in results]


def _train(
    config: dict[str, Any],
    *,
    case: str,
    starts: list[tuple[float, list[float]]],
    depth: int,
    dtype: str,
    schedule: Schedule,
) -> None:
    """Train one trial in its own process and report it to Ray."""
    torch.set_num_threads(1)
    sizes = [2, *[config["width"]] * depth, 1]
    model = StrainModel(Case.load(case), getattr(torch, dtype), sizes)
    _, start = min(starts, key=lambda pair: abs(pair[0] - config["adam_lr"]))
    model.network.load(unflatten(np.asarray(start), np.asarray(sizes)))
    outcome = train(model, replace(schedule, adam_lr=config["adam_lr"]))
    evaluations = outcome.first_evaluations + outcome.second_evaluations
    tune.report({"rel_l2": outcome.rel_l2, "loss": outcome.loss, "evaluations": evaluations})
