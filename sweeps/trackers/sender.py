"""A process of its own that sends a study to one tracker, as the one who starts it sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from .child import Order
from .sent import FOLDER

KILL_S: Final = 5.0  # for a killed process to be gone


@dataclass(frozen=True)
class SenderState:
    """How far a sender is: runs sent now and before, runs that are left, the last trouble, whether it is done."""

    sent: int = 0
    before: int = 0
    left: int = 0
    place: str = ""
    trouble: str = ""
    is_done: bool = False


class Sender:
    """The process; what the library prints is in `log`. Nothing here waits for it but `wait`.

    `heard` is called from another thread with every new state.
    """

    def __init__(self, order: Order, heard: Callable[[SenderState], None] = lambda state: None) -> None:
        self.name, self.state, self._heard = order.name, SenderState(), heard
        self._is_killed = False
        folder = Path(order.study_dir) / FOLDER
        folder.mkdir(exist_ok=True)
        self.log = folder / f"{order.name}.log"
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for the run, which says when this process ends
            )
        self._tell(f"{order.to_json()}\n")
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Let the process send for the last time and end."""
        self._tell("", last=True)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether the process ended within a time; None waits for ever."""
        self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def kill(self) -> None:
        """End the process at once."""
        if self._process.poll() is None:
            self._is_killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, and is left there
                self._process.wait(KILL_S)
        self._reader.join(KILL_S)

    def _tell(self, text: str, *, last: bool = False) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended; `_read` says so
            if last:
                self._process.stdin.close()
            else:
                self._process.stdin.write(text)
                self._process.stdin.flush()

    def _read(self, answers: IO[str]) -> None:
        for line in answers:
            self._hear({**vars(self.state), **_answer(line)})
        code = self._process.wait()
        if not (self.state.is_done or self.state.trouble or self._is_killed):
            self._hear({**vars(self.state), "trouble": f"its process ended with exit code {code}; see {self.log}"})

    def _hear(self, state: dict[str, Any]) -> None:
        self.state = SenderState(**state)
        self._heard(self.state)


def _answer(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:  # the rest of a line of a killed process
        return {}
