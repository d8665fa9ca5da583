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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import StudyError
from ..search import search_of
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

WAIT: Final = -1  # returned instead of a slot: no work now, perhaps later
MOST_DEATHS: Final = 2  # deaths of its worker after which a member is quarantined
SURPLUS_S: Final = 5.0  # time for which unneeded slots stay on offer
MOST_NEVER_BEGUN: Final = 3  # workers in a row that fail to start before the attempt ends
HOURS_EVERY_S: Final = 30.0  # interval between two records of the time a study has used
MOST_IN_STOCK: Final = 64  # members leased to a worker beyond its places
STOCK_S: Final = 1.0  # training time that a stock of members should last


@dataclass(slots=True)
class WorkerSlot:
    """A slot held by a worker: its task, the pack as it was queued, and the unfinished members by label.

    `origins` are the packs whose checkpoints its members may come from. `is_padded` tells that the last digits of a
    member depend on its pack on the worker's device.
    """

    task: PackTask
    pending: PendingPack
    members: dict[int, PendingMember]
    node: str | None
    origins: set[int]
    is_padded: bool
    progress: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keeps_composition(self) -> bool:
        """Return whether its members must train together, without others."""
        return self.is_padded and self.pending.is_planned

    @property
    def key(self) -> tuple[str, ...] | None:
        """Return the key that members need to join the pack, None where none may join."""
        return None if self.keeps_composition or self.pending.alone else self.pending.key


