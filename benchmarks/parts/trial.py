"""Part c: one whole trial, from the same initial weights to the error, with an L-BFGS that drops no pair."""

from __future__ import annotations

import itertools
from dataclasses import asdict

from ..case import build_case
from ..evaluators.base import EVALUATORS, OWN
from ..interleaved import Entry, Say, prepare, time_in_turn
from ..jobs.slides_trial import Schedule
from ..options import DTYPES, Options, Shape
from ..records import Place, Timing
from ..workers import Workers

SHAPES = (Shape(8, 8),)
FULL, QUICK = Schedule(epochs=5000, iterations=2000), Schedule(epochs=200, iterations=100)

ROUNDING = 1e-7  # of the start weights in float32


def measure_trial(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time whole trials; a pack's time is divided among its members."""
    schedule = QUICK if options.quick else FULL
    packs = options.packs or (1, 4)
    timings: list[Timing] = []
    for dtype, shape in itertools.product(
        options.dtypes or (DTYPES[1:] if options.quick else DTYPES), options.shapes or SHAPES
    ):
        with Workers() as workers:
            case = workers.folder / "case.npz"
            build_case(shape, members=max(packs), data=options.data).save(case)
            entries = []
            contenders = [*((OWN, pack) for pack in packs), ("slides", 1)]
            for (name, pack), count in itertools.product(contenders, threads):
                arguments = {
                    "case": str(case),
                    "members": pack,
                    "schedule": asdict(schedule),
                    "data": options.data,
                    "dtype": dtype,
                    "engine": options.engine,
                }
                place = Place(part="c", shape=str(shape), dtype=dtype)
                label = EVALUATORS[name].label
                entries.append(Entry(place, name, label, f"trial:{name}", count, pack, arguments))
            prepare(entries, workers, allowed=ROUNDING, say=say)
            time_in_turn(entries, workers, repeats=options.repeats or 1, say=say)
            timings += [entry.timing() for entry in entries]
    return timings
