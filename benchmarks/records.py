"""The results of the benchmark as plain records: timings of contenders, and comparisons of two of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .spread import Spread


class Status(StrEnum):
    """The outcome of a contender in one place."""

    TIMED = "timed"
    NOT_INSTALLED = "not installed"
    DISAGREES = "disagrees"  # its answer differs from the reference, so its time would mean nothing
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place where contenders can be compared: the same work in the same precision."""

    part: str
    shape: str
    dtype: str
    pairs: int | None = None  # part b: stored curvature pairs
    clock: str = ""  # parts d, f, gpu: what the time includes
    equation: str = ""  # part e


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The timing of a contender in one place, with a number of threads and members.

    `samples_s`: for each repeat, seconds of one unit (an evaluation, an iteration, a trial) of one member. `amount` is
    the number of units in one sample. `warmup_s`: preparation, compilation and the first call, not in the samples.
    """

    place: Place
    contender: str
    label: str
    threads: int
    pack: int
    status: Status
    note: str = ""
    amount: int = 0
    warmup_s: float | None = None
    samples_s: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def spread(self) -> Spread | None:
        """Return median and range, or None where it was not timed."""
        return Spread.of(self.samples_s) if self.samples_s else None

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        record = asdict(self)
        spread = self.spread
        return {
            **record.pop("place"),
            **record,
            "status": self.status.value,
            "samples_s": list(self.samples_s),
            "seconds": asdict(spread) if spread else None,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The ratio of a rival's time to ours, with the bar that was set for it.

    `same`: the rival with as many threads; `best`: with its best number of threads, `best_threads`. `reached` and
    `best_reached` are None where there is no bar.
    """

    place: Place
    own: str
    rival: str
    label: str
    threads: int
    pack: int
    same: Spread
    best: Spread
    best_threads: int
    bar: float | None
    reached: bool | None
    best_reached: bool | None

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        record = asdict(self)
        return {**record.pop("place"), **record}
