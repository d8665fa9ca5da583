"""Back-end `inline`: commands in the foreground, as children of this process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from ..folder import FolderExecutor, utc_now
from ..supervisor import LOG, Supervisor

INLINE: Final = "inline"  # the built-in profile of this machine's foreground


class InlineExecutor(FolderExecutor):
    """An executor whose `submit` returns when the job has ended.

    The command writes to the streams of this process, or with `capture` to its log. SIGINT is passed on, so that Ctrl-C
    stops the command as if it ran alone; SIGTERM and SIGHUP stop it as `cancel` does.
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
