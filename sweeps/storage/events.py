"""The event log of a study: gathered in memory, published as the table `events`."""

from __future__ import annotations

import datetime
from typing import Any

from .tables import StudyTables


class EventLog:
    """The events of one attempt."""

    def __init__(self, tables: StudyTables, attempt: int) -> None:
        self._tables, self._attempt = tables, attempt
        self._rows: list[dict[str, Any]] = []
        self._files = 0

    def add(self, event: str, detail: str = "", *, trial: int | None = None, pack: int | None = None) -> None:
        """Note an event, to be published with the next flush."""
        now = datetime.datetime.now(datetime.UTC)
        row = {"time": now, "attempt": self._attempt, "trial": trial, "pack": pack, "event": event, "detail": detail}
        self._rows.append(row)

    def flush(self) -> None:
        """Publish the events noted since the last flush."""
        if self._rows:
            self._tables.publish_events(f"attempt-{self._attempt:04d}-{self._files:06d}", self._rows)
            self._files += 1
            self._rows = []
