"""The leasing of members: the way from the queue to workers in their slots, and back where they end too early."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from ..states import FAIL, PRUNED, RUNNING, WAITING
from ..study.trials import DEATHS, Trial
from .attempt import Attempt
from .messages import MemberTask, PackReport, PackTask
from .packing import depends_on_pack, setup_of
from .proposer import TrialProposer
from .pruning import RungPruner
from .queue import MemberQueue, PendingMember, PendingPack
from .recorder import Recorder
from .slots import SlotTable, WorkerSlot

MOST_DEATHS: Final = 2  # deaths of its worker after which a member is quarantined
MOST_IN_STOCK: Final = 64  # members leased to a worker beyond its places
STOCK_S: Final = 1.0  # training time that a stock of members should last


class Leasing:
    """The leases of an attempt, which have numbers, and the checkpoints that unfinished members need.

    `is_alive` tells whether a node of the cluster still exists.
    """

    def __init__(
        self,
        attempt: Attempt,
        slots: SlotTable,
        queue: MemberQueue,
        proposer: TrialProposer,
        pruner: RungPruner,
        recorder: Recorder,
        is_alive: Callable[[str], bool],
    ) -> None:
        self._attempt, self._spec, self._trials = attempt, attempt.spec, attempt.trials
        self._events, self._checkpoints = attempt.events, attempt.checkpoints
        self._slots, self._queue, self._proposer, self._pruner = slots, queue, proposer, pruner
        self._recorder, self._is_alive = recorder, is_alive
        self._last_lease = 0
        self._origins: dict[int, int] = {}  # by label, the pack whose checkpoint has the member

    # ---- the start of an attempt -----------------------------------------------------------------------------------

    def requeue_unfinished(self) -> None:
        """Queue the members left unfinished by earlier attempts, those with a checkpoint first."""
        saved = self._checkpoints.saved_members()
        members_of: dict[int, list[PendingMember]] = {}
        for trial in self._trials:
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
                alone = member.replicate in self._trials[member.trial].deaths
                from_pack = pack if member.origin is None else member.origin
                place = (member.origin is None, from_pack, member.label if alone else -1)
                if place not in packs:
                    packs[place] = PendingPack(self._proposer.new_pack(), alone=alone)
                packs[place].members.append(member)
        unfinished = [member for members in members_of.values() for member in members]
        self._origins = {member.label: member.origin for member in unfinished if member.origin is not None}
        self._checkpoints.remove(set(self._checkpoints.packs()) - set(self._origins.values()))
        self._queue.append(packs[place] for place in sorted(packs))

    def _is_wanted(self, trial: Trial) -> bool:
        """Return whether a trial lies within the number of trials of the study, which may have been lowered."""
        return trial.index is None or trial.index < self._trials.places(self._attempt.search.limit)

    def _can_be_rebuilt(self, pack: int, members: Sequence[PendingMember]) -> bool:
        """Return whether the unfinished members of a pack must train in it as planned, and still can."""
        trials = [self._trials[member.trial] for member in members]
        if not trials or not depends_on_pack(self._spec, trials[0], self._slots.capacity.device):
            return False
        if any(member.replicate in trial.deaths for member, trial in zip(members, trials, strict=True)):
            return False
        return {member.origin for member in members} in ({None}, {pack})

    def _rebuilt_pack(self, pack: int) -> PendingPack:
        """Return a pack as planned, with its finished members, which may be unfinished in its checkpoint."""
        trials = [trial for trial in self._trials if trial.pack == pack and trial.duplicate_of is None]
        members = [member for trial in trials for member in self._proposer.pending_members(trial, finished=True)]
        return PendingPack(pack, [replace(member, origin=pack) for member in members], is_planned=True)

    # ---- leases ----------------------------------------------------------------------------------------------------

    def lease_pack(self, slot: int, node: str | None, device: str) -> PackTask | None:
        """Lease the next pack to a slot, None where none waits."""
        pending = self._queue.take_pack()
        if pending is None:
            return None
        is_padded = depends_on_pack(self._spec, self._trials[pending.members[0].trial], device)
        unfinished = [member for member in pending.members if member.replicate not in self._trials[member.trial].done]
        size = len(pending.members)
        if not (is_padded and pending.is_planned):
            size = self._proposer.size_of(pending.key)
            if not pending.alone:
                unfinished += self._queue.take(pending.key, size - len(unfinished), spare_planned=is_padded)
            pending.members = unfinished
        task = self._task(slot, pending, size, device, is_padded=is_padded)
        origins = {pending.pack} | {member.origin for member in unfinished if member.origin is not None}
        members = {member.label: member for member in unfinished}
        self._slots.training[slot] = WorkerSlot(task, pending, members, node, origins, is_padded)
        self._mark_leased(unfinished, pending.pack)
        return task

    def empty_task(self, slot: int, *, ask_again: bool = False) -> PackTask:
        """Return a task without members."""
        task = self._task(slot, PendingPack(-1), 0, self._slots.capacity.device, is_padded=False)
        return replace(task, ask_again=ask_again)

    def refill(self, report: PackReport, slot: WorkerSlot, places: int) -> list[PendingMember]:
        """Lease members for the free places of a pack, and a stock of as many as it trains in `STOCK_S` seconds."""
        assert slot.key is not None
        rate = len(report.records) / max(report.seconds, 1e-3)
        to_propose = self._trials.places(self._attempt.search.limit) - self._trials.proposed
        remaining = len(self._queue) + to_propose * self._trials.replicates
        workers = max(1, self._slots.capacity.places)
        spare = max(0, remaining - self._proposer.size * workers) // workers  # not needed to fill the other packs
        number = places + min(int(rate * STOCK_S), MOST_IN_STOCK, spare)
        added = self._queue.take(slot.key, number, spare_planned=slot.is_padded)
        slot.members |= {member.label: member for member in added}
        slot.origins |= {member.origin for member in added if member.origin is not None}
        self._mark_leased(added, report.pack)
        return added

    def member_tasks(self, members: Sequence[PendingMember], *, rebatched: bool) -> tuple[MemberTask, ...]:
        """Return members as their worker gets them."""
        trials = [self._trials[member.trial] for member in members]
        configs = [setup_of(self._spec, trial).config for trial in trials]
        return tuple(
            MemberTask(
                member.label,
                member.trial,
                member.replicate,
                self._proposer.seed_of(trial, member.replicate),
                config,
                trial.config_hash,
                member.origin,
                self._attempt.weights.get(config["train"]["init"]),
                trial.retry_of,
                rebatched,
            )
            for member, trial, config in zip(members, trials, configs, strict=True)
        )

    def _task(self, slot: int, pending: PendingPack, size: int, device: str, *, is_padded: bool) -> PackTask:
        self._last_lease += 1
        results, pruner = self._spec.results, self._spec.search.pruner
        return PackTask(
            slot,
            self._last_lease,
            self._attempt.number,
            pending.pack,
            self._spec.source,
            self.member_tasks(pending.members, rebatched=is_padded and not pending.is_planned),
            size,
            device,
            self._spec.resources.cpus_per_pack,
            self._spec.objectives,
            self._attempt.spec_hash,
            keep_composition=is_padded and pending.is_planned,
            rungs=self._pruner.rungs(pending.members),
            patience=pruner if pruner.traits.watches_curve else None,
            metric=self._pruner.metrics[0],
            keep_fields=results.fields == "all",
            keep_weights=results.weights == "all",
        )

    def _mark_leased(self, members: Sequence[PendingMember], pack: int) -> None:
        """Mark the trials of leased members as RUNNING."""
        with self._attempt.ledger.transaction():
            for trial in {member.trial: self._trials[member.trial] for member in members}.values():
                if trial.state == WAITING:
                    self._attempt.ledger.mark(trial.number, RUNNING)
                    self._trials.mark(trial, RUNNING)
        for member in members:
            self._events.add("leased", f"replicate {member.replicate}", trial=member.trial, pack=pack)

    # ---- workers that report, leave or die -------------------------------------------------------------------------

    def note_ended(self, report: PackReport, slot: WorkerSlot) -> None:
        """Note which members of a slot have ended, and whether its checkpoint has the others."""
        for trial, replicate in (record.key for record in report.records):
            label = trial * self._trials.replicates + replicate
            slot.members.pop(label, None)
            self._origins.pop(label, None)
        if report.saved:
            self._origins |= dict.fromkeys(slot.members, report.pack)
        self.remove_checkpoints(slot)

    def prune(self, trial: Trial) -> None:
        """Record the queued members of a hopeless trial as pruned."""
        for member in self._queue.drop(trial.number):
            self._origins.pop(member.label, None)
            self._recorder.end_untrained(trial, PRUNED, replicates=[member.replicate])

    def take_back(self, report: PackReport, slot: WorkerSlot) -> None:
        """Queue the members that did not fit in memory again, and make packs of their key smaller from now on."""
        members = [slot.members.pop(label) for label in report.given_back if label in slot.members]
        self._proposer.reduced_sizes[slot.pending.key] = report.size
        slot.task = replace(slot.task, size=report.size)
        slot.pending.is_planned = False
        self._events.add(
            "out of memory", f"{len(members)} members queued again, packs of {report.size}", pack=report.pack
        )
        self._requeue(members)

    def leave(self, slot: WorkerSlot) -> None:
        """Queue the members of a worker that leaves with a checkpoint again, as the pack they are."""
        pack, pending = slot.task.pack, slot.pending
        self._origins |= dict.fromkeys(slot.members, pack)
        if not slot.keeps_composition:
            members = [replace(member, origin=pack) for member in slot.members.values()]
            pending = PendingPack(pack, members, alone=pending.alone)
        if slot.members:
            self._queue.put_first([pending])
        self._events.flush()

    def worker_died(self, slot: WorkerSlot, reason: str) -> None:
        """Queue the members of a dead worker again, each alone unless its node is gone, which is no member's fault."""
        if slot.node is None or self._is_alive(slot.node):
            self.isolate(slot, f"the worker died ({reason})", counts=True)
            return
        self._events.add("worker lost", "its node is gone", pack=slot.task.pack)
        if slot.keeps_composition:
            self._queue.put_first([slot.pending])
        else:
            self._requeue(list(slot.members.values()), alone=slot.pending.alone)

    def isolate(self, slot: WorkerSlot, reason: str, *, counts: bool, detail: str = "") -> None:
        """Queue each member again alone to find the one at fault; a member that already was alone fails.

        With `counts`, the member fails only at the `MOST_DEATHS`-th death of its worker.
        """
        self._events.add("worker lost", detail or reason, pack=slot.task.pack)
        alone = len(slot.members) == 1
        retried = []
        for member in slot.members.values():
            trial = self._trials[member.trial]
            trial.deaths[member.replicate] = deaths = trial.deaths.get(member.replicate, 0) + 1
            self._attempt.ledger.annotate(
                trial.number, DEATHS, {str(replicate): number for replicate, number in trial.deaths.items()}
            )
            if alone and (deaths >= MOST_DEATHS or not counts):
                failure = f"quarantined: its worker died {deaths} times" if counts else reason
                self._recorder.end_untrained(trial, FAIL, failure, [member.replicate])
                self._origins.pop(member.label, None)
            else:
                retried.append(member)
        self._requeue(retried, alone=True)
        slot.members = {}
        self.remove_checkpoints(slot)
        self._events.flush()

    def _requeue(self, members: Sequence[PendingMember], *, alone: bool = False) -> None:
        """Put members at the front of the queue, to resume from their checkpoint if they have one."""
        packs: dict[Any, PendingPack] = defaultdict(lambda: PendingPack(self._proposer.new_pack(), alone=alone))
        saved = self._checkpoints.saved_members()
        self._origins |= {member.label: saved[member.label] for member in members if member.label in saved}
        for member in members:
            place = member.label if alone else member.key
            packs[place].members.append(replace(member, origin=self._origins.get(member.label)))
        self._queue.put_first(list(packs.values()))

    def remove_checkpoints(self, slot: WorkerSlot) -> None:
        """Remove checkpoints of a slot that no member needs any more."""
        candidates = slot.origins - ({slot.task.pack} if slot.members else set())
        in_training = {other.task.pack for other in self._slots.training.values() if other.members}
        unused = candidates - set(self._origins.values()) - in_training
        self._checkpoints.remove(unused)
        slot.origins -= unused - {slot.task.pack}
