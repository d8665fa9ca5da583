"""The job of part f: the strong form of the strain problem and its finite-element form, each by its own error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from pinncore import Member, NonlocalStrain, Pack, TrainSettings
from pinncore.results import MemberPredictor

from ..evaluators.base import OWN
from ..options import EVALUATION, TRAINING
from .job import Job

ENOUGH: Final = 0.01  # relative L2 error at which a training ends
LOOK_EVERY: Final = 10  # iterations
STRONG: Final = NonlocalStrain(boundary_weight=0.05)
FE: Final = NonlocalStrain(formulation="fe")


class Evaluation(Job):
    """Loss and gradient of one network."""

    def __init__(self, member: Member) -> None:
        self._pack = Pack([member], device="cpu")
        self._pack.engine.evaluate(self._pack.x)

    def facts(self) -> dict[str, Any]:
        return {}

    def run(self, amount: int) -> dict[str, Any]:
        engine, x = self._pack.engine, self._pack.x
        engine.evaluate(x)  # untimed: fills the caches, which the other contender used before
        started = time.perf_counter()
        for _ in range(amount):
            engine.evaluate(x)
        return {"seconds": time.perf_counter() - started}


class ToEnough(Job):
    """Trainings from seeds 100, 101, ... until their error is `ENOUGH`, or to their end; looking is not timed.

    The seconds are the median of one training times their number: one that does not get there counts with its whole
    time. The error is the one that the formulation makes small: of the finite-element form its nodal reading.
    """

    def __init__(self, problem: NonlocalStrain, settings: TrainSettings) -> None:
        self._problem, self._settings = problem, settings
        self._train(99)  # compiles and fills the caches

    def facts(self) -> dict[str, Any]:
        return {}

    def run(self, amount: int) -> dict[str, Any]:
        trained = [self._train(100 + number) for number in range(amount)]
        reached = sum(error <= ENOUGH for _, _, error in trained)
        return {
            "seconds": amount * float(np.median([seconds for seconds, _, _ in trained])),
            "evaluations": float(np.median([count for _, count, _ in trained])),
            "reached": f"{reached} of {amount}",
        }

    def _train(self, seed: int) -> tuple[float, int, float]:
        """Return the seconds of the processor, the evaluations and the smallest error of a training."""
        pack = Pack([Member(self._settings, self._problem, seed)], device="cpu")
        seconds, count, best, looked = 0.0, 0, float("inf"), -1
        while pack.active and best > ENOUGH:
            ticks = self._settings.epochs if not pack.progress[0].epoch else 1
            started = time.process_time()
            pack.step(ticks)
            seconds += time.process_time() - started
            iteration = pack.second.iterations[0] if pack.active else self._settings.iterations
            if pack.active:
                count = sum(pack.progress[0].evaluations.values())
            if iteration % LOOK_EVERY == 0 and iteration != looked and pack.active:
                looked, best = iteration, min(best, self._error(MemberPredictor(pack.engine, pack.x[0])))
        return seconds, count, best

    def _error(self, network: MemberPredictor) -> float:
        name = "rel_l2_nodal" if self._problem.formulation == "fe" else "rel_l2"
        error = self._problem.evaluate(network)[name]
        assert error is not None, "the bundled data have a reference"
        return error


_JOBS: Final[dict[str, Callable[[NonlocalStrain, TrainSettings], Job]]] = {
    EVALUATION: lambda problem, settings: Evaluation(Member(settings, problem)),
    TRAINING: ToEnough,
}


def open_job(name: str, threads: int, *, clock: str, width: int, depth: int, dtype: str, engine: str) -> Job:
    """Build the job of `pinnsweep`, the finite-element form, or of `strong`."""
    torch.set_num_threads(threads)
    settings = TrainSettings(
        width=width,
        depth=depth,
        dtype=dtype,  # type: ignore[arg-type]
        engine=engine,  # type: ignore[arg-type]
        epochs=1000,
        adam_lr=1e-2,
        lr_schedule="cosine",
        second_stage="ssbroyden",
        iterations=600,
        record_every=10_000,
        keep_epochs=(),
    )
    return _JOBS[clock](FE if name == OWN else STRONG, settings)
