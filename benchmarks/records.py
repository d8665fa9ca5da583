"""What the benchmark found, as plain records: a timing of each contender, and what follows from two of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .spread import Spread


class Status(StrEnum):
    """What became of a contender in one place."""

    TIMED = "timed"
    NOT_INSTALLED = "not installed"
    DISAGREES = "disagrees"  # its answer is not the reference's, so its time would mean nothing
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where two contenders can be compared: the same work in the same precision."""

    part: str
    shape: str
    dtype: str
    pairs: int | None = None  # part b: stored curvature pairs
    clock: str = ""  # part d: what the time includes


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A contender in one place on so many threads with so many members at once.

    `samples_s`: for each repeat, seconds of one unit (an evaluation, an iteration, a trial) of one member. `amount` is
    how many units made one sample. `warmup_s`: preparation, compilation and the first call, in no sample.
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
        """Median and range, where it was timed."""
        return Spread.of(self.samples_s) if self.samples_s else None

    def as_json(self) -> dict[str, Any]:
        """The record as plain values."""
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
    """How many times longer a rival takes, against the bar that was set for it.

    `same`: the rival on as many threads; `best`: on its best number of threads, `best_threads`. `reached` and
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
        """The record as plain values."""
        record = asdict(self)
        return {**record.pop("place"), **record}
