"""Back-end `inline`: the command in the foreground, as a child of this process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from ..folder import FolderExecutor, utc_now
from ..supervisor import LOG, Supervisor

INLINE: Final = "inline"  # the profile that is always there: this machine, here and now


class InlineExecutor(FolderExecutor):
    """Runs each job to its end before `submit` returns.

    The command writes to this process's streams, or with `capture` to its log. SIGINT is passed on to it, so that
    Ctrl-C stops the command as it would without us; SIGTERM and SIGHUP stop it as `cancel` does.
    """

    def __init__(self, jobs_dir: Path, *, capture: bool = False, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(jobs_dir, now=now)
        self._capture = capture

    def _run(self, folder: Path) -> None:
        if self._capture:
            with (folder / LOG).open("wb") as log:
                Supervisor(folder, log).run()
        else:
            Supervisor(folder, None).run()