@dataclass(frozen=True)
class SlotOffer:
    """A slot for one more worker, and the device that it requests from Ray."""

    slot: int
    device: str


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
        self.study_dir, self._capacity, self._clock = Path(study_dir), capacity, clock
        self._is_alive = is_alive
        driver_pid = driver_pid or os.getpid()
        try:
            with contextlib.ExitStack() as undo:
                shared = folder.database_of(self.study_dir, spec).is_shared  # a shared database refuses a second owner
                self._lock = lock.StudyLock(self.study_dir, driver_pid=driver_pid, must_hold=not shared)
                undo.callback(self._lock.release)
                self.spec, self._ledger, notes = folder.open_study(self.study_dir, spec)
                undo.callback(self._ledger.close)
                self._begin(driver_pid, notes, retry, offered)
                undo.pop_all()
        except OSError as problem:
            raise StudyError(
                f"{self.study_dir} cannot be used ({self._message_of(problem)}). Fix this and run the study again: it "
                "continues where it stopped"
            ) from None

    def _begin(self, driver_pid: int, notes: Sequence[str], retry: Sequence[int], offered: int) -> None:
        """Set up the attempt; the lock is held. Raises `StudyError` where the study cannot go on."""
        lock.stop_file(self.study_dir).unlink(missing_ok=True)
        self._remote = remote = home.remote_of(self.study_dir)
        self._tables = StudyTables(self.study_dir, problem=self.spec.problem["name"], publish_in=remote)
        self._checkpoints = checkpoints_of(self.study_dir)
        compaction.recover(self.study_dir)
        if remote is not None:
            home.reconcile(self.study_dir, remote, self._tables, self._lock.word)
        attributes = self._ledger.attributes()
        self.attempt = 1 + max(int(attributes.get("attempts", 0)), self._tables.newest_attempt())
        self._ledger.set_attribute("attempts", self.attempt)
        folder.record_version(self._ledger, self.attempt)
        self._events = EventLog(self._tables, self.attempt)
        self._events.add("started" if self.attempt == 1 else "resumed", f"process {driver_pid}")
        for note in notes:
            self._events.add("reconciled", note)
        self._weights = other_studies.settle_weights(self.study_dir, self.spec, self._ledger)
        if remote is not None:
            home.push_weights(self.study_dir, remote)
        self._started, self._hours_before = self._clock(), float(attributes.get("hours", 0.0))
        self._hours_noted = self._started
        self._closed, self._broken, self._stopping = False, None, False  # type: bool, str | None, bool
        self._slots: dict[int, WorkerSlot] = {}
        self._sizes: dict[tuple[str, ...], int] = {}  # where memory ran out: pack size by key
        self._origins: dict[int, int] = {}  # by label, the pack whose checkpoint has the member
        # the device of each slot that no worker has taken yet
        self._offered = dict.fromkeys(range(1, offered + 1), self._capacity.device)
        self._surplus_since: float | None = None  # since when more slots are on offer than needed
        self._idle: set[int] = set()  # slots whose worker will ask again
        self._preparing: dict[int, str] = {}  # what the worker of a slot prepares before it asks for members
        self._unfit: dict[int, str] = {}  # by slot, why its machine cannot train this study
        self._next_slot, self._next_lease, self._never_begun = offered, 0, 0
        self._most_workers: int | None = None
        self._most_requests: int | None = None  # limit of requests while other studies share the cluster
        self._queue = MemberQueue()
        self._reconcile(attributes)
        self._pruner = RungPruner(self.spec, self._book, self._ledger, self._events)
        self._proposer.finish_window()
        self._queue.append(self._unfinished_packs())
        originals = [self._failed_trial(number) for number in retry]  # all are checked before one is entered
        for original in originals:
            self._queue.append(self._proposer.retry(original))
        self._events.flush()

    def _reconcile(self, attributes: Mapping[str, Any]) -> None:
        """Bring folder and database into agreement after a crash."""
        spec, tables = self.spec, self._tables
        self._book = recovery.read_book(self.study_dir, spec, self._ledger.records())
        rows = recovery.published_rows(self.study_dir, spec, tables, self._book)
        recovery.note_rows(rows, spec.objectives, self._book)
        recovery.tell_published(rows, self._ledger, self._book, self._events)
        recovery.remove_orphans(tables, self._events)
        recovery.release_leases(self._ledger, self._book)
        warm = other_studies.warm_start(spec, self._ledger)
        self._search = search_of(spec, recovery.told(self._book), warm)
        if attributes.get(LIMIT) != self._search.limit:
            self._ledger.set_attribute(LIMIT, self._search.limit)  # for status queries
        self._recorder = Recorder(
            spec,
            self.attempt,
            tables,
            self._ledger,
            self._book,
            self._search,
            self._events,
            guard=self._check_ownership,
            rows=rows,
        )
        reusable, gone = other_studies.reusable(spec)
        for other in gone:
            self._events.add("reconciled", f"{other} is not a study any more; its trials are trained here")
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
            self._recorder.copy_results(original)
        for trial in [trial for trial in self._book if trial.taken_from is not None and not trial.finished]:
            self._recorder.take_over(trial)

    def _check_ownership(self) -> None:
        self._lock.check()
        if self._remote is not None:
            home.check_owner(self._remote, self._lock.word)

    def _unfinished_packs(self) -> list[PendingPack]:
        """Return the packs of members left unfinished by earlier attempts, those with a checkpoint first."""
        saved = self._checkpoints.saved_members()
        members_of: dict[int, list[PendingMember]] = {}
        for trial in self._book:
            if not trial.finished and trial.duplicate_of is None and self._is_wanted(trial):
                members = self._proposer.pending_members(trial)
                members_of.setdefault(trial.pack, []).extend(
                    replace(member, origin=saved.get(member.label)) for member in members
                )
        packs: dict[tuple[bool, int, int], PendingPack] = {}  # by their place in the queue
        for pack, members in members_of.items():
            if self._can_be_rebuilt(pack, members):
                packs[members[0].origin is None, pack, -1] = self._rebuilt_pack(pack)
                continue
            for member in members:
                alone = member.replicate in self._book[member.trial].deaths
                from_pack = pack if member.origin is None else member.origin
                place = (member.origin is None, from_pack, member.label if alone else -1)
                if place not in packs:
                    packs[place] = PendingPack(self._proposer.new_packs(1), alone=alone)
                packs[place].members.append(member)
        unfinished = [member for members in members_of.values() for member in members]
        self._origins = {member.label: member.origin for member in unfinished if member.origin is not None}
        self._checkpoints.remove(set(self._checkpoints.packs()) - set(self._origins.values()))
        return [packs[place] for place in sorted(packs)]

    def _can_be_rebuilt(self, pack: int, members: Sequence[PendingMember]) -> bool:
        """Return whether the unfinished members of a pack must train in it as planned, and still can."""
        if not members or not self._is_padded(members[0], self._capacity.device):
            return False
        if any(member.replicate in self._book[member.trial].deaths for member in members):
            return False
        return {member.origin for member in members} in ({None}, {pack})

    def _rebuilt_pack(self, pack: int) -> PendingPack:
        """Return a pack as planned, with its finished members, which may be unfinished in its checkpoint."""
        trials = [trial for trial in self._book if trial.pack == pack and trial.duplicate_of is None]
        members = [member for trial in trials for member in self._proposer.pending_members(trial, finished=True)]
        return PendingPack(pack, [replace(member, origin=pack) for member in members], is_planned=True)

    def _is_padded(self, member: PendingMember, device: str) -> bool:
        return self._proposer.is_padded(self.spec.config(self._book[member.trial].params), device)

    def _is_wanted(self, trial: Trial) -> bool:
        """Return whether a trial lies within the number of trials of the study, which may have been lowered."""
        return trial.index is None or trial.index < self._search.limit

    def _failed_trial(self, number: int) -> Trial:
        """Return the failed trial of a number. Raises `StudyError` where it does not exist or has not failed."""
        trial = self._book[number] if 0 <= number < len(self._book) else None
        if trial is None or trial.state != "FAIL":
            state = f"is {trial.state}" if trial else "does not exist"
            raise StudyError(f"{self.study_dir}: trial {number} {state}; only failed trials can be trained again")
        return trial

    # ---- leasing members -------------------------------------------------------------------------------------------

    def next_slot(self) -> int | None:
        """Return a slot for one more worker, `WAIT` if there may be work later, or None if there will be none."""
        if self._is_over or self._should_stop():
            return None
        self.ask_ahead()
        if self._is_over:
            return None
        vacant = len(self._offered) + len(self._idle)
        is_full = self._requested >= self._may_request
        if self._packs_ready > vacant and not is_full and not self.over_budget():
            self._next_slot += 1
            self._offered[self._next_slot] = self._capacity.device
            return self._next_slot
        return WAIT if self._slots or vacant or is_full else None

    def offer(self) -> SlotOffer | int | None:
        """Return the slot of `next_slot` with the device to request for it."""
        slot = self.next_slot()
        return slot if slot is None or slot == WAIT else SlotOffer(slot, self._offered[slot])

    def surplus(self) -> tuple[int, ...]:
        """Withdraw slots that no worker has taken and that are not needed, and return them.

        A cluster must not grow for them. The need changes quickly and a worker starts slowly, so slots are withdrawn
        only after `SURPLUS_S` seconds, those of another device at once.
        """
        needed = min(self._packs_ready - len(self._idle), self._may_request - (self._requested - len(self._offered)))
        slots = [slot for slot, device in self._offered.items() if device == self._capacity.device]
        others = [slot for slot in self._offered if slot not in slots]
        surplus = slots[max(0, needed) :]
        if not surplus:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = self._clock()
        is_lasting = self._surplus_since is not None and self._clock() - self._surplus_since >= SURPLUS_S
        withdrawn = [*others, *(surplus if is_lasting else ())]
        for slot in withdrawn:
            del self._offered[slot]
        return tuple(withdrawn)

    @property
    def _requested(self) -> int:
        """Return the number of workers that exist or are requested."""
        return len(self._slots) + len(self._offered) + len(self._idle) + len(self._unfit)

    @property
    def _may_request(self) -> int:
        """Return the number of workers that may exist or be requested.

        On a cluster that does not grow it is at most the number of places: one more slot would only start a process
        once another one ends, when there is no work left for it.
        """
        most = self._capacity.requests(self.spec.resources.max_packs)
        return most if self._most_requests is None else min(most, max(1, self._most_requests))

    @property
    def _packs_ready(self) -> int:
        """Return the number of packs that could start now."""
        return self._queue.packs + (0 if self.over_budget() else self._proposer.packs_to_ask)

    def ask_ahead(self) -> None:
        """Enter new trials while fewer members wait than the workers may soon need."""
        try:
            while len(self._queue) < self._proposer.ahead and self._proposer.may_ask and not self.over_budget():
                self._queue.append(self._proposer.ask())
        except Exception as problem:  # an error in Tune's loop would end the run without a message
            self._broken = self._message_of(problem)

    def lease(self, slot: int, node: str | None = None, device: str | None = None) -> PackTask:
        """Return a pack for the worker that holds a slot, on the device it found; without members where none is left.

        A slot that is leased while it is held has lost its worker.
        """
        self._release_slot(slot)
        self._never_begun = 0
        previous = self._slots.pop(slot, None)
        try:
            if previous is not None and not self._is_over:
                self._worker_died(previous, "its process is gone")
            return self._new_lease(slot, node, device or self._capacity.device)
        except Exception as problem:
            self._broken = self._message_of(problem)
            return self._empty_task(slot)

    def _release_slot(self, slot: int) -> None:
        """Remove a slot from those on offer, preparing or idle."""
        self._offered.pop(slot, None)
        self._preparing.pop(slot, None)
        self._idle.discard(slot)

    def _new_lease(self, slot: int, node: str | None, device: str) -> PackTask:
        has_place = self._most_workers is None or len(self._slots) + len(self._idle) < self._most_workers
        # A worker that requested only a core, before the cluster had a GPU, makes room for one that requests both.
        is_open = has_place and device == self._capacity.device
        is_open = is_open and not (self._is_over or self._should_stop() or self.over_budget())
        if is_open:
            self.ask_ahead()
        pending = self._queue.take_pack() if is_open else None
        if pending is None:
            ask_again = is_open and bool(self._slots) and self._proposer.has_more
            if ask_again:
                self._idle.add(slot)
            return replace(self._empty_task(slot), ask_again=ask_again)
        is_padded = self._is_padded(pending.members[0], device)
        unfinished = [member for member in pending.members if member.replicate not in self._book[member.trial].done]
        if is_padded and pending.is_planned:
            size = len(pending.members)
        else:
            size = min(self._proposer.size, self._sizes.get(pending.key, self._proposer.size))
            if not pending.alone:
                unfinished += self._queue.take(pending.key, size - len(unfinished), spare_planned=is_padded)
            pending.members = unfinished
        task = self._pack_task(slot, pending, size, device, is_padded=is_padded)
        origins = {pending.pack} | {member.origin for member in unfinished if member.origin is not None}
        members = {member.label: member for member in unfinished}
        self._slots[slot] = WorkerSlot(task, pending, members, node, origins, is_padded)
        self._mark_leased(unfinished, pending.pack)
        return task

    def _empty_task(self, slot: int) -> PackTask:
        return self._pack_task(slot, PendingPack(-1), 0, self._capacity.device, is_padded=False)

    def _pack_task(self, slot: int, pending: PendingPack, size: int, device: str, *, is_padded: bool) -> PackTask:
        self._next_lease += 1
        resources, results, search = self.spec.resources, self.spec.results, self.spec.search
        return PackTask(
            slot,
            self._next_lease,
            self.attempt,
            pending.pack,
            tuple(
                self._member_task(member, rebatched=is_padded and not pending.is_planned) for member in pending.members
            ),
            size,
            device,
            resources.cpus_per_pack,
            self.spec.objectives,
            self.spec.sha256(),
            keep_composition=is_padded and pending.is_planned,
            rungs=self._pruner.rungs(pending.members),
            patience=search.pruner if search.pruner.traits.watches_curve else None,
            metric=self._pruner.metrics[0],
            keep_fields=results.fields == "all",
            keep_weights=results.weights == "all",
        )

    def _member_task(self, member: PendingMember, *, rebatched: bool) -> MemberTask:
        trial = self._book[member.trial]
        config = self.spec.config(trial.params)
        return MemberTask(
            member.label,
            member.trial,
            member.replicate,
            self._proposer.seed_of(trial, member.replicate),
            config,
            member.origin,
            self._weights.get(config["train"]["init"]),
            trial.retry_of,
            rebatched=rebatched,
        )

    def _mark_leased(self, members: Sequence[PendingMember], pack: int) -> None:
        """Mark the trials of leased members as RUNNING."""
        with self._ledger.transaction():
            for trial in {member.trial: self._book[member.trial] for member in members}.values():
                if trial.state == WAITING:
                    self._ledger.mark(trial.number, RUNNING)
                    self._book.mark(trial, RUNNING)
        for member in members:
            self._events.add("leased", f"replicate {member.replicate}", trial=member.trial, pack=pack)

    def unfit(self, slot: int, reason: str) -> None:
        """Record that the machine of a worker cannot train this study; if no other can, the attempt is broken."""
        self._release_slot(slot)
        if slot not in self._unfit:
            self._events.add("worker unfit", reason)
        self._unfit[slot] = reason
        if not self._slots and len(self._unfit) >= self._capacity.places:
            self._broken = self._broken or f"no machine of the cluster can train this study: {reason}"

    def has_work(self) -> bool:
        """Return whether there is, or may be, something to train."""
        return not (self._is_over or self._should_stop()) and bool(len(self._queue) or self._slots or self.may_go_on)

    def is_idle(self) -> bool:
        """Return whether no worker trains anything that will be recorded, and none will."""
        return self._is_over or not (self._slots or self.has_work())

    @property
    def may_go_on(self) -> bool:
        """Return whether the sampler has trials left and the budget allows them."""
        return self._proposer.has_more and not self.over_budget()

    # ---- taking reports --------------------------------------------------------------------------------------------

    def report(self, report: PackReport) -> Answer:
        """Publish and tell the results of a report, and return what the worker does next.

        A report that is not `taken` changes nothing: late reports of older attempts and leases are refused, and all
        reports once the disk or the database of the study has failed. The next attempt repairs half-finished writes.
        """
        slot = self._slots.get(report.slot)
        if self._is_over or slot is None or (report.attempt, report.lease) != (self.attempt, slot.task.lease):
            return Answer(taken=False)
        try:
            return self._process(report, slot)
        except Exception as problem:
            self._broken = self._message_of(problem)
            return Answer(taken=False)

    @property
    def _is_over(self) -> bool:
        """Return whether nothing more may be recorded."""
        return self._closed or self._broken is not None

    def _process(self, report: PackReport, slot: WorkerSlot) -> Answer:
        for note in report.notes:
            self._events.add("reconciled", note, pack=report.pack)
        self._recorder.record(report.trials, report.curves, report.fields, report.weights)
        for row in report.trials:
            label = row["trial"] * self._book.replicates + row["replicate"]
            slot.members.pop(label, None)
            self._origins.pop(label, None)
        if report.saved:
            self._origins |= dict.fromkeys(slot.members, report.pack)
        self._remove_checkpoints(slot)
        slot.progress = report.progress
        if report.crashed is not None:
            write_log(self.study_dir, f"worker of pack {report.pack}", report.detail)
            self._slots.pop(report.slot)
            self._isolate_members(slot, report.crashed, counts=False, detail=report.detail)
            return Answer(taken=True, leave=True)
        self._requeue_given_back(report, slot)
        for trial in self._pruner.judge(report.rungs):
            self._prune_waiting(trial)
        stop = tuple(label for label, member in slot.members.items() if member.trial in self._pruner.hopeless)
        has_place = self._most_workers is None or len(self._slots) <= self._most_workers
        if self._should_stop() or not has_place or slot.task.device != self._capacity.device:
            self._slots.pop(report.slot)
            self._requeue_pack(slot, report.pack)
            return Answer(taken=True, leave=True)
        added = self._refill(report, slot, len(stop))
        if not slot.members:
            self._slots.pop(report.slot)
            self._remove_checkpoints(slot)
        self._events.flush()
        return Answer(
            taken=True,
            stop=stop,
            add=tuple(self._member_task(member, rebatched=slot.is_padded) for member in added),
            rungs=self._pruner.rungs(added),
        )

    def _refill(self, report: PackReport, slot: WorkerSlot, stopping: int) -> list[PendingMember]:
        """Return members for the free places of a pack, and a stock of as many as it trains in `STOCK_S` seconds."""
        places = slot.task.size - report.left + stopping
        if slot.key is None or 2 * places < slot.task.size or self.over_budget():
            return []
        self.ask_ahead()
        rate = len(report.trials) / max(report.seconds, 1e-3)
        remaining = len(self._queue) + (self._search.limit - self._book.asked) * self._book.replicates
        workers = max(1, self._capacity.places)
        spare = max(0, remaining - self._proposer.size * workers) // workers  # not needed to fill the other packs
        number = places + min(int(rate * STOCK_S), MOST_IN_STOCK, spare)
        added = self._queue.take(slot.key, number, spare_planned=slot.is_padded)
        slot.members |= {member.label: member for member in added}
        slot.origins |= {member.origin for member in added if member.origin is not None}
        self._mark_leased(added, report.pack)
        return added

    def _prune_waiting(self, trial: Trial) -> None:
        """Record the waiting members of a hopeless trial as pruned."""
        for member in self._queue.drop(trial.number):
            self._origins.pop(member.label, None)
            self._recorder.end_untrained(trial, PRUNED, "", self.spec.config(trial.params), [member.replicate])

    def _requeue_given_back(self, report: PackReport, slot: WorkerSlot) -> None:
        """Requeue the members that did not fit in memory, and make packs of their shape smaller from now on."""
        if not report.given_back:
            return
        members = [slot.members.pop(label) for label in report.given_back if label in slot.members]
        self._sizes[slot.pending.key] = report.size
        slot.task = replace(slot.task, size=report.size)
        slot.pending.is_planned = False
        self._events.add(
            "out of memory", f"{len(members)} members queued again, packs of {report.size}", pack=report.pack
        )
        self._requeue(members)

    def _requeue(self, members: Sequence[PendingMember], *, alone: bool = False) -> None:
        """Put members at the front of the queue, to resume from their checkpoint if they have one."""
        packs: dict[Any, PendingPack] = {}
        saved = self._checkpoints.saved_members()
        self._origins |= {member.label: saved[member.label] for member in members if member.label in saved}
        for member in members:
            member = replace(member, origin=self._origins.get(member.label))
            place = member.label if alone else member.key
            if place not in packs:
                packs[place] = PendingPack(self._proposer.new_packs(1), alone=alone)
            packs[place].members.append(member)
        self._queue.put_first(list(packs.values()))

    def _requeue_pack(self, slot: WorkerSlot, pack: int) -> None:
        """Requeue the members of a worker that leaves with a checkpoint, as the pack they are."""
        self._origins |= dict.fromkeys(slot.members, pack)
        pending = slot.pending
        if not slot.keeps_composition:
            members = [replace(member, origin=pack) for member in slot.members.values()]
            pending = PendingPack(pack, members, alone=pending.alone)
        if slot.members:
            self._queue.put_first([pending])
        self._events.flush()

    def lost(self, slot: int, reason: str) -> None:
        """Record that Ray Tune has given up a slot. Raises nothing."""
        never_leased = slot in self._offered
        self._release_slot(slot)
        self._unfit.pop(slot, None)
        worker = self._slots.pop(slot, None)
        try:
            if worker is not None and not self._is_over:
                self._worker_died(worker, reason)
            elif never_leased:
                self._never_begun += 1
        except Exception as problem:
            self._broken = self._message_of(problem)
        if self._never_begun >= MOST_NEVER_BEGUN:
            self._broken = self._broken or f"workers do not start: {reason}"

    def _worker_died(self, slot: WorkerSlot, reason: str) -> None:
        """Requeue the members of a dead worker, each alone unless its node is gone, which no member can have caused."""
        if slot.node is not None and not self._is_alive(slot.node):
            self._events.add("worker lost", "its node is gone", pack=slot.task.pack)
            if slot.keeps_composition:
                self._queue.put_first([slot.pending])
            else:
                self._requeue(list(slot.members.values()), alone=slot.pending.alone)
            return
        self._isolate_members(slot, f"the worker died ({reason})", counts=True)

    def _isolate_members(self, slot: WorkerSlot, reason: str, *, counts: bool, detail: str = "") -> None:
        """Requeue each member alone to find the one at fault; a member that already was alone fails.

        With `counts`, the member fails only at the `MOST_DEATHS`-th death of its worker.
        """
        self._events.add("worker lost", detail or reason, pack=slot.task.pack)
        alone = len(slot.members) == 1
        retried = []
        for member in slot.members.values():
            trial = self._book[member.trial]
            trial.deaths[member.replicate] = deaths = trial.deaths.get(member.replicate, 0) + 1
            self._ledger.annotate(
                trial.number, DEATHS, {str(replicate): number for replicate, number in trial.deaths.items()}
            )
            if alone and (deaths >= MOST_DEATHS or not counts):
                failure = f"quarantined: its worker died {deaths} times" if counts else reason
                self._recorder.end_untrained(trial, "FAIL", failure, self.spec.config(trial.params), [member.replicate])
                self._origins.pop(member.label, None)
            else:
                retried.append(member)
        self._requeue(retried, alone=True)
        slot.members = {}
        self._remove_checkpoints(slot)
        self._events.flush()

    def _remove_checkpoints(self, slot: WorkerSlot) -> None:
        """Remove checkpoints of a slot that no member needs any more."""
        candidates = slot.origins - ({slot.task.pack} if slot.members else set())
        in_training = {other.task.pack for other in self._slots.values() if other.members}
        unused = candidates - set(self._origins.values()) - in_training
        self._checkpoints.remove(unused)
        slot.origins -= unused - {slot.task.pack}

    # ---- the end ---------------------------------------------------------------------------------------------------

    def over_budget(self) -> str | None:
        """Return why no new trial starts, None while the budget lasts."""
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
        """Make every worker finish its stretch, write a checkpoint and leave."""
        self._stopping = True
        with contextlib.suppress(OSError):  # without the file, workers learn it from the answer to their next report
            lock.stop_file(self.study_dir).touch()

    def share(self, slots: int | None, requests: int | None = None) -> None:
        """Set how many workers the study may have beside other studies, None for as many as there is room for.

        `requests` is the same number for a cluster that has grown as far as it can.
        """
        self._most_workers, self._most_requests = slots, requests if requests is not None else slots

    def set_capacity(self, capacity: ClusterCapacity) -> None:
        """Set the capacity of the cluster from now on."""
        self._capacity = self._proposer.capacity = capacity

    def preparing(self, slot: int, what: str) -> None:
        """Record what the worker of a slot prepares, for progress views."""
        self._preparing[slot] = what

    def failed(self, slot: int, detail: str) -> None:
        """Log an unexpected exception of a worker outside of training; Ray Tune restarts the worker."""
        write_log(self.study_dir, f"worker in slot {slot}", detail)

    def cannot_write(self, reason: str) -> None:
        """Record that a worker could not write its checkpoint, which ends the attempt."""
        self._broken = self._broken or reason

    def broken(self) -> str | None:
        """Return why nothing more can be recorded, None otherwise."""
        return self._broken

    def is_stopped(self) -> bool:
        """Return whether the study was asked to stop."""
        return self._stopping

    def close(self) -> dict[str, int]:
        """End the attempt and return the number of trials by state. Nothing is written afterwards. Raises nothing."""
        try:
            if not self._is_over:
                self._end_attempt()
        except Exception as problem:
            self._broken = self._message_of(problem)
        self._closed = True
        self._ledger.close()
        with contextlib.suppress(OSError):
            self._lock.release()
        return self._counts()

    def _end_attempt(self) -> None:
        recovery.release_leases(self._ledger, self._book)
        self._ledger.set_attribute("hours", self._hours())
        counts = ", ".join(f"{number} {state}" for state, number in self._counts().items() if number)
        if not self._stopping:  # a user who stops a study does not want to wait
            self._compact()
        self._events.add("ended", counts)
        self._events.flush()
        lock.stop_file(self.study_dir).unlink(missing_ok=True)

    def _compact(self) -> None:
        """Merge the small files of the tables; a failure is recorded and loses nothing."""
        if compaction.is_due(self._tables):
            self._events.flush()
            try:
                files = compaction.compact(self._tables, self._remote)
            except (OSError, StudyError) as problem:
                self._events.add("not compacted", self._message_of(problem))
            else:
                self._events.add("compacted", f"{files.before:,} files of the tables became {files.after:,}")

    def snapshot(self, since: int = 0) -> dict[str, Any]:
        """Return the state of the study for progress views.

        `finished` has the trials finished in this attempt, without the first `since` of them.
        """
        self._note_hours()
        recorder, book, best = self._recorder, self._book, self._book.best
        in_training = {member.trial for slot in self._slots.values() for member in slot.members.values()}
        under_way = sum(slot.progress.get("under_way", 0.0) for slot in self._slots.values())
        under_way += sum(len(book[number].done) for number in in_training)
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
            "under_way": under_way / book.replicates,
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
            self._broken = self._message_of(problem)

    def _message_of(self, problem: Exception) -> str:
        """Return the message of an error; an unexpected one is logged with its traceback."""
        if isinstance(problem, OSError) and problem.strerror:
            return f"{problem.strerror}: {problem.filename}" if problem.filename else problem.strerror
        return str(problem) if isinstance(problem, StudyError) else log_exception(self.study_dir, "owner", problem)

    def _should_stop(self) -> bool:
        if not self._stopping and lock.stop_file(self.study_dir).exists():
            self._stopping = True
        return self._stopping
