"""What this project promises to be faster by, and the judgement of a run by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .evaluators.base import OWN
from .records import Comparison, Place, Status, Timing
from .spread import Spread, ratio

FASTEST_RIVAL: Final = "fastest"
LIBRARIES: Final = ("deepxde", "jinns", "jinns_jvp", "jax")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The rival takes at least `times` as long. What is None stands for any."""

    part: str
    rival: str
    times: float
    shape: str | None = None
    dtype: str | None = None
    pack: int | None = None
    pairs: int | None = None

    def is_for(self, place: Place, rival: str, pack: int) -> bool:
        """Whether the bar was set for this comparison."""
        wanted = (self.shape, self.dtype, self.pairs, self.pack)
        found = (place.shape, place.dtype, place.pairs, pack)
        fits = all(want is None or want == have for want, have in zip(wanted, found, strict=True))
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
)


def compare(timings: Sequence[Timing]) -> list[Comparison]:
    """Every timing of our own against every rival in the same place, and against the fastest of the libraries."""
    timed = [timing for timing in timings if timing.status is Status.TIMED]
    found: list[Comparison] = []
    for own in (timing for timing in timed if timing.contender.startswith(OWN)):
        there = [t for t in timed if t.place == own.place and not t.contender.startswith(OWN)]
        there = [t for t in there if t.pack in (1, own.pack)]  # a rival's members alone are worth as much as in a pack
        for rival in dict.fromkeys(t.contender for t in there):
            found += _against(own, [t for t in there if t.contender == rival], rival)
        libraries = [t for t in there if t.contender in LIBRARIES]
        if own.place.part == "a" and libraries:
            found += _against(own, libraries, FASTEST_RIVAL)
    return found


def _against(own: Timing, rivals: Sequence[Timing], rival: str) -> Iterable[Comparison]:
    same = _fastest(t for t in rivals if t.threads == own.threads)
    best = _fastest(rivals)
    if same is None or best is None:
        return
    bars = BARS if own.contender == OWN else ()  # a form of L-BFGS that nobody chose has nothing to reach
    bar = next((bar for bar in bars if bar.is_for(own.place, rival, own.pack)), None)
    ratios = (_ratio(same, own), _ratio(best, own))
    reached = [None if bar is None else each.median >= bar.times for each in ratios]
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
