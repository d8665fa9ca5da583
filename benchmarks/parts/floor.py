"""Part floor: how near loss and gradient on one core of the CPU are to their multiply-adds alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

from ..case import ALLOWED, build_case
from ..evaluators.base import EVALUATORS, OWN
from ..interleaved import Entry, Say, calibrate, prepare, time_in_turn
from ..options import FLOOR, Options, Shape
from ..records import Place, Timing
from ..workers import Workers

SHAPES: Final = (Shape(8, 8), Shape(2, 16), Shape(3, 20))


def measure_floor(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time packs, and a loop of multiply-adds alone, in turn on one core."""
    timings: list[Timing] = []
    packs = options.packs or (16,)
    for dtype, shape in itertools.product(options.dtypes or ("float32",), options.shapes or SHAPES):
        with Workers() as workers:
            case = workers.folder / "case.npz"
            say(f"floor: {shape} {dtype}: reference")
            build_case(shape, members=max(packs), data=options.data).save(case)
            place = Place(part="floor", shape=str(shape), dtype=dtype)
            entries = [floor_entry(place, case, "cpu"), *(_entry(options, place, case, pack) for pack in packs)]
            prepare(entries[:1], workers, allowed=None, say=say)
            prepare(entries[1:], workers, allowed=ALLOWED[dtype], say=say)
            calibrate(entries, workers, at_least_s=0.05 if options.quick else 0.2)
            time_in_turn(entries, workers, repeats=options.repeats or (3 if options.quick else 15), say=say)
            timings += [entry.timing() for entry in entries]
    return timings


def floor_entry(place: Place, case: Path, device: str) -> Entry:
    """Return the contender that does the multiply-adds of one member and nothing else."""
    arguments = {"case": str(case), "dtype": place.dtype}
    return Entry(place, FLOOR, "floor", f"floor:{device}", 1, 1, arguments)


def _entry(options: Options, place: Place, case: Path, pack: int) -> Entry:
    arguments = {"case": str(case), "members": pack, "dtype": place.dtype, "engine": options.engine}
    return Entry(place, OWN, EVALUATORS[OWN].label, f"evaluate:{OWN}", 1, pack, arguments)
