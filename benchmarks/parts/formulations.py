"""Part f: the finite-element form of the strain problem against its strong form, an evaluation and to 1 %."""

from __future__ import annotations

import itertools

from ..evaluators.base import OWN
from ..interleaved import Entry, Say, calibrate, prepare, time_in_turn
from ..options import EVALUATION, TRAINING, Options, Shape
from ..records import Place, Timing
from ..workers import Workers

SHAPES = (Shape(2, 16),)
LABELS = {OWN: "formulation fe", "strong": "formulation strong"}
SEEDS, QUICK_SEEDS = 10, 2


def measure_formulations(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time both forms in turn: loss and gradient, and trainings until the error is 1 %."""
    timings: list[Timing] = []
    for dtype, shape in itertools.product(options.dtypes or ("float64",), options.shapes or SHAPES):
        with Workers() as workers:
            for clock in (EVALUATION, TRAINING):
                place = Place(part="f", shape=str(shape), dtype=dtype, clock=clock)
                arguments = {"clock": clock, "width": shape.width, "depth": shape.depth, "dtype": dtype}
                arguments["engine"] = options.engine
                entries = [
                    Entry(place, name, label, f"formulation:{name}", count, 1, arguments)
                    for name, label in LABELS.items()
                    for count in threads
                ]
                prepare(entries, workers, allowed=None, say=say)
                if clock == EVALUATION:
                    calibrate(entries, workers, at_least_s=0.05 if options.quick else 0.2)
                else:
                    for entry in entries:
                        entry.amount = QUICK_SEEDS if options.quick else SEEDS
                usual = 5 if clock == EVALUATION else 1
                time_in_turn(entries, workers, repeats=options.repeats or usual, say=say)
                timings += [entry.timing() for entry in entries]
    return timings
