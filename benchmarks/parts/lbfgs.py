"""Part b: an iteration of L-BFGS without its evaluations, with a number of stored pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..evaluators.base import OWN
from ..interleaved import Entry, Say, active_entries, calibrate, prepare, refuse_other_answers, time_in_turn
from ..machine import memory_bytes
from ..options import DTYPES, Options, Shape
from ..records import Place, Status, Timing
from ..workers import Workers

SHAPES = (Shape(2, 16), Shape(8, 8))
PAIRS = (500, 2000, 5000)
SAME = {"float64": 1e-6, "float32": 1e-3}  # difference of first direction and last point, relative to the largest value
SHARE_OF_MEMORY = 0.4


def measure_lbfgs(options: Options, *, threads: tuple[int, ...], say: Say) -> list[Timing]:
    """Time `PackedLBFGS`, in each of its forms, and `torch.optim.LBFGS`, shape by shape."""
    from ..jobs.lbfgs import FORMS

    shapes = options.shapes or (SHAPES[:1] if options.quick else SHAPES)
    packs = options.packs or ((1, 4) if options.quick else (1, 4, 16))
    contenders = [(f"{OWN}_{form}", 1) for form in FORMS] + [(OWN, pack) for pack in packs] + [("torch", 1)]
    timings: list[Timing] = []
    for dtype, shape in itertools.product(options.dtypes or (DTYPES[1:] if options.quick else DTYPES), shapes):
        for pairs in options.pairs or (PAIRS[:2] if options.quick else PAIRS):
            place = Place(part="b", shape=str(shape), dtype=dtype, pairs=pairs)
            entries = [
                _entry(place, shape, contender, count) for contender, count in itertools.product(contenders, threads)
            ]
            with Workers() as workers:
                _skip_too_large(entries, shape)
                prepare(active_entries(entries), workers, allowed=None, say=say)
                _compare_answers(entries, SAME[dtype])
                calibrate(entries, workers, at_least_s=0.001 if options.quick else 0.01)
                time_in_turn(entries, workers, repeats=options.repeats or (3 if options.quick else 5), say=say)
            timings += [entry.timing() for entry in entries]
    return timings


def _entry(place: Place, shape: Shape, contender_and_pack: tuple[str, int], threads: int) -> Entry:
    contender, pack = contender_and_pack
    own = contender.startswith(OWN)
    form = contender.removeprefix(OWN).removeprefix("_")
    label = "torch.optim.LBFGS" if not own else f"{OWN}, {form}" if form else OWN
    arguments = {"layers": shape.layers, "pairs": place.pairs, "members": pack, "dtype": place.dtype}
    arguments |= {"form": form} if own and form else {}
    return Entry(place, contender, label, f"lbfgs:{OWN if own else contender}", threads, pack, arguments)


def _skip_too_large(entries: Sequence[Entry], shape: Shape) -> None:
    """Skip entries whose pairs, L-BFGS memory and its copy for the restarts would not fit into memory."""
    for entry in entries:
        item = np.dtype(entry.place.dtype).itemsize
        pairs, size = entry.place.pairs or 0, shape.parameters
        needed = 3 * item * entry.pack * (2 * pairs * size + max(2 * size * size, pairs * pairs))
        if needed > SHARE_OF_MEMORY * memory_bytes():
            entry.status, entry.note = Status.SKIPPED, f"needs {needed / 1e9:.0f} GB of memory"


def _compare_answers(entries: Sequence[Entry], allowed: float) -> None:
    """Exclude entries whose first direction or last point differ from torch's."""
    rivals = {entry.threads: entry for entry in active_entries(entries) if entry.contender == "torch"}
    answers = {
        id(entry): [np.array(entry.facts.pop(name)) for name in ("direction", "end")]
        for entry in active_entries(entries)
    }
    for entry in active_entries(entries):
        if (rival := rivals.get(entry.threads)) is not None:
            both = zip(answers[id(entry)], answers[id(rival)], strict=True)  # ours may be padded
            entry.facts["difference"] = max(float(np.abs(a[: len(b)] - b).max() / np.abs(b).max()) for a, b in both)
            refuse_other_answers(entry, allowed)
