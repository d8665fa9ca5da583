"""The speed ratios that this project promises, and the comparison of a run with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .evaluators.base import OWN
from .options import EVALUATION, FIRST_STAGE, FLOOR, TRAINING
from .records import Comparison, Place, Status, Timing
from .spread import Spread, ratio

FASTEST_RIVAL: Final = "fastest"
LIBRARIES: Final = ("deepxde", "jinns", "jinns_jvp", "jax")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The promise that a rival takes at least `times` as long. A field that is None matches any value."""

    part: str
    rival: str
    times: float
    shape: str | None = None
    dtype: str | None = None
    pack: int | None = None
    pairs: int | None = None
    equation: str | None = None
    clock: str | None = None

    def is_for(self, place: Place, rival: str, pack: int) -> bool:
        """Return whether the bar applies to this comparison."""
        conditions = (self.shape, self.dtype, self.pairs, self.equation, self.clock, self.pack)
        values = (place.shape, place.dtype, place.pairs, place.equation, place.clock, pack)
        fits = all(wanted is None or wanted == value for wanted, value in zip(conditions, values, strict=True))
        return fits and (self.part, self.rival) == (place.part, rival)


BARS: Final = (
    Bar(part="a", rival="slides", times=9.0, shape="8x8", dtype="float32", pack=4),
    Bar(part="a", rival="slides", times=8.0, shape="2x16", dtype="float32", pack=4),
    Bar(part="a", rival="slides", times=7.0, shape="2x16", dtype="float64", pack=4),
    Bar(part="a", rival="slides", times=5.0, shape="16x16", dtype="float32", pack=4),
    Bar(part="a", rival="slides", times=5.0, shape="3x32", dtype="float32", pack=4),
    Bar(part="a", rival=FASTEST_RIVAL, times=1.0),
    Bar(part="b", rival="torch", times=50.0, shape="2x16", dtype="float64", pairs=2000),
    Bar(part="c", rival="slides", times=10.0, shape="8x8"),
    Bar(part="d", rival="ray", times=10.0),
    Bar(part="e", rival="deepxde", times=15.0, equation="kovasznay"),
    Bar(part="e", rival="deepxde", times=6.0),
    Bar(part="e", rival="jax", times=2.0, equation="kovasznay"),
    Bar(part="e", rival="jax", times=1.5),
    Bar(part="e", rival="equal", times=0.91),
    Bar(part="f", rival="strong", times=6.0, shape="2x16", dtype="float64", clock=EVALUATION),
    Bar(part="f", rival="strong", times=4.0, shape="2x16", dtype="float64", clock=TRAINING),
    Bar(part="gpu", rival="slides", times=200.0, shape="8x8", pack=256, clock=EVALUATION),
    Bar(part="gpu", rival="slides", times=200.0, shape="8x8", pack=256, clock=FIRST_STAGE),
    Bar(part="gpu", rival=FLOOR, times=0.25, shape="8x8", pack=256, clock=EVALUATION),
    Bar(part="gpu", rival=FLOOR, times=0.25, shape="3x20", pack=256, clock=EVALUATION),
)


def compare(timings: Sequence[Timing]) -> list[Comparison]:
    """Compare every own timing with every rival in the same place, and with the fastest library."""
    timed = [timing for timing in timings if timing.status is Status.TIMED]
    comparisons: list[Comparison] = []
    for own in (timing for timing in timed if timing.contender.startswith(OWN)):
        rivals = [t for t in timed if t.place == own.place and not t.contender.startswith(OWN)]
        rivals = [t for t in rivals if t.pack in (1, own.pack)]  # a rival may be faster without packs
        for rival in dict.fromkeys(t.contender for t in rivals):
            comparisons += _against(own, [t for t in rivals if t.contender == rival], rival)
        libraries = [t for t in rivals if t.contender in LIBRARIES]
        if own.place.part == "a" and libraries:
            comparisons += _against(own, libraries, FASTEST_RIVAL)
    return comparisons


def _against(own: Timing, rivals: Sequence[Timing], rival: str) -> Iterable[Comparison]:
    same = _fastest(t for t in rivals if t.threads == own.threads)
    best = _fastest(rivals)
    if same is None or best is None:
        return
    bars = BARS if own.contender == OWN else ()  # there are no bars for forms of L-BFGS that were not chosen
    bar = next((bar for bar in bars if bar.is_for(own.place, rival, own.pack)), None)
    ratios = (_ratio(same, own), _ratio(best, own))
    reached = [None if bar is None else spread.median >= bar.times for spread in ratios]
    yield Comparison(
        place=own.place,
        own=own.contender,
        rival=rival,
        label=same.label,
        threads=own.threads,
        pack=own.pack,
        same=ratios[0],
        best=ratios[1],
        best_threads=best.threads,
        bar=bar.times if bar else None,
        reached=reached[0],
        best_reached=reached[1],
    )


def _ratio(rival: Timing, own: Timing) -> Spread:
    repeats = min(len(rival.samples_s), len(own.samples_s))
    return ratio(rival.samples_s[:repeats], own.samples_s[:repeats])


def _fastest(timings: Iterable[Timing]) -> Timing | None:
    return min(timings, key=lambda t: t.spread.median if t.spread else float("inf"), default=None)
