"""Everything that a run tells others: trackers and notifications, beside the run and never in its way."""

from __future__ import annotations

import contextlib
import queue
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from ..errors import RunLostError, SpecError
from ..own_name import own_name
from ..owner.snapshot import StudySnapshot
from ..spec.study_spec import StudySpec
from ..storage.object_store import Remote
from ..study.input_checks import not_ready, of_trackers
from .child import Order
from .notices import Notices
from .notifier import Notifier
from .sender import Sender

END_S: Final = 30.0  # to wait at the end of a run for what is not sent yet
STOP_S: Final = 5.0  # likewise where the run was stopped or lost
QUIET_S: Final = 2.0  # of these without a word


def refuse_unready(spec: StudySpec) -> None:
    """Raise `SpecError` where a tracker's library, a webhook's variable or a program is missing on this machine."""
    mistakes = [*of_trackers(spec, frozenset()), *not_ready(spec)]
    if mistakes:
        raise SpecError(mistakes)


class Outlets:
    """The trackers and notifications of one run: `with Outlets(...) as outlets: ...; outlets.end("finished")`.

    `show` prints a line, at the end of the block; before that `update` returns the lines. Senders start with the first
    trial that finishes, or at the end. A block that raises `RunLostError` ends as lost.
    """

    def __init__(self, spec: StudySpec, study_dir: Path, remote: Remote | None, show: Callable[[str], None]) -> None:
        self._spec, self._study_dir, self._show = spec, study_dir.absolute(), show
        self._notices = Notices(spec, str(remote or self._study_dir))
        self._notifier = Notifier(spec.notify) if spec.notify.is_used else None
        self._senders: list[Sender] | None = None
        self._has_begun = False
        self._warned: set[str] = set()
        self._lines: list[str] = []  # to show next
        self._is_short = True  # the wait at the end, as nobody has said how the run ended
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RunLostError):
            self.end("lost", str(error))
        self.close(STOP_S if self._is_short else END_S)

    def update(self, snapshot: StudySnapshot) -> list[str]:
        """Tell others what is new in a snapshot, and return the warnings that are new. Waits for nothing."""
        self._has_begun = True
        if self._notifier is not None:
            for notice in self._notices.of(snapshot):
                self._notifier.tell(notice)
        if snapshot.finished_count and self._senders is None:
            self._start()
        return self._warnings()

    def end(self, reason: str, detail: str = "") -> None:
        """Tell others that the run has ended, and why."""
        self._is_short = reason in ("stopped", "lost")
        if self._notifier is not None:
            self._notifier.tell(self._notices.end(reason, detail))

    def lost(self, detail: str) -> None:
        """Tell others that the run was lost, and end this at once, as the process is about to end."""
        self.end("lost", detail)
        self.close(STOP_S)

    def close(self, wait_s: float) -> None:
        """Wait for a limited time, or until Ctrl-C, until everything is sent, and say what is not."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._senders is None and self._has_begun and not self._is_short:  # else nothing finished in this run
            self._start()
        waiting: dict[str, Sender | Notifier] = {sender.name: sender for sender in self._senders or ()}
        waiting |= {"notify": self._notifier} if self._notifier else {}
        for outlet in waiting.values():
            outlet.finish()
        late = waiting
        with contextlib.suppress(KeyboardInterrupt):
            late = _late(waiting, min(QUIET_S, wait_s))
            if late and wait_s > QUIET_S:
                self._show(f"sending the last results to {', '.join(late)}, for at most {wait_s:g} s")
                late = _late(late, wait_s - QUIET_S)
        for sender in self._senders or ():
            sender.kill()
        for line in [*self._warnings(), *self._last_words(late)]:
            self._show(line)

    def _start(self) -> None:
        """Start the senders; one that cannot be started is a warning."""
        self._senders = []
        for name in self._spec.track.chosen:
            order = Order.of(self._spec, self._study_dir, name)  # the home of an object store has all tables
            try:
                self._senders.append(Sender(order))
            except OSError as problem:
                self._lines.append(f"warning: {name}: its process cannot be started ({problem.strerror})")

    def _warnings(self) -> list[str]:
        """Return new warnings: one for each tracker, and one for each notification that failed."""
        lines, self._lines = self._lines, []
        for sender in self._senders or ():
            if sender.state.trouble and sender.name not in self._warned:
                self._warned.add(sender.name)
                lines.append(f"warning: {sender.name}: {sender.state.trouble}")
        while self._notifier is not None:
            try:
                lines.append(f"warning: {self._notifier.troubles.get_nowait()}")
            except queue.Empty:
                break
        return lines

    def _last_words(self, late: dict[str, Sender | Notifier]) -> list[str]:
        """Return where runs were sent to, and which trackers lack some."""
        lines, behind = list[str](), list[str]()
        for sender in self._senders or ():
            state = sender.state
            if not state.is_done or state.left:
                behind.append(sender.name)
            elif state.sent:
                lines.append(f"{sender.name}: {state.sent} runs sent to {state.place}")
        if behind:
            command = f"{own_name()} track {shlex.quote(str(self._study_dir))}"
            lines.append(
                f"{', '.join(behind)}: not every trial was sent. The next run sends the rest, and so does\n  {command}"
            )
        return [*lines, *(["warning: a notification was not delivered in time"] if "notify" in late else [])]


def _late(outlets: dict[str, Sender | Notifier], wait_s: float) -> dict[str, Sender | Notifier]:
    """Wait for outlets together and return those that are not done."""
    deadline = time.monotonic() + wait_s
    return {name: outlet for name, outlet in outlets.items() if not outlet.wait(max(0.0, deadline - time.monotonic()))}
