"""Part a: loss and gradient of one member, with the same points, weights and precision for every contender."""

from __future__ import annotations

import itertools

from ..case import ALLOWED, build_case
from ..evaluators.base import EVALUATORS, OWN, RIVALS
from ..interleaved import Entry, Say, calibrate, prepare, time_in_turn
from ..options import DTYPES, Options, Shape
from ..records import Place, Timing
from ..workers import Workers

SHAPES = (Shape(8, 8), Shape(2, 16), Shape(16, 16), Shape(3, 32))
QUICK_SHAPES = (Shape(8, 8), Shape(2, 16))


def measure_evaluation(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time all contenders, shape by shape; all thread counts and packs of a shape share the same rounds."""
    shapes = options.shapes or (QUICK_SHAPES if options.quick else SHAPES)
    packs = options.packs or ((1, 4) if options.quick else (1, 4, 16))
    timings: list[Timing] = []
    for dtype in options.dtypes or DTYPES:
        with Workers() as workers:  # new processes: libraries keep the precision in global flags
            for shape in shapes:
                say(f"a: {shape} {dtype}: reference")
                case = workers.folder / f"{shape}.npz"
                build_case(shape, members=max(packs), data=options.data).save(case)
                entries = _entries(options, shape, dtype, threads=threads, packs=packs, case=str(case))
                prepare(entries, workers, allowed=ALLOWED[dtype], say=say)
                calibrate(entries, workers, at_least_s=0.05 if options.quick else 0.2)
                time_in_turn(entries, workers, repeats=options.repeats or (3 if options.quick else 5), say=say)
                timings += [entry.timing() for entry in entries]
    return timings


def _entries(
    options: Options, shape: Shape, dtype: str, *, threads: tuple[int, ...], packs: tuple[int, ...], case: str
) -> list[Entry]:
    entries = []
    for name, count in itertools.product((OWN, *(options.rivals or RIVALS)), threads):
        listing = EVALUATORS[name]
        for pack in packs if listing.packs else (1,):
            arguments = {"case": case, "members": pack, "dtype": dtype, "engine": options.engine}
            place = Place(part="a", shape=str(shape), dtype=dtype)
            entries.append(Entry(place, name, listing.label, f"evaluate:{name}", count, pack, arguments, listing.needs))
    return entries
