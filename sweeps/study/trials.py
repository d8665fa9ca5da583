"""The trials of a study in memory, as its owner keeps them: small records, and counts of their states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..states import COMPLETE, FAIL, FINISHED, PRUNED, RUNNING, STATES, WAITING
from .replicates import quantile

if TYPE_CHECKING:
    from pinncore import MemberResult

    from ..storage.optuna_sql import Ledger, TrialRecord


# user attributes of a trial in the database; `ATTRIBUTES` are written when it is entered, and are fields of `Trial`
PACK, DUPLICATE_OF, RETRY_OF, TAKEN_FROM = "pack", "duplicate_of", "retry_of", "taken_from"
RUNGS, DEATHS = "rungs", "deaths"
BRANCH, PLACED = "branch", "placed"  # of the study: what it took over; by number, `index`, `window`, `attrs` since then
ATTRIBUTES = ("index", PACK, "window", "config_hash", DUPLICATE_OF, RETRY_OF, TAKEN_FROM)

Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PackingTraits:
    """What decides which trials share a pack: the key, which must be equal, and width and steps, for their cost.

    `padded_on` are the kinds of devices on which the last digits of its results depend on its pack.
    """

    key: tuple[str, ...]
    width: int
    steps: int
    padded_on: frozenset[str]


@dataclass(frozen=True, slots=True)
class TrialSetup:
    """A trial's configuration and, where it can be trained, what packing needs; otherwise `failure` says why not."""

    config: dict[str, dict[str, Any]]
    traits: PackingTraits | None = None
    failure: str = ""


class Window(NamedTuple):
    """Trials that were proposed together, of the indices `start` to `end - 1`, and the packs they were planned into."""

    start: int
    end: int
    size: int  # members of a pack
    first_pack: int


@dataclass(slots=True)
class Trial:
    """One configuration and the progress of its replicates.

    `index` is its place in the sampler's sequence, None for a retry, and for a trial that a branch took over until the
    sampler proposes its configuration; `pack` the pack it was planned for; `taken_from`
    the trial of another study whose results it has, as FOLDER/N. `done` holds state and objectives of each finished
    replicate; `rungs` the metrics of the trial at each rung, in thousandths of the planned steps; `logged` the order in
    which an earlier start logged them; `deaths` how often a worker died with a replicate. `setup` is kept from the
    first use until the trial is finished.
    """

    number: int
    index: int | None
    params: Mapping[str, Any]
    config_hash: str
    pack: int
    window: Window
    state: str = WAITING
    values: Values | None = None
    duplicate_of: int | None = None
    retry_of: int | None = None
    taken_from: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    done: dict[int, tuple[str, Values]] = field(default_factory=dict)
    rungs: dict[int, Values] = field(default_factory=dict)
    logged: Mapping[int, int] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    setup: TrialSetup | None = None

    @property
    def finished(self) -> bool:
        """Return whether the trial is finished: nothing more of it will be trained."""
        return self.state in FINISHED

    @property
    def value(self) -> float | None:
        """Return its first objective, None without a result."""
        return self.values[0] if self.values else None


