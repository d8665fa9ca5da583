"""The recording of results: the rows of a member are published, then its trial is told to database and sampler.

The order matters: a start after a crash tells the trials whose rows are published. The other order would lose rows.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from ..errors import StudyError
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.tables import StudyTables, of_member
from ..study.trials import Trial, finish
from .attempt import Attempt
from .messages import MemberRecord, configuration_columns
from .packing import setup_of
from .snapshot import FinishedTrial

KEPT_FINISHED = 200  # finished trials that a progress view can still ask for
_TAKEN_AT_ONCE = 50  # trials of another study whose results are in memory together
_PARTS = ("curves", "fields", "weights")  # tables with many rows of each member


class Recorder:
    """The only writer of results. `finished` are the last trials that finished in this attempt."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt, self._spec, self._tables = attempt, attempt.spec, attempt.tables
        self._ledger, self._trials, self._events = attempt.ledger, attempt.trials, attempt.events
        self.finished: deque[FinishedTrial] = deque(maxlen=KEPT_FINISHED)
        self.finished_count = 0  # all of this attempt

    def record(self, records: Iterable[MemberRecord]) -> None:
        """Publish the records of members that are not recorded yet, and finish their trials and those that repeat them.

        Raises `StudyError` where this owner has lost the study.
        """
        new = {record.key: record for record in records if record.key not in self._trials.flush_of}
        if not new:
            return
        self._attempt.check_ownership()
        trial, replicate = min(new)
        flush = f"trials-{trial:06d}" + (f"-{replicate:04d}" if self._trials.replicates > 1 else "")
        parts = {
            name: [
                {**part, "trial": trial, "replicate": replicate}
                for (trial, replicate), record in new.items()
                if (part := getattr(record, name))
            ]
            for name in _PARTS
        }
        self._tables.publish(flush, trials=[record.row for record in new.values()], **parts)
        ended = []
        with self._ledger.transaction():
            for (number, _), record in new.items():
                self._trials.add_row(record.row, flush)
                if self._settle(self._trials[number], record.row):
                    ended.append(self._trials[number])
        for original in ended:
            self._copy_results(original)
        self._events.flush()

    def _settle(self, trial: Trial, row: Mapping[str, Any]) -> bool:
        """Tell a trial once all its replicates are published, and return whether it was told now."""
        outcome = self._trials.outcome(trial)
        if outcome is None or trial.finished:
            return False
        state, values = outcome
        finish(trial, state, values, self._ledger, self._trials)
        if trial.index is not None:
            self._attempt.search.tell(
                trial.index, state, values, {rung: value[0] for rung, value in trial.rungs.items()}
            )
        self._events.add(
            {COMPLETE: "finished", FAIL: "failed"}.get(state, "pruned"),
            row.get("failure") or row.get("stop_reason") or "",
            trial=trial.number,
            pack=row.get("pack"),
        )
        if trial.number < self._trials.inherited:
            return True
        self.finished.append(
            FinishedTrial(
                trial.number,
                state,
                trial.value,
                trial.params,
                row.get("stop_reason"),
                row.get("failure"),
                row.get("seconds"),
            )
        )
        self.finished_count += 1
        return True

    def end_untrained(
        self, trial: Trial, state: str, reason: str = "", replicates: Sequence[int] | None = None
    ) -> None:
        """Record members of a trial, by default all, that were not trained to a result."""
        now = datetime.datetime.now(datetime.UTC)
        row = {
            "trial": trial.number,
            "state": state,
            "failure": reason if state == FAIL else None,
            "stop_reason": "pruned" if state == PRUNED else None,
            "attempt": self._attempt.number,
            "retry_of": trial.retry_of,
            "started_at": now,
            "finished_at": now,
            **configuration_columns(
                setup_of(self._spec, trial).config, self._spec.record, trial.config_hash, self._attempt.spec_hash
            ),
        }
        if replicates is None:
            replicates = range(self._trials.replicates)
        self.record([MemberRecord({**row, "replicate": replicate}) for replicate in replicates])

    def reuse(self, trials: Iterable[Trial]) -> None:
        """Record the results that unfinished trials have from others, of this study or of other studies.

        Raises `StudyError` where the results of another study are gone.
        """
        unfinished = [trial for trial in trials if not trial.finished]
        taken = [trial for trial in unfinished if trial.taken_from is not None]
        for first in range(0, len(taken), _TAKEN_AT_ONCE):
            self.take_over(taken[first : first + _TAKEN_AT_ONCE])
        for trial in unfinished:
            if trial.duplicate_of is not None and self._trials[trial.duplicate_of].finished:
                self._copy_results(self._trials[trial.duplicate_of])

    def _copy_results(self, original: Trial) -> None:
        """Copy a finished trial's results to the unfinished trials of the same configuration."""
        copies = self._trials.copies.get(original.number, ())
        numbers = [number for number in copies if not self._trials[number].finished]
        if numbers:
            replicates = range(self._trials.replicates)
            flushes = {self._trials.flush_of[original.number, replicate] for replicate in replicates}
            rows = [row for row in self._tables.rows_of(flushes) if row["trial"] == original.number]
            for number in numbers:
                self.record([MemberRecord(self._copied_row(row, number)) for row in rows])

    def take_over(self, trials: Sequence[Trial]) -> None:
        """Copy the results of other studies for the same configurations. Raises `StudyError` where they are gone."""
        own: dict[str, dict[int, Trial]] = {}  # by folder and by the number there
        for trial in trials:
            folder, _, number = str(trial.taken_from).rpartition("/")
            own.setdefault(folder, {})[int(number)] = trial
        for folder, by_number in own.items():
            self.record(self._taken_over(StudyTables(Path(folder)), by_number))

    def _taken_over(self, other: StudyTables, trials: Mapping[int, Trial]) -> Iterator[MemberRecord]:
        """Yield the records of trials, given by their numbers in another study. Raises `StudyError`."""
        where, columns = ds.field("trial").isin(list(trials)), self._tables.schema("trials").names
        rows = {(row["trial"], row["replicate"]): row for row in other.read("trials", where=where).to_pylist()}
        parts = {name: other.read(name, where=where) for name in _PARTS}
        for number, trial in trials.items():
            if any((number, replicate) not in rows for replicate in range(self._trials.replicates)):
                raise StudyError(
                    f"trial {number} of {other.study_dir} is gone; trial {trial.number} reuses its results"
                )
            for replicate in range(self._trials.replicates):
                copy = self._copied_row(rows[number, replicate], trial.number)
                copy |= {"duplicate_of": None, "retry_of": None, "taken_from": trial.taken_from}
                own = {name: part.filter(of_member(number, replicate)) for name, part in parts.items()}
                yield MemberRecord(
                    {name: copy[name] for name in copy if name in columns},
                    **{name: part.to_pydict() for name, part in own.items() if len(part)},
                )

    def _copied_row(self, row: Mapping[str, Any], number: int) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        nothing_spent = dict.fromkeys(("first_seconds", "second_seconds", "seconds"), 0.0)
        nothing_spent |= dict.fromkeys(("first_evaluations", "second_evaluations", "evaluations"), 0)
        own = {"trial": number, "duplicate_of": row["trial"], "attempt": self._attempt.number, "pack": None}
        return {**row, **own, **nothing_spent, "started_at": now, "finished_at": now}
