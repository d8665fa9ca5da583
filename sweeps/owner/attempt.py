"""An attempt at a study, from the lock to the last event: what its owner reads and writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import StudyError
from ..search import Search
from ..spec.study_spec import StudySpec
from ..storage import compaction, lock
from ..storage.events import EventLog
from ..storage.object_store import Remote
from ..storage.optuna_writer import Ledger
from ..storage.tables import StudyTables
from ..study import folder, home, other_studies, recovery
from ..study.checkpoints import Checkpoints, checkpoints_of
from ..study.log import log_exception
from ..study.study_file import LIMIT
from ..study.trials import StudyTrials


@dataclass(frozen=True)
class Attempt:
    """A study opened for one attempt, which its owner's parts share.

    `spec_hash` is that of the whole study file. `weights` are the study's own copies of files of initial weights, by
    their names in the study file. `hours_before` is the time that earlier attempts took.
    """

    study_dir: Path
    number: int
    spec: StudySpec
    spec_hash: str
    lock: lock.StudyLock
    remote: Remote | None
    ledger: Ledger
    tables: StudyTables
    checkpoints: Checkpoints
    events: EventLog
    trials: StudyTrials
    search: Search
    weights: Mapping[str, str]
    hours_before: float

    def check_ownership(self) -> None:
        """Raise `StudyError` where another owner has taken the study."""
        self.lock.check()
        if self.remote is not None:
            home.check_owner(self.remote, self.lock.word)

    def end(self, hours: float, *, is_stopped: bool) -> None:
        """Record the end of the attempt and the time that the study has taken."""
        recovery.release_leases(self.ledger, self.trials)
        self.ledger.set_attribute("hours", hours)
        if not is_stopped:  # a user who stops a study does not want to wait
            self._compact()
        self.events.add(
            "ended", ", ".join(f"{number} {state}" for state, number in self.trials.counts.items() if number)
        )
        self.events.flush()
        lock.stop_file(self.study_dir).unlink(missing_ok=True)

    def _compact(self) -> None:
        """Merge the small files of the tables; a failure is recorded and loses nothing."""
        if compaction.is_due(self.tables):
            self.events.flush()
            try:
                files = compaction.compact(self.tables, self.remote)
            except (OSError, StudyError) as problem:
                self.events.add("not compacted", message_of(problem, self.study_dir))
            else:
                self.events.add("compacted", f"{files.before:,} files of the tables became {files.after:,}")

    def close(self) -> None:
        """Close the database and release the lock."""
        self.ledger.close()
        with contextlib.suppress(OSError):
            self.lock.release()


@contextlib.contextmanager
def opened(study_dir: Path, wanted: StudySpec | None, driver_pid: int) -> Iterator[Attempt]:
    """Yield a study opened for one attempt; it is closed again where the block raises.

    `wanted` is the content of the study file, given where it may have changed. Raises `StudyError` where the study is
    held by another owner, is damaged, is another study, or cannot be written to.
    """
    try:
        with contextlib.ExitStack() as undo:
            shared = folder.database_of(study_dir, wanted).is_shared  # a shared database refuses a second owner
            study_lock = lock.StudyLock(study_dir, driver_pid=driver_pid, must_hold=not shared)
            undo.callback(study_lock.release)
            spec, ledger, notes = folder.open_study(study_dir, wanted)
            undo.callback(ledger.close)
            lock.stop_file(study_dir).unlink(missing_ok=True)
            remote = home.remote_of(study_dir)
            tables = StudyTables(study_dir, publish_in=remote)
            compaction.recover(study_dir)
            if remote is not None:
                home.reconcile(study_dir, remote, tables, study_lock.word)
            attributes = ledger.attributes()
            number = 1 + max(int(attributes.get("attempts", 0)), tables.newest_attempt())
            ledger.set_attribute("attempts", number)
            folder.record_version(ledger, number)
            events = EventLog(tables, number)
            events.add("started" if number == 1 else "resumed", f"process {driver_pid}")
            for note in notes:
                events.add("reconciled", note)
            weights = other_studies.settle_weights(study_dir, spec, ledger)
            if remote is not None:
                home.push_weights(study_dir, remote)
            trials = recovery.reconcile(study_dir, spec, ledger, tables, events)
            search = Search(spec, recovery.past_trials(trials), other_studies.warm_start(spec, ledger))
            if attributes.get(LIMIT) != search.limit:
                ledger.set_attribute(LIMIT, search.limit)  # for status queries
            yield Attempt(
                study_dir,
                number,
                spec,
                spec.sha256(),
                study_lock,
                remote,
                ledger,
                tables,
                checkpoints_of(study_dir),
                events,
                trials,
                search,
                weights,
                hours_before=float(attributes.get("hours", 0.0)),
            )
            undo.pop_all()
    except OSError as problem:
        raise StudyError(
            f"{study_dir} cannot be used ({message_of(problem, study_dir)}). Fix this and run the study again: it "
            "continues where it stopped"
        ) from None


def message_of(problem: Exception, study_dir: Path) -> str:
    """Return the message of an error; an unexpected one is logged with its traceback."""
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.strerror}: {problem.filename}" if problem.filename else problem.strerror
    return str(problem) if isinstance(problem, StudyError) else log_exception(study_dir, "owner", problem)