class StudyTrials:
    """Every trial by number, the counts of states, the first trial with each configuration, and what trials used.

    `objectives` are the columns of a published row that are minimised; `quantile` is that over the replicates.
    """

    def __init__(self, replicates: int, quantile: float, objectives: Sequence[str]) -> None:
        self.replicates, self._quantile, self._objectives = replicates, quantile, objectives
        self._trials: list[Trial] = []
        self.counts = dict.fromkeys(STATES, 0)
        self.first_with: dict[str, int] = {}
        self.copies: dict[int, list[int]] = {}  # duplicates, by the trial they repeat
        self.retried: set[int] = set()
        self.proposed = 0  # length of the sampler's sequence so far
        self.inherited = 0  # trials that a branch took over, the first ones
        self.unplaced: dict[str, Trial] = {}  # those without a place in the sequence, by the hash of the configuration
        self.best: Trial | None = None
        self.flush_of: dict[tuple[int, int], str] = {}  # publication of each replicate
        self.seconds, self.evaluations = 0.0, 0

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials)

    def add(self, trial: Trial) -> None:
        """Add the next trial. Raises `ValueError` for a number that does not follow."""
        if trial.number != len(self._trials):
            raise ValueError(f"trial {trial.number} cannot follow trial {len(self._trials) - 1}")
        self._trials.append(trial)
        self.counts[trial.state] += 1
        if trial.index is not None:
            self.proposed = max(self.proposed, trial.index + 1)
        elif trial.retry_of is None:
            self.unplaced[trial.config_hash] = trial
        if trial.retry_of is not None:
            self.retried.add(trial.retry_of)
        elif trial.duplicate_of is not None:
            self.copies.setdefault(trial.duplicate_of, []).append(trial.number)
        else:
            self.first_with.setdefault(trial.config_hash, trial.number)
        self._update_best(trial)

    def place(self, trial: Trial, index: int, window: Window, attrs: Mapping[str, Any]) -> None:
        """Give a trial that a branch took over the place at which the sampler proposed its configuration."""
        del self.unplaced[trial.config_hash]
        trial.index, trial.window, trial.attrs = index, window, attrs
        self.proposed = max(self.proposed, index + 1)

    def places(self, limit: int) -> int:
        """Return the length of the sampler's sequence with which the study has `limit` trials."""
        return limit - len(self.unplaced)

    @property
    def placed(self) -> dict[str, dict[str, Any]]:
        """Return the places of the trials that a branch took over, as the database keeps them."""
        placed = (trial for trial in self._trials[: self.inherited] if trial.index is not None)
        return {
            str(trial.number): {"index": trial.index, "window": trial.window, "attrs": dict(trial.attrs)}
            for trial in placed
        }

    def mark(self, trial: Trial, state: str, values: Values | None = None) -> None:
        """Change a trial's state."""
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state, trial.values = state, values
        if trial.finished:
            trial.setup = None
        self._update_best(trial)

    def add_row(self, row: Mapping[str, Any], flush: str) -> None:
        """Add the result of a replicate from its row, published as `flush`."""
        number, replicate = row["trial"], row["replicate"]
        self[number].done[replicate] = end_of(row, self._objectives)
        self.flush_of[number, replicate] = flush
        self.seconds += row.get("seconds") or 0.0
        self.evaluations += row.get("evaluations") or 0

    def outcome(self, trial: Trial) -> tuple[str, Values | None] | None:
        """Return state and objectives of a trial from its replicates, None while some are missing.

        The objective is a quantile over the replicates, in which a failed one counts as infinite.
        """
        ends = trial.done
        if len(ends) < self.replicates:
            return None
        if any(state == PRUNED for state, _ in ends.values()):
            return PRUNED, None
        width = max((len(values) for _, values in ends.values()), default=0)
        columns = [
            [values[i] if state == COMPLETE else math.inf for state, values in ends.values()] for i in range(width)
        ]
        values = tuple(quantile(column, self._quantile) for column in columns)
        return (COMPLETE, values) if values and all(map(math.isfinite, values)) else (FAIL, None)

    @property
    def failures(self) -> int:
        """Return the number of failed trials that were not retried."""
        return self.counts[FAIL] - sum(self._trials[number].state == FAIL for number in self.retried)

    def _update_best(self, trial: Trial) -> None:
        if trial.state != COMPLETE or trial.value is None or trial.duplicate_of is not None:
            return
        if self.best is None or (trial.value, trial.number) < (self.best.value, self.best.number):
            self.best = trial


def rungs_of(record: TrialRecord) -> dict[int, Values]:
    """Return the metrics of a trial in the database at each rung."""
    logged = {rung: (value,) for rung, value in record.rungs.items()}
    return logged | {int(rung): tuple(values) for rung, values in record.attributes.get(RUNGS, {}).items()}


def end_of(row: Mapping[str, Any], objectives: Sequence[str]) -> tuple[str, Values]:
    """Return state and objectives of a member from its row; a value that could not be computed counts as infinite."""
    values = [row.get(name) for name in objectives]
    return row["state"], tuple(math.inf if value is None else value for value in values)


def finish(trial: Trial, state: str, values: Values | None, ledger: Ledger, trials: StudyTrials) -> None:
    """Enter the end of a trial into the database, then into the table."""
    if trial.state == WAITING:
        ledger.mark(trial.number, RUNNING)
    ledger.mark(trial.number, state, values)
    trials.mark(trial, state, values)


def no_objective(result: MemberResult, objectives: Sequence[str]) -> str | None:
    """Return why a study counts a complete training as failed (an objective could not be computed), else None."""
    values = {**result.metrics, **result.seconds, "loss": result.loss, "grad_norm": result.grad_norm}
    for name in objectives:
        value = values.get(name)
        if value is None or not math.isfinite(value):
            return f"the objective {name} could not be computed"
    return None
