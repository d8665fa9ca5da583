"""The recording of results: the rows of a member are published, then its trial is told to database and sampler.

The order matters: a start after a crash tells the trials whose rows are published. The other order would lose rows.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from ..errors import StudyError
from ..search import Search
from ..spec.study_spec import StudySpec
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.events import EventLog
from ..storage.optuna_sql import Ledger
from ..storage.schema import setting_columns
from ..storage.tables import StudyTables
from ..study.provenance import versions
from ..study.trials import Book, Trial, end_of, finish

KEPT_FINISHED = 200  # finished trials that a progress view can still ask for


class Recorder:
    """The only writer of results.

    `guard` raises `StudyError` where this owner no longer owns the study. `rows` are the rows published before.
    """

    def __init__(
        self,
        spec: StudySpec,
        attempt: int,
        tables: StudyTables,
        ledger: Ledger,
        book: Book,
        search: Search,
        events: EventLog,
        *,
        guard: Callable[[], None],
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._spec, self._attempt, self._tables, self._ledger = spec, attempt, tables, ledger
        self._book, self._search, self._events, self._guard = book, search, events, guard
        self.flush_of: dict[tuple[int, int], str] = {}
        self.finished: list[dict[str, Any]] = []
        self.finished_before = 0  # finished trials before the first entry of the list
        self.seconds, self.evaluations = 0.0, 0
        for row in rows:
            self._add_use(row, row["flush"])

    def record(
        self,
        rows: Sequence[Mapping[str, Any]],
        curves: Iterable[Mapping[str, Any]] = (),
        fields: Iterable[Mapping[str, Any]] = (),
        weights: Iterable[Mapping[str, Any]] = (),
    ) -> list[Trial]:
        """Publish the rows of members that are not recorded yet, and return the trials that are finished with them.

        Trials of the same configuration are finished too. Raises what `guard` raises.
        """
        new = {(row["trial"], row["replicate"]): row for row in rows if not self._is_recorded(row)}
        if not new:
            return []

        def parts_of_new(parts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
            return [part for part in parts if (part["trial"], part["replicate"]) in new]

        self._guard()
        trial, replicate = min(new)
        flush = f"trials-{trial:06d}" + (f"-{replicate:04d}" if self._book.replicates > 1 else "")
        self._tables.publish(
            flush,
            trials=list(new.values()),
            curves=parts_of_new(curves),
            fields=parts_of_new(fields),
            weights=parts_of_new(weights),
        )
        ended = []
        with self._ledger.transaction():
            for (number, replicate), row in new.items():
                trial_of_row = self._book[number]
                trial_of_row.done[replicate] = end_of(row, self._spec.objectives)
                self._add_use(row, flush)
                if self._settle(trial_of_row, row):
                    ended.append(trial_of_row)
        copied = [copy for trial in ended for copy in self.copy_results(trial)]
        self._events.flush()
        return [*ended, *copied]

    def _settle(self, trial: Trial, row: Mapping[str, Any]) -> bool:
        """Tell a trial once all its replicates are published, and return whether it was told now."""
        outcome = self._book.outcome(trial)
        if outcome is None or trial.finished:
            return False
        state, values = outcome
        finish(trial, state, values, self._ledger, self._book)
        if trial.index is not None:
            self._search.tell(trial.index, state, values, {rung: value[0] for rung, value in trial.rungs.items()})
        self._events.add(
            {COMPLETE: "finished", FAIL: "failed"}.get(state, "pruned"),
            row.get("failure") or row.get("stop_reason") or "",
            trial=trial.number,
            pack=row.get("pack"),
        )
        self.finished.append(
            {
                "trial": trial.number,
                "state": state,
                "value": values[0] if values else None,
                "stop_reason": row.get("stop_reason"),
                "failure": row.get("failure"),
                "params": trial.params,
                "seconds": row.get("seconds"),
            }
        )
        if len(self.finished) > 2 * KEPT_FINISHED:
            self.finished_before += len(self.finished) - KEPT_FINISHED
            del self.finished[:-KEPT_FINISHED]
        return True

    def end_untrained(
        self,
        trial: Trial,
        state: str,
        reason: str,
        config: Mapping[str, Mapping[str, Any]],
        replicates: Sequence[int] | None = None,
    ) -> None:
        """Record members of a trial, by default all, that were not trained to a result."""
        now = datetime.datetime.now(datetime.UTC)
        row = {
            "trial": trial.number,
            "state": state,
            "failure": reason if state == FAIL else None,
            "stop_reason": "pruned" if state == PRUNED else None,
            "attempt": self._attempt,
            "retry_of": trial.retry_of,
            **setting_columns(config),
            "started_at": now,
            "finished_at": now,
            "config_hash": trial.config_hash,
            "spec_hash": self._spec.sha256(),
            **versions(),
        }
        if replicates is None:
            replicates = range(self._book.replicates)
        self.record([{**row, "replicate": replicate} for replicate in replicates])

    def copy_results(self, original: Trial) -> list[Trial]:
        """Copy a finished trial's results to the unfinished trials of the same configuration, and return those."""
        copies = self._book.copies.get(original.number, ())
        numbers = [number for number in copies if not self._book[number].finished]
        if not numbers:
            return []
        flushes = {self.flush_of[original.number, replicate] for replicate in range(self._book.replicates)}
        rows = [row for row in self._tables.rows_of(flushes) if row["trial"] == original.number]
        return [trial for number in numbers for trial in self.record([self._copied_row(row, number) for row in rows])]

    def take_over(self, trial: Trial) -> None:
        """Copy the results of another study for the same configuration. Raises `StudyError` where they are gone."""
        folder, _, number = str(trial.taken_from).rpartition("/")
        other, where = StudyTables(Path(folder)), ds.field("trial") == int(number)
        rows = [row for row in other.read("trials", where=where).to_pylist() if row["state"] == COMPLETE]
        if len(rows) != self._book.replicates:
            raise StudyError(f"trial {number} of {folder} is gone; trial {trial.number} reuses its results")
        source = {"duplicate_of": None, "taken_from": trial.taken_from}
        copies = [self._copied_row(row, trial.number) | source for row in rows]
        parts = {
            name: [
                {**part.to_pydict(), "trial": trial.number, "replicate": replicate}
                for replicate in range(self._book.replicates)
                if len(part := other.read(name, where=where & (ds.field("replicate") == replicate)))
            ]
            for name in ("curves", "fields", "weights")
        }
        columns = self._tables.schema("trials").names
        self.record([{name: row[name] for name in row if name in columns} for row in copies], **parts)

    def _copied_row(self, row: Mapping[str, Any], number: int) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        nothing_spent = dict.fromkeys(("first_seconds", "second_seconds", "seconds"), 0.0)
        nothing_spent |= dict.fromkeys(("first_evaluations", "second_evaluations", "evaluations"), 0)
        own = {"trial": number, "duplicate_of": row["trial"], "attempt": self._attempt, "pack": None}
        return {**row, **own, **nothing_spent, "started_at": now, "finished_at": now}

    def _add_use(self, row: Mapping[str, Any], flush: str) -> None:
        self.flush_of[row["trial"], row["replicate"]] = flush
        self.seconds += row.get("seconds") or 0.0
        self.evaluations += row.get("evaluations") or 0

    def _is_recorded(self, row: Mapping[str, Any]) -> bool:
        return row["replicate"] in self._book[row["trial"]].done
