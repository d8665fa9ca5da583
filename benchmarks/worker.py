"""A worker: one contender on a fixed number of cores, with requests on standard input and answers on standard output.

`python -m benchmarks.worker JOB THREADS`. A line of JSON is a request, a line of JSON the answer:

    {"do": "open", "key": K, "arguments": {...}}    prepare a piece of work; the answer holds the time that took
    {"do": "time", "key": K, "amount": N}           do N units of it; the answer holds the seconds, measured here

The output of libraries goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, Final, TextIO

from .jobs.job import Job
from .machine import granted_cores

JOBS: Final = {  # name before the colon: module where its `open_job(name, threads, **arguments)` is
    "evaluate": "jobs.evaluation",
    "lbfgs": "jobs.lbfgs",
    "trial": "jobs.trial",
    "sweep": "jobs.sweep",
    "formulation": "jobs.formulations",
    "first_stage": "jobs.first_stage",
    "floor": "jobs.floor",
}


def serve(job: str, threads: int, requests: Iterable[str], answers: TextIO) -> None:
    """Answer requests until there are no more; errors are answers, too."""
    kind, _, name = job.partition(":")
    pieces: dict[str, Job] = {}
    for line in requests:
        request = json.loads(line)
        try:
            answer = _answer(request, pieces, kind, name, threads)
        except Exception as problem:  # it goes into the table, and the next request may succeed
            answer = {"error": f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(request: dict[str, Any], pieces: dict[str, Job], kind: str, name: str, threads: int) -> dict[str, Any]:
    key = request["key"]
    if request["do"] == "time":
        return pieces[key].run(request["amount"])
    started = time.perf_counter()
    module = importlib.import_module(f".{JOBS[kind]}", __package__)
    pieces[key] = module.open_job(name, threads, **request["arguments"])
    facts = pieces[key].facts()
    return {"opened_s": time.perf_counter() - started, **facts}


def pin(threads: int) -> None:
    """Pin this process and its future threads to the first `threads` granted cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, granted_cores()[:threads])


def main() -> None:
    """Run `python -m benchmarks.worker`."""
    job, threads = sys.argv[1], int(sys.argv[2])
    pin(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(job, threads, sys.stdin, answers)


if __name__ == "__main__":
    main()
