"""Part d: a sweep of short trials against plain Ray Tune, in trials per hour."""

from __future__ import annotations

from dataclasses import asdict, replace

from ..case import build_case
from ..evaluators.base import OWN
from ..interleaved import Entry, Say, prepare, time_in_turn
from ..jobs.slides_trial import Schedule
from ..machine import granted_cores
from ..options import DTYPES, Options, Shape
from ..records import Place, Timing
from ..workers import Workers

DEPTH = 2
TRIALS, QUICK_TRIALS = 64, 8
SCHEDULE = Schedule(epochs=200, iterations=50)
LABELS = {OWN: "pinnsweep run", "ray": "Ray Tune, OptunaSearch, slides' code"}
WITH_RAY, WITHOUT_RAY = "with Ray's start and stop", "Ray already running"


def measure_sweep(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time both sweeps on all granted cores, or on the largest given thread count; a trial has one core."""
    trials, cores = (QUICK_TRIALS if options.quick else TRIALS), max(options.threads or (len(granted_cores()),))
    timings: list[Timing] = []
    for dtype in options.dtypes or DTYPES[1:]:
        with Workers() as workers:
            case = workers.folder / "case.npz"
            build_case(Shape(DEPTH, 8), members=1, data=options.data).save(case)
            arguments = {
                "case": str(case),
                "data": options.data,
                "dtype": dtype,
                "engine": options.engine,
                "depth": DEPTH,
                "trials": trials,
                "schedule": asdict(SCHEDULE),
            }
            place = Place(part="d", shape=f"{DEPTH}x8..16", dtype=dtype, clock=WITH_RAY)
            entries = [
                Entry(place, name, label, f"sweep:{name}", cores, 1, arguments) for name, label in LABELS.items()
            ]
            prepare(entries, workers, allowed=None, say=say)
            ray_seconds: dict[str, list[float]] = {name: [] for name in LABELS}
            for _ in range(options.repeats or 1):
                time_in_turn(entries, workers, repeats=1, say=say)
                for entry in entries:
                    ray_seconds[entry.contender].append(entry.facts.get("ray_seconds", 0.0))
            for entry in entries:
                timings += _both_clocks(entry.timing(), ray_seconds[entry.contender], trials)
    return timings


def _both_clocks(timing: Timing, ray_seconds: list[float], trials: int) -> list[Timing]:
    """Return the timings of one trial with and without the time that Ray took to start and stop."""
    with_ray = tuple(seconds / trials for seconds in timing.samples_s)
    without = tuple(
        (seconds - ray) / trials
        for seconds, ray in zip(timing.samples_s, ray_seconds[: len(timing.samples_s)], strict=True)
    )
    place_without = replace(timing.place, clock=WITHOUT_RAY)
    return [replace(timing, samples_s=with_ray), replace(timing, place=place_without, samples_s=without)]
