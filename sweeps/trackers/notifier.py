"""The thread that delivers notices, so that no webhook and no program delays a run."""

from __future__ import annotations

import queue
import threading
from typing import Final

from ..spec.sections import NotifySettings
from .delivery import Notice, address_of, post, start

_LAST: Final = None  # after the last notice


class Notifier:
    """Delivers the notices of a run in their order; `troubles` holds one sentence for each that was not delivered."""

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings
        self.troubles: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._notices: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name="notifier", daemon=True)
        self._thread.start()

    def tell(self, notice: Notice) -> None:
        """Deliver a notice soon, if its event is one that the user wants to know of."""
        if notice["event"] in self._settings.on:
            self._notices.put(notice)

    def finish(self) -> None:
        """Deliver nothing after what was told so far."""
        self._notices.put(_LAST)

    def wait(self, timeout_s: float) -> bool:
        """Return whether everything was delivered, or given up, within a time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _deliver(self) -> None:
        while (notice := self._notices.get()) is not _LAST:
            try:
                troubles = self._tries(notice)
            except Exception as error:  # a bug of ours: the next notice is delivered all the same
                troubles = [f"unexpected {type(error).__name__}"]
            for trouble in filter(None, troubles):
                self.troubles.put(f"the notification of the event {notice['event']} failed: {trouble}")

    def _tries(self, notice: Notice) -> list[str]:
        settings, troubles = self._settings, []
        if settings.webhook is not None:
            troubles.append(post(address_of(settings.webhook), notice))
        if settings.words:
            troubles.append(start(settings.words, notice))
        return troubles
