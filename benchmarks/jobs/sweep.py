"""The job of part d: a sweep of short trials on its own Ray, started and stopped inside the job.

Ours is `sweeps.runner.driver.run` on a study file. Theirs is plain Ray Tune with `OptunaSearch` and one CPU per trial.
Both get the same configurations and initial weights for each trial: ours draws them, theirs gets them as
`points_to_evaluate`.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cluster.scratch import scratch_folder
from pinncore.initialisation import initial_parameters
from sweeps.runner.driver import run
from sweeps.runner.ray_cluster import SETTINGS
from sweeps.search import search_of, stable_hash
from sweeps.storage.tables import StudyTables
from sweeps.study.loading import load_spec

from ..case import Data
from ..evaluators.base import OWN
from ..options import Shape
from .job import Job
from .slides_trial import Schedule

WIDTHS, RATES = (8, 12, 16), (1e-3, 1e-2)
QUIET = ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AIR_NEW_OUTPUT")


@dataclass(frozen=True)
class Work:
    """A number of trials of one schedule."""

    case: str
    data: Data
    dtype: str
    engine: str
    depth: int
    trials: int
    schedule: Schedule
    cores: int

    def study(self, folder: Path) -> Path:
        """Write the study file of this work into `folder` and return its path."""
        train = {
            "depth": self.depth,
            "dtype": self.dtype,
            "engine": self.engine,
            "epochs": self.schedule.epochs,
            "iterations": self.schedule.iterations,
            "lbfgs_history": self.schedule.history,
            "first_step": self.schedule.first_step,
            "tolerance_grad": 0.0,
            "tolerance_change": 0.0,
        }
        document = {
            "study": "bench",
            "problem": {"name": "nonlocal_strain", "data": self.data},
            "search": {"sampler": "random", "trials": self.trials, "seed": 0},
            "space": {"width": {"choice": list(WIDTHS)}, "adam_lr": {"loguniform": list(RATES)}},
            "train": train,
        }
        file = folder / "bench.yaml"
        file.write_text(yaml.safe_dump(document))
        return file

    def points(self, folder: Path) -> list[dict[str, Any]]:
        """Return the configurations that the study will draw."""
        search = search_of(load_spec(self.study(folder), ()))
        return [search.propose(number).params for number in range(self.trials)]

    def seeds(self) -> list[int]:
        """Return the seeds of the study's initial weights."""
        return [stable_hash(0, number, 1) >> 1 for number in range(self.trials)]


class SweepJob(Job):
    """A job that runs the sweep once per unit; Ray's start and stop are included and also counted separately."""

    def __init__(self, work: Work) -> None:
        self._work = work
        brief = replace(work, trials=1, schedule=replace(work.schedule, epochs=2, iterations=2))
        with scratch_folder("sweep") as folder:  # compiles, and loads every library from the disk once
            self.sweep(brief, folder)

    def sweep(self, work: Work, folder: Path) -> dict[str, Any]:
        """Run the sweep and return errors and evaluations of the trials."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        return {}

    def run(self, amount: int) -> dict[str, Any]:
        seconds = ray_s = 0.0
        summary: dict[str, Any] = {}
        for _ in range(amount):
            with scratch_folder("sweep") as folder, _ray_timed() as spent:
                started = time.perf_counter()
                summary = self.sweep(self._work, folder)
                seconds += time.perf_counter() - started
            ray_s += sum(spent)
        return {"seconds": seconds, "ray_seconds": ray_s, **summary}


class OwnSweep(SweepJob):
    """`pinnsweep run`, without its command line."""

    def sweep(self, work: Work, folder: Path) -> dict[str, Any]:
        outcome = run(work.study(folder), root=folder, cpus=work.cores, plain=True)
        table = StudyTables(outcome.study_dir).read("trials", columns=["trial", "seed", "rel_l2", "evaluations"])
        rows = sorted(table.to_pylist(), key=lambda row: row["trial"])
        if [row["seed"] for row in rows] != work.seeds():
            raise RuntimeError("the study draws its initial weights with other seeds than the comparison expects")
        return _summary([row["rel_l2"] for row in rows], [row["evaluations"] for row in rows])


class RaySweep(SweepJob):
    """Plain Ray Tune."""

    def sweep(self, work: Work, folder: Path) -> dict[str, Any]:
        for name in QUIET:
            os.environ.setdefault(name, SETTINGS[name])
        import ray
        from ray import tune

        from . import slides_tune

        points = work.points(folder)
        layers = [Shape(work.depth, point["width"]).layers for point in points]
        starts = [
            initial_parameters("torch", sizes, seed=seed) for sizes, seed in zip(layers, work.seeds(), strict=True)
        ]
        ray.init(
            "local", num_cpus=work.cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        try:
            reported = slides_tune.sweep(
                work.case,
                points,
                [start.tolist() for start in starts],
                space={"width": tune.choice(list(WIDTHS)), "adam_lr": tune.loguniform(*RATES)},
                depth=work.depth,
                dtype=work.dtype,
                schedule=work.schedule,
                folder=folder,
            )
        finally:
            ray.shutdown()
        return _summary([m.get("rel_l2") for m in reported], [m.get("evaluations") for m in reported])


def _summary(errors: Sequence[float | None], evaluations: Sequence[int | None]) -> dict[str, Any]:
    """Summarise errors and evaluations of all trials. Raises `RuntimeError` for a failed trial: it saves time."""
    finite = [error for error in errors if error is not None and math.isfinite(error)]
    if len(finite) < len(errors) or not finite:
        raise RuntimeError(f"{len(errors) - len(finite)} of {len(errors)} trials failed")
    return {
        "trials": len(errors),
        "median_rel_l2": statistics.median(finite),
        "best_rel_l2": min(finite),
        "evaluations": sum(filter(None, evaluations)),
    }


@contextmanager
def _ray_timed() -> Iterator[list[float]]:
    """Yield a list that collects the seconds of every `ray.init` and `ray.shutdown`."""
    import ray

    spent: list[float] = []
    originals = {name: getattr(ray, name) for name in ("init", "shutdown")}

    def timed(original: Any) -> Any:
        @functools.wraps(original)
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                spent.append(time.perf_counter() - started)

        return call

    for name, original in originals.items():
        setattr(ray, name, timed(original))
    try:
        yield spent
    finally:
        for name, original in originals.items():
            setattr(ray, name, original)


def open_job(name: str, threads: int, *, schedule: dict[str, Any], **work: Any) -> SweepJob:
    """Build the job of `pinnsweep` or `ray` on `threads` cores; `work` holds the other fields of `Work`."""
    return (OwnSweep if name == OWN else RaySweep)(Work(**work, schedule=Schedule(**schedule), cores=threads))
