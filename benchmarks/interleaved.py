"""The timing of contenders in turn: every repeat times each once, so that a slow minute slows all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .machine import EXTRA, missing
from .records import Place, Status, Timing
from .workers import WorkerError, Workers

Say = Callable[[str], None]


@dataclass
class Entry:
    """One contender in one place: its worker's job and arguments, and its results."""

    place: Place
    contender: str
    label: str
    job: str
    threads: int
    pack: int
    arguments: dict[str, Any]
    needs: tuple[str, ...] = ()
    group: str = ""
    amount: int = 1
    status: Status = Status.TIMED
    note: str = ""
    warmup_s: float | None = None
    samples: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the name of this piece of work in its worker."""
        return f"{self.place} {self.contender} {self.pack}"

    def timing(self) -> Timing:
        """Return the record of the results."""
        return Timing(
            place=self.place,
            contender=self.contender,
            label=self.label,
            threads=self.threads,
            pack=self.pack,
            status=self.status,
            note=self.note,
            amount=self.amount,
            warmup_s=self.warmup_s,
            samples_s=tuple(self.samples) if self.status is Status.TIMED else (),
            facts=self.facts,
        )


def prepare(entries: Sequence[Entry], workers: Workers, *, allowed: float | None, say: Say) -> None:
    """Open each contender and exclude those that are not installed, fail, or give another answer."""
    for entry in entries:
        if absent := missing(entry.needs):
            entry.status, entry.note = Status.NOT_INSTALLED, f"not installed: {', '.join(absent)} ({EXTRA})"
            continue
        say(f"warm-up: {describe_entry(entry)}")
        try:
            facts = workers.open(entry.job, entry.threads, entry.key, group=entry.group, **entry.arguments)
        except WorkerError as problem:
            entry.status, entry.note = Status.FAILED, str(problem)
            continue
        entry.warmup_s, entry.note = facts.pop("opened_s"), facts.pop("note", "")
        entry.facts |= facts
        if allowed is not None:
            refuse_other_answers(entry, allowed)


def refuse_other_answers(entry: Entry, allowed: float) -> None:
    """Exclude a contender whose answer differs from the reference by more than `allowed`."""
    difference = entry.facts.get("difference", 0.0)
    if not difference <= allowed:
        entry.status = Status.DISAGREES
        entry.note = f"differs from the reference by {difference:.1e}, allowed {allowed:.0e}: not timed"


def calibrate(entries: Sequence[Entry], workers: Workers, *, at_least_s: float) -> None:
    """Choose for each contender the number of units in a sample of at least `at_least_s` seconds."""
    for entry in active_entries(entries):
        amount = 1
        seconds = _seconds(entry, workers, amount)
        while seconds is not None and seconds < at_least_s / 4:  # too short to extrapolate from
            amount *= 4
            seconds = _seconds(entry, workers, amount)
        if seconds is not None:
            entry.amount = max(1, math.ceil(amount * at_least_s / seconds))


def time_in_turn(entries: Sequence[Entry], workers: Workers, *, repeats: int, say: Say) -> None:
    """Take one sample of every contender, `repeats` times, each time starting with another one.

    A sample is the time in seconds of one unit of one member.
    """
    for repeat in range(repeats):
        waiting = active_entries(entries)
        say(f"repeat {repeat + 1} of {repeats}, {len(waiting)} contenders")
        start = repeat % max(len(waiting), 1)
        for entry in waiting[start:] + waiting[:start]:
            seconds = _seconds(entry, workers, entry.amount)
            if seconds is not None:
                entry.samples.append(seconds / (entry.amount * entry.pack))


def active_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Return the contenders that are not excluded."""
    return [entry for entry in entries if entry.status is Status.TIMED]


def _seconds(entry: Entry, workers: Workers, amount: int) -> float | None:
    try:
        answer = workers.time(entry.job, entry.threads, entry.key, amount, group=entry.group)
    except WorkerError as problem:
        entry.status, entry.note = Status.FAILED, str(problem)
        return None
    seconds = float(answer.pop("seconds"))
    entry.facts |= answer
    return seconds


def describe_entry(entry: Entry) -> str:
    """Return the words for an entry in a progress line."""
    place = entry.place
    pairs = f" {place.pairs} pairs" if place.pairs else ""
    threads = "1 thread" if entry.threads == 1 else f"{entry.threads} threads"
    return f"{entry.label} {place.shape} {place.dtype}{pairs}, {threads}, pack of {entry.pack}"
