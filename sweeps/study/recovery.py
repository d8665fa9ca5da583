"""What a start finds, brought in order: the trials of the database, the rows of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StudyError
from ..search import PastTrial, Search
from ..spec.study_spec import StudySpec, config_sha256
from ..states import RUNNING, WAITING
from ..storage.events import EventLog
from ..storage.optuna_reader import TrialRecord
from ..storage.optuna_writer import Ledger
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
    """The trials as the database has them. Raises `StudyError` for one that is not ours."""
    book, search = Book(spec.search.replicates, spec.search.quantile), Search(spec)
    for record in records:
        attributes = record.attributes
        if PACK not in attributes:
            raise StudyError(
                f"{study_dir}: trial {record.number} was entered into the study's database by another tool; a study "
                "asks its own trials. Restore the database from before that, or start a study of another name"
            )
        params = search.decoded(record.params)
        book.add(
            Trial(
                record.number,
                attributes.get(INDEX, record.number),
                params,
                attributes.get(HASH) or config_sha256(spec.config(params)),
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
                deaths={int(replicate): n for replicate, n in attributes.get(DEATHS, {}).items()},
            )
        )
    return book


def told(book: Book) -> list[PastTrial]:
    """The trials as a sampler sees them."""
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
    """The rows of finished members, each with the flush it stands in. Raises `StudyError` where tables and database
    contradict each other."""
    columns = ["trial", "replicate", "state", "failure", "stop_reason", "pack", "seconds", "evaluations"]
    rows = tables.trial_rows([*columns, *(name for name in spec.objectives if name not in columns)])
    seen: set[tuple[int, int]] = set()
    for row in rows:
        if not 0 <= row["trial"] < len(book):
            raise StudyError(
                f"{study_dir}: the tables hold trial {row['trial']}, the study's database does not; restore it"
            )
        if (key := (row["trial"], row["replicate"])) in seen:
            raise StudyError(
                f"{study_dir}: trial {row['trial']} stands twice in trials/; remove the file that was added to it"
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
            f"{', '.join(map(str, lost[:10]))}. Restore the files, or start a study of another name"
        )
    return rows


def note_rows(rows: Iterable[Mapping[str, Any]], objectives: Sequence[str], book: Book) -> None:
    """Remember which replicates are published, and with what result."""
    for row in rows:
        book[row["trial"]].done[row["replicate"]] = end_of(row, objectives)


def tell_published(rows: Iterable[Mapping[str, Any]], ledger: Ledger, book: Book, events: EventLog) -> None:
    """Tell the trials that a crash left published and not told."""
    for number in sorted({row["trial"] for row in rows}):
        trial = book[number]
        outcome = None if trial.finished else book.outcome(trial)
        if outcome is not None:
            finish(trial, *outcome, ledger, book)
            events.add("reconciled", "published but not told; told now", trial=number)


def release_leases(ledger: Ledger, book: Book) -> None:
    """What a killed driver left RUNNING is trained by nobody."""
    for trial in book:
        if trial.state == RUNNING:
            ledger.mark(trial.number, WAITING)
            book.mark(trial, WAITING)


def remove_orphans(tables: StudyTables, events: EventLog) -> None:
    """Delete what an interrupted publication left, once it is certain that no row of a finished trial is missing."""
    for orphan in tables.remove_orphans():
        events.add("reconciled", f"removed the unfinished publication {orphan}")


def highest_pack(saved: Iterable[int], book: Book) -> int:
    """The highest number a pack ever had, by those that have checkpoints and the trials, -1 where there was none."""
    return max([*saved, *(trial.pack for trial in book)], default=-1)
