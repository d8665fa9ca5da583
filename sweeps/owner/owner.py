"""The owner of a study, the only process that writes to it.

The owner asks the sampler for trials ahead of need, leases members to workers, publishes results and tells them to
Optuna. The order of these steps lets a study resume after any crash: trials are entered in Optuna before they are
trained, and their rows are published before they are told.

A worker holds a slot, the place Ray Tune gave it. Each lease of a slot has a number. Late reports of an earlier lease
or of an earlier attempt are refused.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ..errors import StudyError
from ..machine import kind_of
from ..spec.study_spec import StudySpec
from ..states import FAIL
from ..storage import lock
from ..study.log import write_log
from ..study.trials import Trial
from .attempt import message_of, opened
from .budget import UsedTime, spent_reason
from .capacity import ClusterCapacity
from .inheritance import inherit
from .leasing import Leasing
from .messages import Answer, PackReport, PackTask
from .proposer import TrialProposer
from .pruning import RungPruner
from .queue import MemberQueue, PendingMember
from .recorder import Recorder
from .slots import SlotOffer, SlotTable, WorkerSlot
from .snapshot import BestTrial, StudySnapshot

WAIT: Final = -1  # returned instead of a slot: no work now, perhaps later
MOST_NEVER_BEGUN: Final = 3  # workers in a row that fail to start before the attempt ends


class StudyOwner:
    """Owner of one study for one attempt, from the lock to the last event.

    `spec` is the content of the study file, given where it may have changed since the last attempt. `driver_pid` is the
    process that the user started. `retry` are the numbers of failed trials to train again. The first `offered` slots
    have been handed out already. `is_alive` tells whether a node of the cluster still exists. Raises `StudyError` where
    the study is held by another owner, is damaged, is another study, or cannot be written to.
    """

    def __init__(
        self,
        study_dir: Path,
        capacity: ClusterCapacity,
        spec: StudySpec | None = None,
        *,
        driver_pid: int | None = None,
        retry: Sequence[int] = (),
        offered: int = 0,
        is_alive: Callable[[str], bool] = lambda node: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study_dir = Path(study_dir)
        self._broken: str | None = None  # why nothing more can be recorded
        self._closed = self._stopping = False
        self._never_begun = 0  # workers in a row that failed to start
        with opened(self._study_dir, spec, driver_pid or os.getpid()) as attempt:
            self._attempt, self._spec = attempt, attempt.spec
            self._trials, self._events = attempt.trials, attempt.events
            self._time = UsedTime(attempt.hours_before, attempt.ledger, clock)
            self._slots = SlotTable(capacity, self._spec.resources.max_packs, offered, clock)
            self._queue = MemberQueue()
            self._recorder = Recorder(attempt)
            self._notes = [note] if (note := inherit(attempt, self._recorder)) else []
            attempt.note_limit()
            self._proposer = TrialProposer(attempt, self._recorder, self._slots)
            self._pruner = RungPruner(attempt)
            self._leasing = Leasing(
                attempt, self._slots, self._queue, self._proposer, self._pruner, self._recorder, is_alive
            )
            self._proposer.finish_window()
            self._leasing.requeue_unfinished()
            for original in [self._failed_trial(number) for number in retry]:  # all are checked before one is entered
                self._queue.append(self._proposer.retry(original))
            self._events.flush()

    def _failed_trial(self, number: int) -> Trial:
        """Return the failed trial of a number. Raises `StudyError` where it does not exist or has not failed."""
        trial = self._trials[number] if 0 <= number < len(self._trials) else None
        if trial is None or trial.state != FAIL:
            state = f"is {trial.state}" if trial else "does not exist"
            raise StudyError(f"{self._study_dir}: trial {number} {state}; only failed trials can be trained again")
        return trial

    # ---- leasing members -------------------------------------------------------------------------------------------

    def offer(self) -> SlotOffer | int | None:
        """Return a slot for one more worker, `WAIT` if there may be work later, or None if there will be none."""
        if self._is_over or self._should_stop():
            return None
        if self._knows_size:
            self.ask_ahead()
        if self._is_over:
            return None
        slots, is_full = self._slots, self._slots.is_full
        if self._packs_ready > slots.vacant and not is_full and not self.over_budget():
            return slots.offer()
        return WAIT if slots.training or slots.vacant or is_full else None

    def surplus(self) -> tuple[int, ...]:
        """Withdraw slots that no worker has taken and that are not needed, and return them.

        A cluster must not grow for them.
        """
        return self._slots.withdraw(self._packs_ready)

    @property
    def _packs_ready(self) -> int:
        """Return the number of packs that could start now."""
        return self._queue.packs + (0 if self.over_budget() else self._proposer.packs_to_ask)

    @property
    def _knows_size(self) -> bool:
        """Return whether packs can be planned before a worker leases one: the first on a GPU measures their size."""
        is_set = self._spec.resources.pack != "auto" or self._proposer.measured_size is not None
        return is_set or kind_of(self._slots.capacity.device) == "cpu"

    def measured(self, size: int) -> None:
        """Take over the size of the largest pack that is worth it on a worker's GPU; of several, the smallest."""
        known = self._proposer.measured_size
        self._proposer.measured_size = size if known is None else min(known, size)

    def ask_ahead(self) -> None:
        """Enter new trials while fewer members wait than the workers may soon need."""
        with self._breaking():  # an error in Tune's loop would end the run without a message
            while len(self._queue) < self._proposer.ahead and self._proposer.may_ask and not self.over_budget():
                self._queue.append(self._proposer.ask())

    def lease(self, slot: int, node: str | None = None, device: str | None = None) -> PackTask:
        """Return a pack for the worker that holds a slot, on the device it found; without members where none is left.

        A slot that is leased while it is held has lost its worker.
        """
        self._slots.release(slot)
        self._never_begun = 0
        previous = self._slots.training.pop(slot, None)
        with self._breaking():
            if previous is not None and not self._is_over:
                self._leasing.worker_died(previous, "its process is gone")
            return self._new_lease(slot, node, device or self._slots.capacity.device)
        return self._leasing.empty_task(slot)

    def _new_lease(self, slot: int, node: str | None, device: str) -> PackTask:
        slots = self._slots
        # A worker that requested only a core, before the cluster had a GPU, makes room for one that requests both.
        is_open = slots.has_place(len(slots.training) + len(slots.idle)) and device == slots.capacity.device
        is_open = is_open and not (self._is_over or self._should_stop() or self.over_budget())
        task = None
        if is_open:
            self.ask_ahead()
            task = self._leasing.lease_pack(slot, node, device)
        if task is None:
            ask_again = is_open and bool(slots.training) and self._proposer.has_more
            if ask_again:
                slots.idle.add(slot)
            task = self._leasing.empty_task(slot, ask_again=ask_again)
        return task

    def preparing(self, slot: int, what: str) -> None:
        """Record what the worker of a slot prepares, for progress views."""
        self._slots.preparing[slot] = what

    def unfit(self, slot: int, reason: str) -> None:
        """Record that the machine of a worker cannot train this study; if no other can, the attempt is broken."""
        slots = self._slots
        slots.release(slot)
        if slot not in slots.unfit:
            self._events.add("worker unfit", reason)
        slots.unfit[slot] = reason
        if not slots.training and len(slots.unfit) >= slots.capacity.places:
            self._broken = self._broken or f"no machine of the cluster can train this study: {reason}"

    def has_work(self) -> bool:
        """Return whether there is, or may be, something to train."""
        may_go_on = self._proposer.has_more and not self.over_budget()
        return not (self._is_over or self._should_stop()) and bool(
            len(self._queue) or self._slots.training or may_go_on
        )

    def is_idle(self) -> bool:
        """Return whether no worker trains anything that will be recorded, and none will."""
        return self._is_over or not (self._slots.training or self.has_work())

    # ---- taking reports --------------------------------------------------------------------------------------------

    def report(self, report: PackReport) -> Answer:
        """Publish and tell the results of a report, and return what the worker does next.

        A report that is not `taken` changes nothing: late reports of older attempts and leases are refused, and all
        reports once the disk or the database of the study has failed. The next attempt repairs half-finished writes.
        """
        slot, newest = self._slots.training.get(report.slot), (report.attempt, report.lease)
        if self._is_over or slot is None or newest != (self._attempt.number, slot.task.lease):
            return Answer(taken=False)
        with self._breaking():
            return self._process(report, slot)
        return Answer(taken=False)

    def _process(self, report: PackReport, slot: WorkerSlot) -> Answer:
        slots, events = self._slots, self._events
        for note in report.notes:
            events.add("reconciled", note, pack=report.pack)
        self._recorder.record(report.records)
        self._leasing.note_ended(report, slot)
        slot.progress = report.progress
        if report.crashed is not None:
            write_log(self._study_dir, f"worker of pack {report.pack}", report.detail)
            slots.training.pop(report.slot)
            self._leasing.isolate(slot, report.crashed, counts=False, detail=report.detail)
            return Answer(taken=True, leave=True)
        if report.given_back:
            self._leasing.take_back(report, slot)
        for trial in self._pruner.judge(report.rungs):
            self._leasing.prune(trial)
        stop = tuple(label for label, member in slot.members.items() if member.trial in self._pruner.hopeless)
        has_place = slots.has_place(len(slots.training) - 1)
        if self._should_stop() or not has_place or slot.task.device != slots.capacity.device:
            slots.training.pop(report.slot)
            self._leasing.leave(slot)
            return Answer(taken=True, leave=True)
        added = self._refill(report, slot, len(stop))
        if not slot.members:
            slots.training.pop(report.slot)
            self._leasing.remove_checkpoints(slot)
        events.flush()
        add = self._leasing.member_tasks(added, rebatched=slot.is_padded)
        return Answer(taken=True, stop=stop, add=add, rungs=self._pruner.rungs(added))

    def _refill(self, report: PackReport, slot: WorkerSlot, stopping: int) -> list[PendingMember]:
        """Return members for the free places of a pack, none while less than half of it is free."""
        places = slot.task.size - report.left + stopping
        if slot.key is None or 2 * places < slot.task.size or self.over_budget():
            return []
        self.ask_ahead()
        return self._leasing.refill(report, slot, places)

    def lost(self, slot: int, reason: str) -> None:
        """Record that Ray Tune has given up a slot. Raises nothing."""
        never_leased = self._slots.release(slot)
        self._slots.unfit.pop(slot, None)
        worker = self._slots.training.pop(slot, None)
        with self._breaking():
            if worker is not None and not self._is_over:
                self._leasing.worker_died(worker, reason)
            elif never_leased:
                self._never_begun += 1
        if self._never_begun >= MOST_NEVER_BEGUN:
            self._broken = self._broken or f"workers do not start: {reason}"

    def failed(self, slot: int, detail: str) -> None:
        """Log an unexpected exception of a worker outside of training; Ray Tune restarts the worker."""
        write_log(self._study_dir, f"worker in slot {slot}", detail)

    def cannot_write(self, reason: str) -> None:
        """Record that a worker could not write its checkpoint, which ends the attempt."""
        self._broken = self._broken or reason

    # ---- what the driver says --------------------------------------------------------------------------------------

    def share(self, slots: int | None, requests: int | None = None) -> None:
        """Set how many workers the study may have beside other studies, None for as many as there is room for.

        `requests` is the same number for a cluster that has grown as far as it can.
        """
        self._slots.most_workers = slots
        self._slots.most_requests = requests if requests is not None else slots

    def set_capacity(self, capacity: ClusterCapacity) -> None:
        """Set the capacity of the cluster from now on."""
        self._slots.capacity = capacity

    def stop(self) -> None:
        """Make every worker finish its stretch, write a checkpoint and leave."""
        self._stopping = True
        with contextlib.suppress(OSError):  # without the file, workers learn it from the answer to their next report
            lock.stop_file(self._study_dir).touch()

    def close(self) -> dict[str, int]:
        """End the attempt and return the number of trials by state. Nothing is written afterwards. Raises nothing."""
        if not self._is_over:
            with self._breaking():
                self._attempt.end(self._time.hours, is_stopped=self._stopping)
        self._closed = True
        self._attempt.close()
        return dict(self._trials.counts)

    # ---- the state of the study ------------------------------------------------------------------------------------

    def over_budget(self) -> str | None:
        """Return why no new trial starts, None while the budget lasts."""
        return spent_reason(self._spec.budget, self._trials, self._time.hours, is_percent=self._spec.is_in_percent)

    def snapshot(self, since: int = 0) -> StudySnapshot:
        """Return the state of the study; `finished` lacks the first `since` trials that finished in this attempt."""
        if not self._is_over:
            with self._breaking():
                self._time.note()
        recorder, trials, slots, best = self._recorder, self._trials, self._slots, self._trials.best
        packs = {slot.task.pack: slot.progress for slot in slots.training.values() if slot.progress is not None}
        in_training = {member.trial for slot in slots.training.values() for member in slot.members.values()}
        under_way = sum(pack.under_way for pack in packs.values()) + sum(len(trials[n].done) for n in in_training)
        hours, new = self._spec.budget.hours, recorder.finished_count - since
        return StudySnapshot(
            study=self._spec.study,
            objective=self._spec.objectives[0],
            is_percent=self._spec.is_in_percent,
            limit=self._attempt.limit + len(trials.retried),
            counts=dict(trials.counts),
            failures=trials.failures,
            best=BestTrial(best.number, best.value, best.params) if best else None,
            packs=packs,
            places=slots.capacity.places,
            requested=slots.requested,
            preparing=list(dict.fromkeys(slots.preparing.values())),
            unfit=list(dict.fromkeys(slots.unfit.values())),
            cores_per_pack=self._spec.resources.cpus_per_pack,
            under_way=under_way / trials.replicates,
            budget_left_s=None if hours is None else max(3600 * (hours - self._time.hours), 0.0),
            over_budget=self.over_budget(),
            finished=list(recorder.finished)[-new:] if new else [],
            finished_count=recorder.finished_count,
            notes=self._notes,
            is_stopped=self._stopping,
            broken=self._broken,
        )

    @property
    def _is_over(self) -> bool:
        """Return whether nothing more may be recorded."""
        return self._closed or self._broken is not None

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """Let an error break the attempt instead of being raised."""
        try:
            yield
        except Exception as problem:
            self._broken = message_of(problem, self._study_dir)

    def _should_stop(self) -> bool:
        if not self._stopping and lock.stop_file(self._study_dir).exists():
            self._stopping = True
        return self._stopping
