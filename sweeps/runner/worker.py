"""A worker in its slot: it trains one pack after the other and reports, until the owner has none left."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..storage.object_store import StoreError
from ..study.log import LOG_FILE
from .pack_run import PackRun

if TYPE_CHECKING:
    from ..owner.owner import StudyOwner

IDLE_S = 0.2  # between two requests for members while there are none yet


class SlotWorker:
    """Worker that trains what the owner, in this process or another, hands to a slot."""

    def __init__(
        self,
        owner: StudyOwner,
        study_dir: Path,
        slot: int,
        node: str | None = None,
        device: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner, self._study_dir, self._slot, self._clock = owner, study_dir, slot, clock
        self._node, self._device = node, device
        self._run: PackRun | None = None
        self._is_idle = False
        self._take_pack()

    @property
    def done(self) -> bool:
        """Return whether there is nothing left for this slot."""
        return self._run is None and not self._is_idle

    def segment(self, seconds: float) -> None:
        """Train for about `seconds`, then write a checkpoint."""
        until = self._clock() + seconds
        while True:
            if self._run is not None:
                self._stretch(self._run, until)
            elif self._is_idle:
                time.sleep(IDLE_S)
                self._take_pack()
            else:
                return
            if self._clock() >= until:
                break
        if self._run is not None:
            self._checkpoint(self._run)

    def _take_pack(self) -> None:
        """Lease the next pack of this slot, if there is one."""
        task = self._owner.lease(self._slot, self._node, self._device)
        self._run = PackRun(task, self._study_dir, clock=self._clock) if task.members else None
        self._is_idle = task.ask_again

    def _stretch(self, run: PackRun, until: float) -> None:
        """Train until the clock says `until` or sooner, report, and do what the owner answers."""
        try:
            report = run.train(until)
        except StoreError as problem:  # the checkpoints cannot be read, which is not the members' fault
            self._give_up(str(problem))
            return
        except Exception as problem:  # a bug would come again: the owner finds the member that triggers it
            report = run.crash_report(
                f"unexpected {type(problem).__name__}: {problem} (its traceback is in {LOG_FILE} of the study)",
                traceback.format_exc(),
            )
        answer = self._owner.report(report)
        if not answer.taken:
            self._run = None  # the report was refused: its members resume from the last checkpoint
        elif report.crashed is not None:
            self._take_pack()
        else:
            run.follow(answer)
            if answer.leave:
                self._checkpoint(run)
                self._run = None
            elif not run.left and not run.has_results:
                self._take_pack()

    def _checkpoint(self, run: PackRun) -> None:
        """Write a checkpoint; a disk or store that cannot be written to ends the attempt, not the study."""
        try:
            run.checkpoint()
        except StoreError as problem:
            self._give_up(str(problem))
        except OSError as problem:
            self._give_up(f"{problem.strerror or problem}{f': {problem.filename}' if problem.filename else ''}")

    def _give_up(self, reason: str) -> None:
        self._owner.cannot_write(reason)
        self._run = None
