"""The job of part gpu: the first stage of all members of a case."""

from __future__ import annotations

import importlib
import time
from typing import Any

import torch

from ..case import Case
from ..evaluators.base import EVALUATORS, Trainer
from ..evaluators.slides import SlidesTrainer
from .job import Job

CHECKED = 5  # epochs after which losses are compared
LEARNING_RATE = 1e-3


class FirstStageJob(Job):
    """A first stage, whose first member after `CHECKED` epochs is compared with that of nested autograd in float64."""

    def __init__(self, trainer: Trainer, case: Case, epochs: int) -> None:
        self._trainer, self._epochs = trainer, epochs
        reference = SlidesTrainer(case.first(1), dtype="float64", learning_rate=LEARNING_RATE, device="cpu")
        for each in (trainer, reference):
            each.start()
            each.train(CHECKED)
        (expected,) = reference.losses()
        self._difference = abs(trainer.losses()[0] - expected) / expected

    def facts(self) -> dict[str, Any]:
        return {"difference": self._difference}

    def run(self, amount: int) -> dict[str, Any]:
        seconds = 0.0
        for _ in range(amount):
            self._trainer.start()
            started = time.perf_counter()
            self._trainer.train(self._epochs)
            seconds += time.perf_counter() - started
        return {"seconds": seconds, "loss": self._trainer.losses()[0]}


def open_job(name: str, threads: int, *, case: str, members: int, epochs: int, **options: Any) -> FirstStageJob:
    """Build the first stage of the contender of that name on the first members of a case file."""
    torch.set_num_threads(threads)
    numbers = Case.load(case).first(members)
    module = importlib.import_module(f"benchmarks.evaluators.{EVALUATORS[name].module}")
    trainer = module.build_trainer(numbers, name=name, learning_rate=LEARNING_RATE, **options)
    return FirstStageJob(trainer, numbers, epochs)
