"""The job of parts a, e, gpu and floor: evaluate loss and gradient of a case."""

from __future__ import annotations

import importlib
import time
from typing import Any

from ..case import Answers
from ..equations import load_case
from ..evaluators.base import EVALUATORS, Evaluator
from .job import Job


class EvaluationJob(Job):
    """An evaluator on a case; its answer is compared with the reference before the timing."""

    def __init__(self, evaluator: Evaluator, case: Answers) -> None:
        self._evaluator = evaluator
        evaluator.evaluate()
        self._difference = case.difference(*evaluator.answer())

    def facts(self) -> dict[str, Any]:
        return {"difference": self._difference, "note": self._evaluator.note}

    def run(self, amount: int) -> dict[str, Any]:
        self._evaluator.evaluate()  # untimed: fills the caches, which other contenders used before
        self._evaluator.wait()
        started = time.perf_counter()
        for _ in range(amount):
            self._evaluator.evaluate()
        self._evaluator.wait()
        return {"seconds": time.perf_counter() - started}


def open_job(name: str, threads: int, *, case: str, members: int, **options: Any) -> EvaluationJob:
    """Build the evaluator of that name on the first members of a case file; `options` are those of its `build`."""
    numbers = load_case(case).first(members)
    module = importlib.import_module(f"benchmarks.evaluators.{EVALUATORS[name].module}")
    return EvaluationJob(module.build(numbers, name=name, threads=threads, **options), numbers)
