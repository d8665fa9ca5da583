"""Recovery at a start: the trials of the database and the rows of the tables are read and reconciled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StudyError
from ..search import PastTrial, search_of
from ..spec.study_spec import StudySpec
from ..states import RUNNING, WAITING
from ..storage.events import EventLog
from ..storage.optuna_sql import Ledger, TrialRecord
from ..storage.tables import StudyTables
from .trials import (
    DEATHS,
    DUPLICATE_OF,
    HASH,
    INDEX,
    PACK,
    RETRY_OF,
    RUNGS,
    TAKEN_FROM,
    WINDOW,
    Book,
    Trial,
    end_of,
    finish,
)


def read_book(study_dir: Path, spec: StudySpec, records: Iterable[TrialRecord]) -> Book:
    """Return the trials in the database. Raises `StudyError` for a trial entered by another tool."""
    book, search = Book(spec.search.replicates, spec.search.quantile), search_of(spec)
    for record in records:
        attributes = record.attributes
        if PACK not in attributes:
            raise StudyError(
                f"{study_dir}: trial {record.number} was entered into the study's database by another tool; "
                "a study only takes its own trials. Restore an earlier copy of the database, or start a study with "
                "another name"
            )
        book.add(
            Trial(
                record.number,
                attributes[INDEX],
                search.decoded(record.params),
                attributes[HASH],
                attributes[PACK],
                attributes[WINDOW],
                state=record.state,
                values=record.values,
                duplicate_of=attributes.get(DUPLICATE_OF),
                retry_of=attributes.get(RETRY_OF),
                taken_from=attributes.get(TAKEN_FROM),
                attrs=record.system_attributes,
                rungs={rung: (value,) for rung, value in record.rungs.items()}
                | {int(rung): tuple(values) for rung, values in attributes.get(RUNGS, {}).items()},
                logged=record.logged,
                deaths={int(replicate): count for replicate, count in attributes.get(DEATHS, {}).items()},
            )
        )
    return book


def told(book: Book) -> list[PastTrial]:
    """Return the trials as a sampler sees them."""
    return [
        PastTrial(
            trial.index,
            trial.params,
            trial.state,
            trial.values,
            {rung: value[0] for rung, value in trial.rungs.items()},
            trial.attrs,
        )
        for trial in book
        if trial.index is not None
    ]


def published_rows(study_dir: Path, spec: StudySpec, tables: StudyTables, book: Book) -> list[dict[str, Any]]:
    """Return the rows of finished members, each with its flush.

    Raises `StudyError` where tables and database contradict each other.
    """
    columns = ["trial", "replicate", "state", "failure", "stop_reason", "pack", "seconds", "evaluations"]
    rows = tables.trial_rows([*columns, *(name for name in spec.objectives if name not in columns)])
    seen: set[tuple[int, int]] = set()
    for row in rows:
        if not 0 <= row["trial"] < len(book):
            raise StudyError(
                f"{study_dir}: the tables hold trial {row['trial']}, the study's database does not. Restore it"
            )
        if (key := (row["trial"], row["replicate"])) in seen:
            raise StudyError(
                f"{study_dir}: trial {row['trial']} is in trials/ twice. Remove the file that was added there"
            )
        seen.add(key)
    lost = [
        trial.number
        for trial in book
        if trial.finished and any((trial.number, replicate) not in seen for replicate in range(book.replicates))
    ]
    if lost:
        raise StudyError(
            f"{study_dir}: the database holds finished trials whose rows are gone from trials/: "
            f"{', '.join(map(str, lost[:10]))}. Restore the files, or start a study with another name"
        )
    return rows


def note_rows(rows: Iterable[Mapping[str, Any]], objectives: Sequence[str], book: Book) -> None:
    """Enter the published replicates and their results into the book."""
    for row in rows:
        book[row["trial"]].done[row["replicate"]] = end_of(row, objectives)


def tell_published(rows: Iterable[Mapping[str, Any]], ledger: Ledger, book: Book, events: EventLog) -> None:
    """Finish the trials in the database whose rows a crash left published but not entered."""
    for number in sorted({row["trial"] for row in rows}):
        trial = book[number]
        outcome = None if trial.finished else book.outcome(trial)
        if outcome is not None:
            finish(trial, *outcome, ledger, book)
            events.add("reconciled", "entered its published rows into the database", trial=number)


def release_leases(ledger: Ledger, book: Book) -> None:
    """Set trials that a killed driver left RUNNING back to WAITING."""
    for trial in book:
        if trial.state == RUNNING:
            ledger.mark(trial.number, WAITING)
            book.mark(trial, WAITING)


def remove_orphans(tables: StudyTables, events: EventLog) -> None:
    """Delete the files of an interrupted publication; to be called after `published_rows`, which finds lost rows."""
    for orphan in tables.remove_orphans():
        events.add("reconciled", f"removed the unfinished publication {orphan}")


def highest_pack(saved: Iterable[int], book: Book) -> int:
    """Return the highest number of a pack among the `saved` ones and those of trials, -1 where there was none."""
    return max([*saved, *(trial.pack for trial in book)], default=-1)
