"""Plain Ray Tune over PINN code for PyTorch, as a user writes it: a function, an actor of its own for every trial.

Ray imports this file in each of those actors, so it asks for nothing that such a user would not.
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
    """Train the networks at `points` from `starts`, in any order; returns what each trial reported."""
    known = [(point["adam_lr"], list(start)) for point, start in zip(points, starts, strict=True)]
    trainable = functools.partial(_train, case=case, starts=known, depth=depth, dtype=dtype, schedule=schedule)
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
    """One trial in its own process."""
    torch.set_num_threads(1)
    sizes = [2, *[config["width"]] * depth, 1]
    model = StrainModel(Case.load(case), getattr(torch, dtype), sizes)
    _, start = min(starts, key=lambda known: abs(known[0] - config["adam_lr"]))
    model.network.load(unflatten(np.asarray(start), np.asarray(sizes)))
    outcome = train(model, replace(schedule, adam_lr=config["adam_lr"]))
    evaluations = outcome.first_evaluations + outcome.second_evaluations
    tune.report({"rel_l2": outcome.rel_l2, "loss": outcome.loss, "evaluations": evaluations})
