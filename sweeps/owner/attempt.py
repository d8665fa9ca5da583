"""An attempt at a study, from the lock to the last event: what its owner reads and writes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from ..errors import StudyError
from ..search import Search, search_of
from ..spec.study_spec import StudySpec
from ..storage import compaction, lock
from ..storage.events import EventLog
from ..storage.tables import StudyTables
from ..study import folder, home, other_studies, recovery
from ..study.checkpoints import checkpoints_of
from ..study.log import log_exception
from ..study.study_file import LIMIT


class Attempt:
    """A study opened for one attempt, with folder, store and database in agreement; the parts of its owner share it.

    `wanted` is the content of the study file, given where it may have changed. Raises `StudyError` where the study is
    held by another owner, is damaged, or is another study.
    """

    def __init__(self, study_dir: Path, wanted: StudySpec | None, driver_pid: int) -> None:
        self.study_dir = study_dir
        shared = folder.database_of(study_dir, wanted).is_shared  # a shared database refuses a second owner
        with contextlib.ExitStack() as undo:
            self.lock = lock.StudyLock(study_dir, driver_pid=driver_pid, must_hold=not shared)
            undo.callback(self.lock.release)
            self.spec, self.ledger, notes = folder.open_study(study_dir, wanted)
            undo.callback(self.ledger.close)
            lock.stop_file(study_dir).unlink(missing_ok=True)
            self.remote = home.remote_of(study_dir)
            self.tables = StudyTables(study_dir, publish_in=self.remote)
            self.checkpoints = checkpoints_of(study_dir)
            compaction.recover(study_dir)
            if self.remote is not None:
                home.reconcile(study_dir, self.remote, self.tables, self.lock.word)
            attributes = self.ledger.attributes()
            self.hours_before = float(attributes.get("hours", 0.0))  # used by earlier attempts
            self.number = 1 + max(int(attributes.get("attempts", 0)), self.tables.newest_attempt())
            self.ledger.set_attribute("attempts", self.number)
            folder.record_version(self.ledger, self.number)
            self.events = EventLog(self.tables, self.number)
            self.events.add("started" if self.number == 1 else "resumed", f"process {driver_pid}")
            for note in notes:
                self.events.add("reconciled", note)
            # the study's own copies of files of initial weights, by their names in the study file
            self.weights = other_studies.settle_weights(study_dir, self.spec, self.ledger)
            if self.remote is not None:
                home.push_weights(study_dir, self.remote)
            self.trials = recovery.reconcile(study_dir, self.spec, self.ledger, self.tables, self.events)
            self.spec_hash = self.spec.sha256()
            undo.pop_all()

    @functools.cached_property
    def search(self) -> Search:
        """Return the sampler, which knows the trials of earlier starts and of other studies; made after `inherit`."""
        inherited = recovery.inherited_trials(self.trials)
        warm = other_studies.warm_start(self.spec, self.ledger, but=[trial.params for trial in inherited])
        return search_of(self.spec, recovery.past_trials(self.trials), [*warm, *inherited])

    @property
    def limit(self) -> int:
        """Return the number of trials of the study, at least those that a branch took over."""
        return max(self.search.limit, self.trials.inherited)

    def note_limit(self) -> None:
        """Record the number of trials for status queries."""
        if self.ledger.attributes().get(LIMIT) != self.limit:
            self.ledger.set_attribute(LIMIT, self.limit)

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
    """Yield an attempt, which is closed again where the block raises.

    Raises `StudyError` as `Attempt` does, and where the study cannot be written to.
    """
    try:
        with contextlib.ExitStack() as undo:
            attempt = Attempt(study_dir, wanted, driver_pid)
            undo.callback(attempt.close)
            yield attempt
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
