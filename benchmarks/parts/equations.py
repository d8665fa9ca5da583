"""Part e: loss and gradient of other equations, whose members differ in a coefficient."""

from __future__ import annotations

from typing import Final

from ..case import ALLOWED
from ..evaluators.base import EVALUATORS, OWN
from ..interleaved import Entry, Say, calibrate, prepare, time_in_turn
from ..options import DTYPES, Options, Shape
from ..records import Place, Timing
from ..workers import Workers

SHAPES: Final = (Shape(2, 16), Shape(4, 20))
RIVALS: Final = ("deepxde", "jax")
EQUAL: Final = "equal"  # this project with one coefficient for all members


def measure_equations(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time all contenders, equation by equation; all thread counts and packs of a shape share the same rounds."""
    from ..equations import COEFFICIENTS, build_equation_case

    packs = options.packs or (1, 4)
    timings: list[Timing] = []
    for dtype in options.dtypes or DTYPES:
        with Workers() as workers:  # new processes: libraries keep the precision in global flags
            for equation in COEFFICIENTS:
                for shape in options.shapes or (SHAPES[:1] if options.quick else SHAPES):
                    say(f"e: {equation} {shape} {dtype}: reference")
                    cases = {step: workers.folder / f"{equation}-{shape}-{step}.npz" for step in (0.0, 0.1)}
                    for step, path in cases.items():
                        build_equation_case(equation, shape, members=max(packs), step=step).save(path)
                    place = Place(part="e", shape=str(shape), dtype=dtype, equation=equation)
                    entries = [
                        _entry(options, place, name, count, pack, str(cases[0.0 if name == EQUAL else 0.1]))
                        for name in (OWN, EQUAL, *RIVALS)
                        for count in threads
                        for pack in _packs(name, packs)
                    ]
                    prepare(entries, workers, allowed=ALLOWED[dtype], say=say)
                    calibrate(entries, workers, at_least_s=0.05 if options.quick else 0.2)
                    time_in_turn(entries, workers, repeats=options.repeats or (3 if options.quick else 5), say=say)
                    timings += [entry.timing() for entry in entries]
    return timings


def _packs(name: str, packs: tuple[int, ...]) -> tuple[int, ...]:
    if name == EQUAL:
        return tuple(pack for pack in packs if pack > 1)
    return packs if EVALUATORS[name].packs else (1,)


def _entry(options: Options, place: Place, name: str, threads: int, pack: int, case: str) -> Entry:
    listing = EVALUATORS[OWN if name == EQUAL else name]
    label = "equal coefficients" if name == EQUAL else listing.label
    job = f"evaluate:{OWN if name == EQUAL else name}"
    arguments = {"case": case, "members": pack, "dtype": place.dtype, "engine": options.engine}
    return Entry(place, name, label, job, threads, pack, arguments, listing.needs)
