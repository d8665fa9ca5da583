"""A study's owner, the only process that writes to the study.

The owner asks the sampler ahead of need, hands members out to workers, publishes results and tells them to Optuna, in
an order from which a start after any crash can go on: trials enter Optuna whole before they are trained, and their rows
are published before they are told.

A worker holds a slot: the place Ray Tune gave it. Each lease of a slot has a number; what an earlier holder of the
slot, or a worker of an earlier attempt, writes late is refused.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import StudyError
from ..search import Search
from ..spec.study_spec import StudySpec
from ..states import COMPLETE, PRUNED, RUNNING, WAITING
from ..storage import compaction, lock
from ..storage.events import EventLog
from ..storage.tables import StudyTables
from ..study import folder, home, other_studies, recovery
from ..study.checkpoints import checkpoints_of
from ..study.log import log_exception, write_log
from ..study.study_file import LIMIT
from ..study.trials import DEATHS, Trial
from .budget import Spent, spent_reason
from .capacity import ClusterCapacity
from .messages import Answer, MemberTask, PackReport, PackTask
from .proposer import TrialProposer
from .pruning import RungPruner
from .queue import MemberQueue, PendingMember, PendingPack
from .recorder import Recorder

WAIT: Final = -1  # instead of a slot: nothing to hand out now, perhaps later
MOST_DEATHS: Final = 2  # of its worker, after which a member is not tried again
SURPLUS_S: Final = 5.0  # that slots nobody needs stay on offer
MOST_NEVER_BEGUN: Final = 3  # workers that may fail to start
HOURS_EVERY_S: Final = 30.0  # between two notes of the time a study has used
MOST_IN_STOCK: Final = 64  # members handed to a worker beyond its places
STOCK_S: Final = 1.0  # of training that a stock should last


@dataclass(slots=True)
class WorkerSlot:
    """What a worker holds: its task, the pack as it was planned, and those of its members that are not finished.

    `packs` are those whose checkpoints its members may come from; `is_padded` says that last digits depend on the
    company on the worker's device.
    """

    task: PackTask
    group: PendingPack
    seats: dict[int, PendingMember]
    node: str | None
    packs: set[int]
    is_padded: bool
    progress: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keeps_composition(self) -> bool:
        """Whether its members must stay together as they are."""
        return self.is_padded and self.group.is_planned

    @property
    def key(self) -> tuple[str, ...] | None:
        """What members must share to join it, None where none may."""
        return None if self.keeps_composition or self.group.alone else self.group.key


@dataclass(frozen=True)
class SlotOffer:
    """A slot for one more worker, and the device it shall ask Ray for."""

    slot: int
    device: str


class StudyOwner:
    """Owns one study for one attempt, from the lock to the last event.

    `spec` is what the study file asks for, if that may have changed since the last attempt; `driver_pid` is the process
    the user started; `retry` names failed trials to train once more; the first `offered` slots have been handed out
    already. `is_alive` says whether a node of the cluster still is there. Raises `StudyError` where the study is held,
    damaged or another one, or cannot be written to.
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
        self.study_dir, self._capacity, self._clock = Path(study_dir), capacity, clock
        self._is_alive = is_alive
        driver_pid = driver_pid or os.getpid()
        try:
            with contextlib.ExitStack() as undo:
                shared = folder.database_of(self.study_dir, spec).is_shared  # then the database refuses a second owner
                self._lock = lock.StudyLock(self.study_dir, driver_pid=driver_pid, must_hold=not shared)
                undo.callback(self._lock.release)
                self.spec, self._ledger, notes = folder.open_study(self.study_dir, spec)
                undo.callback(self._ledger.close)
                self._begin(driver_pid, notes, retry, offered)
                undo.pop_all()
        except OSError as problem:
            raise StudyError(
                f"{self.study_dir} cannot be used ({self._in_words(problem)}). Mend that, and run the study again: it "
                "goes on where it was"
            ) from None

    def _begin(self, driver_pid: int, notes: Sequence[str], retry: Sequence[int], offered: int) -> None:
        """Everything that wants the lock held."""
        lock.stop_file(self.study_dir).unlink(missing_ok=True)
        self._remote = remote = home.remote_of(self.study_dir)
        self._tables = StudyTables(self.study_dir, publish_in=remote)
        self._checkpoints = checkpoints_of(self.study_dir)
        compaction.recover(self.study_dir)
        if remote is not None:
            home.reconcile(self.study_dir, remote, self._tables, self._lock.word)
        known = self._ledger.attributes()
        self.attempt = 1 + max(int(known.get("attempts", 0)), self._tables.newest_attempt())
        self._ledger.set_attribute("attempts", self.attempt)
        folder.record_version(self._ledger, self.attempt)
        self._events = EventLog(self._tables, self.attempt)
        self._events.add("started" if self.attempt == 1 else "resumed", f"process {driver_pid}")
        for note in notes:
            self._events.add("reconciled", note)
        self._weights = other_studies.settle_weights(self.study_dir, self.spec, self._ledger)
        if remote is not None:
            home.push_weights(self.study_dir, remote)
        self._started, self._hours_before = self._clock(), float(known.get("hours", 0.0))
        self._hours_noted = self._started
        self._closed, self._broken, self._leaving = False, None, False  # type: bool, str | None, bool
        self._slots: dict[int, WorkerSlot] = {}
        self._sizes: dict[tuple[str, ...], int] = {}  # where memory ran out: members that fit
        self._origins: dict[int, int] = {}  # the pack whose checkpoint holds a member
        # slots that no worker has taken yet, and their device
        self._offered = dict.fromkeys(range(1, offered + 1), self._capacity.device)
        self._surplus_since: float | None = None  # when there began to be more of them than packs
        self._idle: set[int] = set()  # slots whose worker asks again soon
        self._preparing: dict[int, str] = {}  # what the worker of a slot makes ready before it asks for members
        self._unfit: dict[int, str] = {}  # slots whose machine cannot train this study, and why
        self._next_slot, self._next_lease, self._never_begun = offered, 0, 0
        self._share: int | None = None
        self._most_requests: int | None = None  # workers to ask for while other studies want some too
        self._waiting = MemberQueue()
        self._reconcile(known)
        self._pruner = RungPruner(self.spec, self._book, self._ledger, self._events)
        self._proposer.finish_window()
        self._waiting.append(self._unfinished())
        for failed in [self._failed(number) for number in retry]:
            self._waiting.append(self._proposer.ask_again(failed))
        self._events.flush()

    def _reconcile(self, known: Mapping[str, Any]) -> None:
        """Bring folder and database together after a crash."""
        spec, tables = self.spec, self._tables
        self._book = recovery.read_book(self.study_dir, spec, self._ledger.records())
        rows = recovery.published_rows(self.study_dir, spec, tables, self._book)
        recovery.note_rows(rows, spec.objectives, self._book)
        recovery.tell_published(rows, self._ledger, self._book, self._events)
        recovery.remove_orphans(tables, self._events)
        recovery.release_leases(self._ledger, self._book)
        warm = other_studies.warm_start(spec, self._ledger)
        self._search = Search(spec, recovery.told(self._book), warm)
        if known.get(LIMIT) != self._search.limit:
            self._ledger.set_attribute(LIMIT, self._search.limit)  # for those who ask how the study stands
        self._recorder = Recorder(
            spec,
            self.attempt,
            tables,
            self._ledger,
            self._book,
            self._search,
            self._events,
            guard=self._check_ours,
            rows=rows,
        )
        reusable, gone = other_studies.reusable(spec)
        for other in gone:
            self._events.add("reconciled", f"{other} is no study any more: what it completed is trained here")
        self._proposer = TrialProposer(
            spec,
            self._capacity,
            self._ledger,
            self._book,
            self._search,
            self._events,
            self._recorder,
            reusable,
        )
        self._proposer.next_pack = 1 + recovery.highest_pack(self._checkpoints.packs(), self._book)
        for original in [trial for trial in self._book if trial.finished and trial.number in self._book.copies]:
            self._recorder.copy_of(original)
        for trial in [trial for trial in self._book if trial.taken_from is not None and not trial.finished]:
            self._recorder.take_over(trial)

    def _check_ours(self) -> None:
        self._lock.check()
        if self._remote is not None:
            home.check_owner(self._remote, self._lock.word)

    def _unfinished(self) -> list[PendingPack]:
        """Members left of earlier starts: those with a checkpoint first, then pack by pack."""
        saved = self._checkpoints.saved_members()
        packs: dict[int, list[PendingMember]] = {}
        for trial in self._book:
            if not trial.finished and trial.duplicate_of is None and self._is_wanted(trial):
                seats = [replace(seat, origin=saved.get(seat.label)) for seat in self._proposer.seats(trial)]
                packs.setdefault(trial.pack, []).extend(seats)
        groups: dict[tuple[bool, int, int], PendingPack] = {}
        for pack, seats in packs.items():
            if self._can_be_rebuilt(pack, seats):
                groups[seats[0].origin is None, pack, -1] = self._rebuilt(pack)
                continue
            for seat in seats:
                alone = seat.replicate in self._book[seat.trial].deaths
                from_pack = pack if seat.origin is None else seat.origin
                place = (seat.origin is None, from_pack, seat.label if alone else -1)
                if place not in groups:
                    groups[place] = PendingPack(self._proposer.new_packs(1), alone=alone)
                groups[place].seats.append(seat)
        left = [seat for seats in packs.values() for seat in seats]
        self._origins = {seat.label: seat.origin for seat in left if seat.origin is not None}
        self._checkpoints.remove(set(self._checkpoints.packs()) - set(self._origins.values()))
        return [groups[place] for place in sorted(groups)]

    def _can_be_rebuilt(self, pack: int, seats: Sequence[PendingMember]) -> bool:
        """Whether the unfinished members of a pack must train in it as it was planned, and still can."""
        if not seats or not self._is_padded(seats[0], self._capacity.device):
            return False
        if any(seat.replicate in self._book[seat.trial].deaths for seat in seats):
            return False
        return {seat.origin for seat in seats} in ({None}, {pack})

    def _rebuilt(self, pack: int) -> PendingPack:
        """A pack as it was planned, with the members that are finished: they may not be so in its checkpoint."""
        trials = [trial for trial in self._book if trial.pack == pack and trial.duplicate_of is None]
        seats = [seat for trial in trials for seat in self._proposer.seats(trial, finished=True)]
        return PendingPack(pack, [replace(seat, origin=pack) for seat in seats], is_planned=True)

    def _is_padded(self, seat: PendingMember, device: str) -> bool:
        return self._proposer.is_padded(self.spec.config(self._book[seat.trial].params), device)

    def _is_wanted(self, trial: Trial) -> bool:
        """Whether a trial lies within the number of trials asked for, which may have been lowered."""
        return trial.index is None or trial.index < self._search.limit

    def _failed(self, number: int) -> Trial:
        trial = self._book[number] if 0 <= number < len(self._book) else None
        if trial is None or trial.state != "FAIL":
            state = f"is {trial.state}" if trial else "does not exist"
            raise StudyError(f"{self.study_dir}: trial {number} {state}; only failed trials are trained again")
        return trial

    # ---- handing out work -----------------------------------------------------------------------------------------

    def next_slot(self) -> int | None:
        """A slot for one more worker, WAIT where there may be work later, or None where there will be none."""
        if self._is_over or self._is_leaving():
            return None
        self.ask_ahead()
        if self._is_over:
            return None
        vacant = len(self._offered) + len(self._idle)
        is_full = self._requested >= self._may_request
        if self._packs_wanted > vacant and not is_full and not self.over_budget():
            self._next_slot += 1
            self._offered[self._next_slot] = self._capacity.device
            return self._next_slot
        return WAIT if self._slots or vacant or is_full else None

    def offer(self) -> SlotOffer | int | None:
        """The same, with the device."""
        slot = self.next_slot()
        return slot if slot is None or slot == WAIT else SlotOffer(slot, self._offered[slot])

    def surplus(self) -> tuple[int, ...]:
        """Take back slots that no worker has taken and nobody needs any more: a cluster must not grow for them.

        What is needed changes quickly, a worker starts slowly: so not before they have been too many for a while.
        """
        needed = min(self._packs_wanted - len(self._idle), self._may_request - (self._requested - len(self._offered)))
        left = [slot for slot, device in self._offered.items() if device == self._capacity.device]
        others = [slot for slot in self._offered if slot not in left]
        surplus = left[max(0, needed) :]
        if not surplus:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = self._clock()
        is_lasting = self._surplus_since is not None and self._clock() - self._surplus_since >= SURPLUS_S
        taken = [*others, *(surplus if is_lasting else ())]
        for slot in taken:
            del self._offered[slot]
        return tuple(taken)

    @property
    def _requested(self) -> int:
        """Workers that are there or asked for."""
        return len(self._slots) + len(self._offered) + len(self._idle) + len(self._unfit)

    @property
    def _may_request(self) -> int:
        """Workers that may be there or asked for.

        On a cluster that does not grow they are no more than its places: a slot beyond would start a process when
        another one ends, and by then want nothing.
        """
        most = self._capacity.requests(self.spec.resources.max_packs)
        return most if self._most_requests is None else min(most, max(1, self._most_requests))

    @property
    def _packs_wanted(self) -> int:
        """Packs that could start now."""
        return self._waiting.groups + (0 if self.over_budget() else self._proposer.packs_to_ask)

    def ask_ahead(self) -> None:
        """Ask for trials while fewer wait than the workers may soon want."""
        try:
            while len(self._waiting) < self._proposer.ahead and self._proposer.may_ask and not self.over_budget():
                self._waiting.append(self._proposer.ask())
        except Exception as problem:  # an error in Tune's loop would end the run without a word
            self._broken = self._in_words(problem)

    def lease(self, slot: int, node: str | None = None, device: str | None = None) -> PackTask:
        """Hand members to the worker that holds a slot, on the device it found; without any nothing is left for it.

        A slot that is leased while it is held has lost its worker.
        """
        self._vacate(slot)
        self._never_begun = 0
        held = self._slots.pop(slot, None)
        try:
            if held is not None and not self._is_over:
                self._worker_died(held, "its process is gone")
            return self._new_lease(slot, node, device or self._capacity.device)
        except Exception as problem:
            self._broken = self._in_words(problem)
            return self._nothing(slot)

    def _vacate(self, slot: int) -> None:
        """A slot is no longer one that waits for members."""
        self._offered.pop(slot, None)
        self._preparing.pop(slot, None)
        self._idle.discard(slot)

    def _new_lease(self, slot: int, node: str | None, device: str) -> PackTask:
        has_place = self._share is None or len(self._slots) + len(self._idle) < self._share
        # A worker that asked for a core alone, before the cluster had a GPU, makes room for one that asks for both.
        is_open = has_place and device == self._capacity.device
        is_open = is_open and not (self._is_over or self._is_leaving() or self.over_budget())
        if is_open:
            self.ask_ahead()
        group = self._waiting.take_group() if is_open else None
        if group is None:
            ask_again = is_open and bool(self._slots) and self._proposer.has_more
            if ask_again:
                self._idle.add(slot)
            return replace(self._nothing(slot), ask_again=ask_again)
        is_padded = self._is_padded(group.seats[0], device)
        unfinished = [seat for seat in group.seats if seat.replicate not in self._book[seat.trial].done]
        if is_padded and group.is_planned:
            size = len(group.seats)
        else:
            size = min(self._proposer.size, self._sizes.get(group.key, self._proposer.size))
            if not group.alone:
                unfinished += self._waiting.take(group.key, size - len(unfinished), spare_planned=is_padded)
            group.seats = unfinished
        task = self._task(slot, group, size, device, is_padded=is_padded)
        packs = {group.pack} | {seat.origin for seat in unfinished if seat.origin is not None}
        seats = {seat.label: seat for seat in unfinished}
        self._slots[slot] = WorkerSlot(task, group, seats, node, packs, is_padded)
        self._lease_out(unfinished, group.pack)
        return task

    def _nothing(self, slot: int) -> PackTask:
        return self._task(slot, PendingPack(-1), 0, self._capacity.device, is_padded=False)

    def _task(self, slot: int, group: PendingPack, size: int, device: str, *, is_padded: bool) -> PackTask:
        self._next_lease += 1
        resources, results, search = self.spec.resources, self.spec.results, self.spec.search
        return PackTask(
            slot,
            self._next_lease,
            self.attempt,
            group.pack,
            tuple(self._member(seat, rebatched=is_padded and not group.is_planned) for seat in group.seats),
            size,
            device,
            resources.cpus_per_pack,
            self.spec.objectives,
            self.spec.sha256(),
            keep_composition=is_padded and group.is_planned,
            rungs=self._pruner.rungs(group.seats),
            patience=search.pruner if search.pruner.kind == "patience" else None,
            metric=self._pruner.metrics[0],
            keep_fields=results.fields == "all",
            keep_weights=results.weights == "all",
        )

    def _member(self, seat: PendingMember, *, rebatched: bool) -> MemberTask:
        trial = self._book[seat.trial]
        config = self.spec.config(trial.params)
        return MemberTask(
            seat.label,
            seat.trial,
            seat.replicate,
            self._proposer.seed_of(trial, seat.replicate),
            config,
            seat.origin,
            self._weights.get(config["train"]["init"]),
            trial.retry_of,
            rebatched=rebatched,
        )

    def _lease_out(self, seats: Sequence[PendingMember], pack: int) -> None:
        """Trials with a member in training are RUNNING."""
        with self._ledger.transaction():
            for trial in {seat.trial: self._book[seat.trial] for seat in seats}.values():
                if trial.state == WAITING:
                    self._ledger.mark(trial.number, RUNNING)
                    self._book.mark(trial, RUNNING)
        for seat in seats:
            self._events.add("leased", f"replicate {seat.replicate}", trial=seat.trial, pack=pack)

    def unfit(self, slot: int, reason: str) -> None:
        """A worker's machine cannot train this study; where no other can, nothing more can be done."""
        self._vacate(slot)
        if slot not in self._unfit:
            self._events.add("worker unfit", reason)
        self._unfit[slot] = reason
        if not self._slots and len(self._unfit) >= self._capacity.places:
            self._broken = self._broken or f"no machine of the cluster can train this study: {reason}"

    def has_work(self) -> bool:
        """Whether there is, or may be, something to train."""
        return not (self._is_over or self._is_leaving()) and bool(len(self._waiting) or self._slots or self.may_go_on)

    def is_idle(self) -> bool:
        """Whether no worker trains anything that counts, and none will."""
        return self._is_over or not (self._slots or self.has_work())

    @property
    def may_go_on(self) -> bool:
        """Whether there are trials to ask for, and a budget for them."""
        return self._proposer.has_more and not self.over_budget()

    # ---- taking in work -------------------------------------------------------------------------------------------

    def report(self, report: PackReport) -> Answer:
        """Take a report: publish what finished, then tell it; say what the worker does next.

        What is not `taken` changes nothing: late reports of older attempts and leases are refused, and so is everything
        once the study's disk or database has failed. What is then half done, the next start brings in order.
        """
        slot = self._slots.get(report.slot)
        if self._is_over or slot is None or (report.attempt, report.lease) != (self.attempt, slot.task.lease):
            return Answer(taken=False)
        try:
            return self._take(report, slot)
        except Exception as problem:
            self._broken = self._in_words(problem)
            return Answer(taken=False)

    @property
    def _is_over(self) -> bool:
        """Whether nothing more may be recorded."""
        return self._closed or self._broken is not None

    def _take(self, report: PackReport, slot: WorkerSlot) -> Answer:
        for note in report.notes:
            self._events.add("reconciled", note, pack=report.pack)
        self._recorder.record(report.trials, report.curves, report.fields, report.weights)
        for row in report.trials:
            label = row["trial"] * self._book.replicates + row["replicate"]
            slot.seats.pop(label, None)
            self._origins.pop(label, None)
        if report.saved:
            self._origins |= dict.fromkeys(slot.seats, report.pack)
        self._remove_checkpoints(slot)
        slot.progress = report.progress
        if report.crashed is not None:
            write_log(self.study_dir, f"worker of pack {report.pack}", report.detail)
            self._slots.pop(report.slot)
            self._put_apart(slot, report.crashed, counts=False, detail=report.detail)
            return Answer(taken=True, leave=True)
        self._take_back(report, slot)
        for trial in self._pruner.judge(report.rungs):
            self._end_waiting(trial)
        stop = tuple(label for label, seat in slot.seats.items() if seat.trial in self._pruner.hopeless)
        has_place = self._share is None or len(self._slots) <= self._share
        if self._is_leaving() or not has_place or slot.task.device != self._capacity.device:
            self._slots.pop(report.slot)
            self._leave(slot, report.pack)
            return Answer(taken=True, leave=True)
        more = self._more_for(report, slot, len(stop))
        if not slot.seats:
            self._slots.pop(report.slot)
            self._remove_checkpoints(slot)
        self._events.flush()
        return Answer(
            taken=True,
            stop=stop,
            add=tuple(self._member(seat, rebatched=slot.is_padded) for seat in more),
            rungs=self._pruner.rungs(more),
        )

    def _more_for(self, report: PackReport, slot: WorkerSlot, stopping: int) -> list[PendingMember]:
        """Members for the free places of a pack, and as many beyond as it trains in a second."""
        places = slot.task.size - report.left + stopping
        if slot.key is None or 2 * places < slot.task.size or self.over_budget():
            return []
        self.ask_ahead()
        rate = len(report.trials) / max(report.seconds, 1e-3)
        left = len(self._waiting) + (self._search.limit - self._book.asked) * self._book.replicates
        workers = max(1, self._capacity.places)
        spare = max(0, left - self._proposer.size * workers) // workers  # what the others' places do not need
        number = places + min(int(rate * STOCK_S), MOST_IN_STOCK, spare)
        more = self._waiting.take(slot.key, number, spare_planned=slot.is_padded)
        slot.seats |= {seat.label: seat for seat in more}
        slot.packs |= {seat.origin for seat in more if seat.origin is not None}
        self._lease_out(more, report.pack)
        return more

    def _end_waiting(self, trial: Trial) -> None:
        """Members of a hopeless trial that wait are not trained."""
        for seat in self._waiting.drop(trial.number):
            self._origins.pop(seat.label, None)
            self._recorder.end_untrained(trial, PRUNED, "", self.spec.config(trial.params), [seat.replicate])

    def _take_back(self, report: PackReport, slot: WorkerSlot) -> None:
        """Members that found no room in memory wait again, and packs of their shape are smaller from now on."""
        if not report.given_back:
            return
        seats = [slot.seats.pop(label) for label in report.given_back if label in slot.seats]
        self._sizes[slot.group.key] = report.size
        slot.task = replace(slot.task, size=report.size)
        slot.group.is_planned = False
        self._events.add("out of memory", f"{len(seats)} members put back, packs of {report.size}", pack=report.pack)
        self._put_back(seats)

    def _put_back(self, seats: Sequence[PendingMember], *, alone: bool = False) -> None:
        """Let members wait again, first in line, with the checkpoint they have."""
        groups: dict[Any, PendingPack] = {}
        saved = self._checkpoints.saved_members()
        self._origins |= {seat.label: saved[seat.label] for seat in seats if seat.label in saved}
        for seat in seats:
            seat = replace(seat, origin=self._origins.get(seat.label))
            place = seat.label if alone else seat.key
            if place not in groups:
                groups[place] = PendingPack(self._proposer.new_packs(1), alone=alone)
            groups[place].seats.append(seat)
        self._waiting.put_first(list(groups.values()))

    def _leave(self, slot: WorkerSlot, pack: int) -> None:
        """The worker writes a checkpoint and goes; its members wait as the pack they are."""
        self._origins |= dict.fromkeys(slot.seats, pack)
        group = slot.group
        if not slot.keeps_composition:
            group = PendingPack(pack, [replace(seat, origin=pack) for seat in slot.seats.values()], alone=group.alone)
        if slot.seats:
            self._waiting.put_first([group])
        self._events.flush()

    def lost(self, slot: int, reason: str) -> None:
        """Tune has given a slot up; raises nothing."""
        never_leased = slot in self._offered
        self._vacate(slot)
        self._unfit.pop(slot, None)
        held = self._slots.pop(slot, None)
        try:
            if held is not None and not self._is_over:
                self._worker_died(held, reason)
            elif never_leased:
                self._never_begun += 1
        except Exception as problem:
            self._broken = self._in_words(problem)
        if self._never_begun >= MOST_NEVER_BEGUN:
            self._broken = self._broken or f"workers do not start: {reason}"

    def _worker_died(self, slot: WorkerSlot, reason: str) -> None:
        """A process is gone: where its node is too that says nothing about its members, else each is tried alone."""
        if slot.node is not None and not self._is_alive(slot.node):
            self._events.add("worker lost", "its node is gone", pack=slot.task.pack)
            if slot.keeps_composition:
                self._waiting.put_first([slot.group])
            else:
                self._put_back(list(slot.seats.values()), alone=slot.group.alone)
            return
        self._put_apart(slot, f"the worker died ({reason})", counts=True)

    def _put_apart(self, slot: WorkerSlot, reason: str, *, counts: bool, detail: str = "") -> None:
        """Each member is tried alone, to find the one at fault; one that was alone fails, at its second death."""
        self._events.add("worker lost", detail or reason, pack=slot.task.pack)
        alone = len(slot.seats) == 1
        again = []
        for seat in slot.seats.values():
            trial = self._book[seat.trial]
            trial.deaths[seat.replicate] = deaths = trial.deaths.get(seat.replicate, 0) + 1
            self._ledger.annotate(trial.number, DEATHS, {str(r): n for r, n in trial.deaths.items()})
            if alone and (deaths >= MOST_DEATHS or not counts):
                verdict = f"quarantined: its worker died {deaths} times" if counts else reason
                self._recorder.end_untrained(trial, "FAIL", verdict, self.spec.config(trial.params), [seat.replicate])
                self._origins.pop(seat.label, None)
            else:
                again.append(seat)
        self._put_back(again, alone=True)
        slot.seats = {}
        self._remove_checkpoints(slot)
        self._events.flush()

    def _remove_checkpoints(self, slot: WorkerSlot) -> None:
        """Delete checkpoints that nobody goes on from any more."""
        packs = slot.packs - ({slot.task.pack} if slot.seats else set())
        free = packs - set(self._origins.values()) - {other.task.pack for other in self._slots.values() if other.seats}
        self._checkpoints.remove(free)
        slot.packs -= free - {slot.task.pack}

    # ---- the end --------------------------------------------------------------------------------------------------

    def over_budget(self) -> str | None:
        """Why no new trial starts, or None."""
        recorder, best = self._recorder, self._book.best
        return spent_reason(
            self.spec.budget,
            Spent(
                hours=self._hours(),
                device_hours=recorder.seconds / 3600,
                evaluations=recorder.evaluations,
                failures=self._book.failures,
                best=best.values[0] if best and best.values else None,
            ),
        )

    def stop(self) -> None:
        """Let every worker finish its stretch, write a checkpoint and leave."""
        self._leaving = True
        with contextlib.suppress(OSError):  # workers hear of it with their next report
            lock.stop_file(self.study_dir).touch()

    def share(self, slots: int | None, requests: int | None = None) -> None:
        """How many workers the study may have beside others of the cluster, None for as many as there is room for.

        `requests` is the same for a cluster that has grown as far as it can.
        """
        self._share, self._most_requests = slots, requests if requests is not None else slots

    def set_capacity(self, capacity: ClusterCapacity) -> None:
        """What the cluster has room for from now on."""
        self._capacity = self._proposer.capacity = capacity

    def preparing(self, slot: int, what: str) -> None:
        """A worker makes something ready that takes long."""
        self._preparing[slot] = what

    def failed(self, slot: int, detail: str) -> None:
        """A worker met an exception that nobody expected, outside of training; Tune starts it again."""
        write_log(self.study_dir, f"worker in slot {slot}", detail)

    def cannot_write(self, reason: str) -> None:
        """A worker could not write its checkpoint: nothing more can be recorded."""
        self._broken = self._broken or reason

    def broken(self) -> str | None:
        """Why nothing more can be recorded, or None."""
        return self._broken

    def is_stopped(self) -> bool:
        """Whether somebody asked the study to stop."""
        return self._leaving

    def close(self) -> dict[str, int]:
        """End the attempt; returns the trials in each state. Nothing is written after that; raises nothing."""
        try:
            if not self._is_over:
                self._end()
        except Exception as problem:
            self._broken = self._in_words(problem)
        self._closed = True
        self._ledger.close()
        with contextlib.suppress(OSError):
            self._lock.release()
        return self._counts()

    def _end(self) -> None:
        recovery.release_leases(self._ledger, self._book)
        self._ledger.set_attribute("hours", self._hours())
        counts = ", ".join(f"{number} {state}" for state, number in self._counts().items() if number)
        if not self._leaving:  # who stops a study does not want to wait
            self._compact()
        self._events.add("ended", counts)
        self._events.flush()
        lock.stop_file(self.study_dir).unlink(missing_ok=True)

    def _compact(self) -> None:
        """Merge the tables' small files; where that fails they stay, and nothing is lost."""
        if compaction.is_due(self._tables):
            self._events.flush()
            try:
                found = compaction.compact(self._tables, self._remote)
            except (OSError, StudyError) as problem:
                self._events.add("not compacted", self._in_words(problem))
            else:
                self._events.add("compacted", f"{found.before:,} files of the tables became {found.after:,}")

    def snapshot(self, since: int = 0) -> dict[str, Any]:
        """How the study stands, for progress views; trials finished in this attempt after the first `since` of them."""
        self._note_hours()
        recorder, book, best = self._recorder, self._book, self._book.best
        in_training = {seat.trial for slot in self._slots.values() for seat in slot.seats.values()}
        members = sum(slot.progress.get("under_way", 0.0) for slot in self._slots.values())
        members += sum(len(book[number].done) for number in in_training)
        hours, resources = self.spec.budget.hours, self.spec.resources
        return {
            "study": self.spec.study,
            "limit": self._search.limit + len(book.retried),
            "counts": self._counts(),
            "failures": book.failures,
            "objective": self.spec.objectives[0],
            "best": best and {"trial": best.number, "value": best.values and best.values[0], "params": best.params},
            "packs": [{"pack": slot.task.pack, **slot.progress} for slot in self._slots.values() if slot.progress],
            "places": self._capacity.places,
            "requested": self._requested,
            "preparing": list(dict.fromkeys(self._preparing.values())),
            "unfit": list(dict.fromkeys(self._unfit.values())),
            "cores_per_pack": resources.cpus_per_pack,
            "under_way": members / book.replicates,
            "budget_left_s": None if hours is None else max(3600 * (hours - self._hours()), 0.0),
            "finished": recorder.finished[max(0, since - recorder.finished_before) :],
            "finished_count": recorder.finished_before + len(recorder.finished),
            "over_budget": self.over_budget(),
        }

    def _counts(self) -> dict[str, int]:
        return {state: self._book.counts[state] for state in (COMPLETE, "FAIL", "PRUNED", RUNNING, WAITING)}

    def _hours(self) -> float:
        return self._hours_before + (self._clock() - self._started) / 3600

    def _note_hours(self) -> None:
        if self._is_over or self._clock() <= self._hours_noted + HOURS_EVERY_S:
            return
        self._hours_noted = self._clock()
        try:
            self._ledger.set_attribute("hours", self._hours())
        except StudyError as problem:
            self._broken = self._in_words(problem)

    def _in_words(self, problem: Exception) -> str:
        if isinstance(problem, OSError) and problem.strerror:
            return f"{problem.strerror}: {problem.filename}" if problem.filename else problem.strerror
        return str(problem) if isinstance(problem, StudyError) else log_exception(self.study_dir, "owner", problem)

    def _is_leaving(self) -> bool:
        if not self._leaving and lock.stop_file(self.study_dir).exists():
            self._leaving = True
        return self._leaving
