"""Sending what a tracker lacks, once or again and again while the study is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..storage.tables import StudyTables
from .member_runs import finished_keys, member_runs
from .sent import SentRuns
from .tracker import Tracker

PASS_S: Final = 3.0  # between two looks at the tables, at least
SHARE: Final = 10  # a look and what it sends take one part in this many of the time, as others train on these cores
LONGEST_PAUSE_S: Final = 300.0  # after troubles in a row
SAVE_S: Final = 2.0  # between two writings of the record


class Sending:
    """What one process sends of a study to a tracker; `sent` and `left` are numbers of runs, known after `send`.

    `progress` is called after each part. With `again`, runs that were sent before are replaced.
    """

    def __init__(
        self,
        tables: StudyTables,
        study_dir: Path,
        study: str,
        name: str,
        tracker: Tracker,
        *,
        numbered: bool,
        again: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._tables, self._study, self._numbered, self._progress = tables, study, numbered, progress
        self._tracker = tracker
        self._record = SentRuns(study_dir, name, tracker.place, again=again)
        self._seen: list[str] | None = None  # the flushes at the last complete look
        self.before, self.sent, self.left = len(self._record), 0, 0

    def send(self) -> None:
        """Send every published run that the tracker lacks. Raises what the tracker raises, the rest being left."""
        flushes = self._tables.flushes()
        if flushes == self._seen:
            return
        missing = [key for key in finished_keys(self._tables) if key not in self._record]
        self.left = len(missing)
        saved_s = time.monotonic()
        try:
            runs = member_runs(self._tables, self._study, missing, numbered=self._numbered)
            for key, run in zip(missing, runs, strict=True):
                self._tracker.log(run)
                self._record.add(key)
                self.sent, self.left = self.sent + 1, self.left - 1
                if time.monotonic() > saved_s + SAVE_S:
                    self._record.save()
                    saved_s = time.monotonic()
                    self._progress()
        finally:
            if missing:
                self._record.save()
        self._seen = flushes


def follow(sending: Sending, wait: Callable[[float], bool], trouble: Callable[[Exception], None]) -> None:
    """Send again and again until `wait`, called with the seconds to wait, says that this was the last time.

    `trouble` is told every error; the next look tries again.
    """
    pause_s, troubles = 0.0, 0
    while True:
        is_last = wait(pause_s)
        started_s = time.monotonic()
        try:
            sending.send()
            troubles = 0
        except Exception as error:
            troubles += 1
            trouble(error)
        if is_last:
            return
        pause_s = max(PASS_S, (SHARE - 1) * (time.monotonic() - started_s))
        pause_s = min(pause_s * 2**troubles, LONGEST_PAUSE_S)
