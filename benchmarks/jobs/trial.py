"""The job of part c: one whole trial from its initial weights to its error."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pinncore import Member, NonlocalStrain, Pack, TrainSettings

from ..case import Case, Data
from ..evaluators.base import OWN
from ..evaluators.slides import StrainModel
from .job import Job
from .slides_trial import Outcome, Schedule, train

STEP = 1000  # evaluations between two checks whether the pack has ended


class OwnTrial(Job):
    """A pack of members of one shape, seeds 0, 1, 2, ..."""

    def __init__(self, case: Case, schedule: Schedule, *, data: Data, dtype: str, engine: str) -> None:
        layers = [int(size) for size in case.layers]
        settings = TrainSettings(
            width=layers[1],
            depth=len(layers) - 2,
            dtype=dtype,  # type: ignore[arg-type]
            engine=engine,  # type: ignore[arg-type]
            epochs=schedule.epochs,
            adam_lr=schedule.adam_lr,
            iterations=schedule.iterations,
            lbfgs_history=schedule.history,
            first_step=schedule.first_step,
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )
        problem = NonlocalStrain(data=data)
        self._members = [Member(settings, problem, seed) for seed in range(case.members)]
        brief = [replace(member, train=replace(settings, epochs=2, iterations=2)) for member in self._members]
        pack = Pack(brief, device="cpu")
        starts = np.stack([pack.engine.layout.unpack(row, member) for member, row in enumerate(pack.x)])
        self._difference = float(np.abs(starts - case.starts).max())
        _train_to_end(pack)

    def facts(self) -> dict[str, Any]:
        return {"difference": self._difference}

    def run(self, amount: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(amount):
            pack = Pack(self._members, device="cpu")
            _train_to_end(pack)
        seconds = time.perf_counter() - started
        result = next(result for result in pack.results if result.label == 0)
        outcome = Outcome(
            result.counts["first_evaluations"],
            result.counts["second_evaluations"],
            result.counts["iterations_done"],
            result.loss,
            result.metrics.get("rel_l2") or math.nan,
        )
        return {"seconds": seconds, **outcome.as_facts(), "stop": result.stop_reason.value}


class SlidesTrial(Job):
    """One member, the first of the case."""

    def __init__(self, case: Case, schedule: Schedule, *, dtype: str) -> None:
        self._case, self._schedule, self._dtype = case, schedule, getattr(torch, dtype)
        train(self._model(), replace(schedule, epochs=2, iterations=2))

    def facts(self) -> dict[str, Any]:
        return {}

    def run(self, amount: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(amount):
            outcome = train(self._model(), self._schedule)
        return {"seconds": time.perf_counter() - started, **outcome.as_facts()}

    def _model(self) -> StrainModel:
        model = StrainModel(self._case, self._dtype)
        model.network.load(self._case.weights(0))
        return model


def _train_to_end(pack: Pack) -> None:
    while pack.active:
        pack.step(STEP)


def open_job(
    name: str, threads: int, *, case: str, members: int, schedule: dict[str, Any], data: Data, dtype: str, engine: str
) -> Job:
    """Build the job of `pinnsweep` or `slides` on the first members of a case file."""
    torch.set_num_threads(threads)
    numbers = Case.load(case).first(members)
    if name == OWN:
        return OwnTrial(numbers, Schedule(**schedule), data=data, dtype=dtype, engine=engine)
    return SlidesTrial(numbers, Schedule(**schedule), dtype=dtype)
