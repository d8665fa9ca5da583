"""Recovery at a start: the trials of the database and the rows of the tables are read and reconciled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import StudyError
from ..search import PastTrial, search_of
from ..spec.study_spec import StudySpec
from ..states import RUNNING, WAITING
from ..storage.events import EventLog
from ..storage.optuna_sql import Ledger, StudyReader
from ..storage.tables import StudyTables
from .trials import ATTRIBUTES, BRANCH, DEATHS, PACK, PLACED, StudyTrials, Trial, Window, finish, rungs_of


def reconcile(study_dir: Path, spec: StudySpec, ledger: Ledger, tables: StudyTables, events: EventLog) -> StudyTrials:
    """Bring database and tables into agreement after a crash, and return the trials.

    Trials whose rows are published are finished in the database, the files of an interrupted publication are deleted.
    Raises `StudyError` where database and tables contradict each other.
    """
    trials = read_trials(study_dir, spec, ledger)
    rows = published_rows(study_dir, spec, tables, trials)
    for row in rows:
        trials.add_row(row, row["flush"])
    for trial in [trials[number] for number in sorted({row["trial"] for row in rows})]:
        outcome = None if trial.finished else trials.outcome(trial)
        if outcome is not None:
            finish(trial, *outcome, ledger, trials)
            events.add("reconciled", "entered its published rows into the database", trial=trial.number)
    for name in tables.left_out:
        events.add("left out", f"{name}, which this study did not write")
    for orphan in tables.remove_orphans():  # after `published_rows`, which finds lost rows
        events.add("reconciled", f"removed the unfinished publication {orphan}")
    release_leases(ledger, trials)
    return trials


def release_leases(ledger: Ledger, trials: StudyTrials) -> None:
    """Set RUNNING trials back to WAITING: those of a killed driver, or of an attempt that ends."""
    for trial in trials:
        if trial.state == RUNNING:
            ledger.mark(trial.number, WAITING)
            trials.mark(trial, WAITING)


def read_trials(study_dir: Path, spec: StudySpec, reader: StudyReader) -> StudyTrials:
    """Return the trials in the database. Raises `StudyError` for a trial entered by another tool."""
    trials, search = StudyTrials(spec.search.replicates, spec.search.quantile, spec.objectives), search_of(spec)
    of_study = reader.attributes()
    placed = of_study.get(PLACED, {})
    trials.inherited = of_study.get(BRANCH, {}).get("trials", 0)
    for record in reader.records():
        attributes = record.attributes
        if PACK not in attributes:
            raise StudyError(
                f"{study_dir}: trial {record.number} was entered into the study's database by another tool; "
                "a study only takes its own trials. Restore an earlier copy of the database, or start a study with "
                "another name"
            )
        entered: dict[str, Any] = {name: attributes.get(name) for name in ATTRIBUTES}
        entered |= {"attrs": record.system_attributes} | placed.get(str(record.number), {})
        trials.add(
            Trial(
                record.number,
                params=search.decoded(record.params),
                **entered | {"window": Window(*entered["window"])},
                state=record.state,
                values=record.values,
                rungs=rungs_of(record),
                logged=record.logged,
                deaths={int(replicate): count for replicate, count in attributes.get(DEATHS, {}).items()},
            )
        )
    return trials


def past_trials(trials: StudyTrials) -> list[PastTrial]:
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
        for trial in trials
        if trial.index is not None
    ]


def inherited_trials(trials: StudyTrials) -> list[PastTrial]:
    """Return the trials that a branch took over as a sampler sees those of other studies."""
    return [
        PastTrial(trial.number, trial.params, trial.state, trial.values)
        for trial in (trials[number] for number in range(trials.inherited))
    ]


def published_rows(study_dir: Path, spec: StudySpec, tables: StudyTables, trials: StudyTrials) -> list[dict[str, Any]]:
    """Return the rows of finished members, each with its flush.

    Raises `StudyError` where tables and database contradict each other.
    """
    columns = ["trial", "replicate", "state", "seconds", "evaluations"]
    rows = tables.trial_rows([*columns, *(name for name in spec.objectives if name not in columns)])
    seen: set[tuple[int, int]] = set()
    for row in rows:
        if not 0 <= row["trial"] < len(trials):
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
        for trial in trials
        if trial.finished and any((trial.number, replicate) not in seen for replicate in range(trials.replicates))
    ]
    if lost:
        raise StudyError(
            f"{study_dir}: the database holds finished trials whose rows are gone from trials/: "
            f"{', '.join(map(str, lost[:10]))}. Restore the files, or start a study with another name"
        )
    return rows
