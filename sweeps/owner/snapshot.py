"""A snapshot of a study that is being run, for progress views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .messages import PackProgress


@dataclass(frozen=True)
class BestTrial:
    """The best trial so far; `value` is its first objective."""

    trial: int
    value: float | None
    params: Mapping[str, Any]


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that finished in this attempt; `value` is its first objective, None without a result."""

    trial: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    stop_reason: str | None = None
    failure: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class StudySnapshot:
    """The state of a study."""

    study: str
    objective: str
    is_percent: bool  # whether people see the objective so
    limit: int  # trials of the study, retried ones included
    counts: Mapping[str, int]  # trials by state
    failures: int = 0  # failed trials that were not retried
    best: BestTrial | None = None
    packs: Mapping[int, PackProgress] = field(default_factory=dict)  # those in training, by number
    places: int = 0  # packs that the machines have room for
    requested: int = 0  # workers that exist or are requested
    preparing: Sequence[str] = ()  # what workers do before they train
    unfit: Sequence[str] = ()  # why machines cannot train this study
    cores_per_pack: int = 1
    under_way: float = 0.0  # trained parts of unfinished trials, in trials
    budget_left_s: float | None = None  # None without a limit of time
    over_budget: str | None = None  # why no new trial starts
    finished: Sequence[FinishedTrial] = ()  # those that finished since the previous snapshot
    finished_count: int = 0  # all that finished in this attempt
    notes: Sequence[str] = ()  # what the user should know of this start
    is_stopped: bool = False  # the study was asked to stop
    broken: str | None = None  # why nothing more can be recorded
