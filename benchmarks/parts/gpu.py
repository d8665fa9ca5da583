"""Part gpu: packs on a GPU, an evaluation and a first stage, against the slides' code and other ways to pack."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

from ..case import ALLOWED, build_case
from ..evaluators.base import EVALUATORS, GPU_RIVALS, OWN
from ..floor import NoGpuError
from ..interleaved import Entry, Say, calibrate, prepare, time_in_turn
from ..options import EVALUATION, FIRST_STAGE, FLOOR, Options, Shape
from ..records import Place, Status, Timing
from ..workers import WorkerError, Workers
from .floor import floor_entry

SHAPES: Final = (Shape(8, 8), Shape(2, 16), Shape(3, 20))
PACKS: Final = (16, 64, 256)
EPOCHS, QUICK_EPOCHS = 5000, 100


def measure_gpu(options: Options, *, threads: tuple[int, ...], say: Say, device: str = "cuda") -> list[Timing]:
    """Time all contenders on the first GPU, shape by shape; without a GPU return one record that says so.

    Another `device` is for tests.
    """
    timings: list[Timing] = []
    shapes = options.shapes or (SHAPES[1:2] if options.quick else SHAPES)
    for dtype, shape, clock in itertools.product(options.dtypes or ("float32",), shapes, (EVALUATION, FIRST_STAGE)):
        place = Place(part="gpu", shape=str(shape), dtype=dtype, clock=clock)
        with Workers() as workers:  # new processes: libraries keep the memory of a GPU until they end
            case = workers.folder / "case.npz"
            packs = options.packs or (PACKS[:1] if options.quick else PACKS)
            say(f"gpu: {shape} {dtype}, {clock}: reference")
            build_case(shape, members=max(packs), data=options.data).save(case)
            floor = floor_entry(place, case, device)
            try:
                workers.open(floor.job, floor.threads, floor.key, **floor.arguments)
            except WorkerError as problem:
                kind, _, reason = str(problem).partition(": ")
                if kind == NoGpuError.__name__:
                    return [_no_gpu(reason)]
            entries = _entries(options, place, case, packs, device)
            prepare(entries, workers, allowed=ALLOWED[dtype], say=say)
            if clock == EVALUATION:
                prepare([floor], workers, allowed=None, say=say)
                entries.append(floor)
                calibrate(entries, workers, at_least_s=0.05 if options.quick else 0.2)
            usual = (3 if options.quick else 5) if clock == EVALUATION else 1
            time_in_turn(entries, workers, repeats=options.repeats or usual, say=say)
            timings += [entry.timing() for entry in entries]
    return timings


def _entries(options: Options, place: Place, case: Path, packs: tuple[int, ...], device: str) -> list[Entry]:
    kind = "evaluate" if place.clock == EVALUATION else "first_stage"
    entries = []
    for name in (OWN, *GPU_RIVALS):
        listing = EVALUATORS[name]
        for pack in packs if listing.packs else (1,):
            arguments: dict[str, Any] = {"case": str(case), "members": pack, "dtype": place.dtype, "device": device}
            arguments["engine"] = options.engine
            if place.clock == FIRST_STAGE:
                arguments["epochs"] = QUICK_EPOCHS if options.quick else EPOCHS
            entries.append(Entry(place, name, listing.label, f"{kind}:{name}", 1, pack, arguments, listing.needs))
    return entries


def _no_gpu(reason: str) -> Timing:
    place = Place(part="gpu", shape="", dtype="")
    note = f"not measured ({reason})"
    return Timing(place=place, contender=FLOOR, label="no GPU", threads=1, pack=1, status=Status.SKIPPED, note=note)
