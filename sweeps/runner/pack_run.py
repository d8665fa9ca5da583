"""A pack in its worker: train a stretch, report, follow the answer, write a checkpoint.

The order matters. A member that is reported while the checkpoint still has it may be trained again after a crash; its
second report is ignored, which costs seconds. The other order would lose it.
"""

from __future__ import annotations

import datetime
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import pinncore
from pinncore.checkpoint import MemberState

from ..owner.messages import (
    Answer,
    MemberTask,
    PackProgress,
    PackReport,
    PackTask,
    RungReached,
)
from ..search.pruners import has_stalled
from ..states import FAIL, PRUNED
from ..storage.lock import stop_file
from ..study.checkpoints import TRAINED, checkpoints_of
from .device_use import DeviceUse
from .records import record_of, untrained

TICKS_BETWEEN_LOOKS = 10  # evaluations between two looks at the clock
STOP_LOOK_S = 0.5  # between two checks for the stop file
FREE_SHARE = 0.5  # of a pack that must be free before new members join, because building a pack anew is costly


class PackRun:
    """Training of the members of a pack, each from the newest checkpoint that has it.

    Members beyond the size of the pack wait in a stock. Where memory runs out the pack is halved and the other members
    are given back to the owner. A member that cannot begin fails alone.
    """

    def __init__(
        self,
        task: PackTask,
        study_dir: Path,
        *,
        now: Callable[[], datetime.datetime] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self._study_dir, self._clock = task, study_dir, clock
        self._now = now or (lambda: datetime.datetime.now(datetime.UTC))
        self._checkpoints = checkpoints_of(study_dir)
        self._segment = 0
        self._tasks: dict[int, MemberTask] = {}
        self._rungs: dict[int, list[int]] = {}
        self._judged: dict[int, int] = {}  # curve rows of a member that patience has judged
        self._started: dict[int, datetime.datetime] = {}
        self._stock: list[MemberTask] = []
        self._failures: dict[int, str] = {}
        self._never_begun: list[MemberTask] = []  # in stock when their trial was pruned
        self._given_back: list[int] = []
        self._results: list[pinncore.MemberResult] = []  # of packs that were given up
        self._notes: list[str] = []
        self._pack: pinncore.Pack | None = None
        self._size, self._saved, self._reported_at = task.size, False, clock()
        torch.set_num_threads(task.cpus)
        self._use = DeviceUse(task.device, clock=clock)
        self._take_in(task.members, task.rungs)

    @property
    def active(self) -> int:
        """Return the number of members in training."""
        return self._pack.active if self._pack else 0

    @property
    def left(self) -> int:
        """Return the number of members in training or in stock."""
        return self.active + len(self._stock)

    @property
    def has_results(self) -> bool:
        """Return whether there are results to report."""
        return bool(self._results or self._failures or self._never_begun or (self._pack and self._pack.results))

    def train(self, until: float) -> PackReport:
        """Train until the clock says `until`, or until something must be reported at once. Return the report."""
        reached: list[RungReached] = []
        next_look = self._clock() + STOP_LOOK_S
        self._refill()
        # With patience every tick is checked, so that where a member ends does not depend on the others.
        ticks = TICKS_BETWEEN_LOOKS if self.task.patience is None else 1
        while self._pack and self.active and not (self._given_back or reached):
            try:
                self._pack.step(ticks)
            except (MemoryError, RuntimeError, pinncore.PinnError) as problem:
                if not is_out_of_memory(problem):
                    raise
                self._give_half_back([self._tasks[member.label] for member in self._pack.members])
                break
            reached = self._rungs_reached(self._pack)
            self._end_stalled(self._pack)
            self._refill()
            now = self._clock()
            if now >= until or (self._is_hungry and self._pack.results):
                break
            if now >= next_look:
                if stop_file(self._study_dir).exists():
                    break
                next_look = now + STOP_LOOK_S
        return self._report(reached)

    def crash_report(self, reason: str, detail: str) -> PackReport:
        """Return the report where `train` raised: the pack is given up, but not its finished members."""
        return replace(self._report([]), crashed=reason, detail=detail)

    def follow(self, answer: Answer) -> None:
        """Do what the owner answered to a report: stop members, take in new ones."""
        for label in answer.stop:
            if label in self._labels() and self._pack:
                self._pack.stop(label, pinncore.StopReason.PRUNED)
        pruned = [task for task in self._stock if task.label in answer.stop]
        self._stock = [task for task in self._stock if task.label not in answer.stop]
        self._never_begun += pruned
        self._take_in(answer.add, answer.rungs)

    def checkpoint(self) -> None:
        """Write a checkpoint of the members in training, and remove the earlier ones of this pack."""
        if not (self._pack and self.active):
            return
        name = f"attempt-{self.task.attempt:04d}-lease-{self.task.lease:06d}-segment-{self._segment:06d}"
        self._segment += 1
        rebatched = any(self._tasks[label].rebatched for label in self._labels())
        trained = {
            str(label): {"trial": self._tasks[label].trial, "share": self._pack.fraction(row)}
            for row, label in enumerate(self._labels())
        }
        padded = list(self._pack.engine.layout.padded)
        values = {"padded": padded, "rebatched": rebatched, TRAINED: trained}
        self._checkpoints.write(self.task.pack, name, self._pack.state(), values)
        self._saved = True

    # ---- members that join and leave --------------------------------------------------------------------------------

    @property
    def _is_hungry(self) -> bool:
        return self.active <= FREE_SHARE * self._size

    def _take_in(self, tasks: Sequence[MemberTask], rungs: Mapping[int, tuple[int, ...]]) -> None:
        for task in tasks:
            self._tasks[task.label], self._rungs[task.label] = task, list(rungs.get(task.label, ()))
        self._stock += tasks

    def _refill(self) -> None:
        """Begin members of the stock where the pack has room."""
        while self._stock and self._is_hungry:
            free = self._size - self.active
            tasks, self._stock = self._stock[:free], self._stock[free:]
            try:
                self._begin(tasks)
            except (MemoryError, RuntimeError, pinncore.PinnError) as problem:
                if is_out_of_memory(problem):
                    self._give_half_back([*map(self._tasks.__getitem__, self._labels()), *tasks])
                elif isinstance(problem, pinncore.PinnError):
                    self._fail_unable(tasks, problem)
                else:
                    raise

    def _begin(self, tasks: Sequence[MemberTask]) -> None:
        """Take members into the pack, from their checkpoints where they have one."""
        states, values = self._saved_states(tasks)
        if self.task.keep_composition and states:
            resumed = {state.label for state in states}
            tasks = [task for task in tasks if task.label in resumed]
            if values.get("rebatched"):
                tasks = self._rebatched(tasks)
        members = [task.member_of_pack(self._study_dir, self.task.problem) for task in tasks]
        if self._pack and self.active:
            pack = self._pack.joined(members)
        else:
            padded = tuple(values.get("padded", ())) if self.task.keep_composition else ()
            pack = pinncore.Pack(members, device=self.task.device, padded=padded)
            self._keep_results()
        pack.restore(states)
        self._pack, self._saved = pack, False
        now = self._now()
        for task in tasks:
            self._started.setdefault(task.label, now)

    def _fail_unable(self, tasks: Sequence[MemberTask], problem: pinncore.PinnError) -> None:
        """Fail the members that cannot begin even alone; the others try again. Raises `problem` where all can."""
        able = []
        for task in tasks:
            try:
                pinncore.Pack([task.member_of_pack(self._study_dir, self.task.problem)], device=self.task.device)
                able.append(task)
            except pinncore.PinnError as reason:
                self._failures[task.label] = str(reason)
        if len(able) == len(tasks):
            raise problem
        self._stock[:0] = able

    def _give_half_back(self, tasks: Sequence[MemberTask]) -> None:
        """Halve the pack after memory ran out; half of the members go on from their last checkpoint."""
        self._keep_results()
        self._pack = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(tasks) == 1:
            self._failures[tasks[0].label] = "out of memory, alone in its pack"
            return
        self._size = max(1, len(tasks) // 2)
        self._given_back += [task.label for task in [*tasks[self._size :], *self._stock]]
        self._stock = list(tasks[: self._size])
        if self.task.keep_composition:
            self._stock, self.task = self._rebatched(self._stock), replace(self.task, keep_composition=False)

    def _rebatched(self, tasks: Sequence[MemberTask]) -> list[MemberTask]:
        """Return the members marked as trained in another pack than planned."""
        rebatched = [replace(task, rebatched=True) for task in tasks]
        self._tasks |= {task.label: task for task in rebatched}
        return rebatched

    def _keep_results(self) -> None:
        if self._pack:
            self._results += self._pack.results
            self._pack.results = []

    def _labels(self) -> list[int]:
        return [member.label for member in self._pack.members] if self._pack else []

    def _saved_states(self, tasks: Sequence[MemberTask]) -> tuple[list[MemberState], dict[str, Any]]:
        """Return the members' states in their newest checkpoints, and the last checkpoint's values for the pack.

        A damaged checkpoint is set aside, and its members start anew.
        """
        labels = {task.label for task in tasks}
        states: dict[int, MemberState] = {}
        values: dict[str, Any] = {}
        own = self.task.pack  # read last, because it is newer than the packs that members came from
        for pack in [*sorted({task.origin for task in tasks if task.origin is not None} - {own}), own]:
            try:
                newest = self._checkpoints.newest(pack)
            except pinncore.CheckpointError as problem:
                self._notes.append(f"checkpoint set aside: {problem}")
                continue
            if newest is None:
                continue
            saved, values = newest
            states |= {state.label: state for state in saved if state.label in labels}
        return list(states.values()), values

    # ---- reports to the owner ---------------------------------------------------------------------------------------

    def _rungs_reached(self, pack: pinncore.Pack) -> list[RungReached]:
        reached = []
        for row, member in enumerate(pack.members):
            rungs = self._rungs[member.label]
            while rungs and (values := pack.recorded(row, rungs[0] * pack.planned(row) // 1000)) is not None:
                reached.append(RungReached(member.label, rungs.pop(0), values))
        return reached

    def _end_stalled(self, pack: pinncore.Pack) -> None:
        rule = self.task.patience
        if rule is None:
            return
        stalled = []
        for row, member in enumerate(pack.members):
            steps = [int(step) for step in pack.course(row, "step")]
            if self._judged.get(member.label) == len(steps):
                continue
            self._judged[member.label], values = len(steps), pack.course(row, self.task.metric)
            if has_stalled(rule, steps, values, pack.planned(row)):
                stalled.append(member.label)
        for label in stalled:
            pack.stop(label, pinncore.StopReason.PRUNED)

    def _report(self, reached: list[RungReached]) -> PackReport:
        self._keep_results()
        task, clock_s = self.task, self._clock()
        now, started = self._now(), self._started
        records = [
            untrained(task, self._tasks[label], FAIL, started.get(label, now), now, failure)
            for label, failure in self._failures.items()
        ]
        records += [untrained(task, member, PRUNED, now, now, "pruned") for member in self._never_begun]
        records += [
            record_of(task, self._tasks[result.label], result, started[result.label], now) for result in self._results
        ]
        report = PackReport(
            task.slot,
            task.lease,
            task.attempt,
            task.pack,
            self._progress(),
            left=self.left,
            saved=self._saved and not self._stock,
            records=records,
            rungs=reached,
            given_back=tuple(self._given_back),
            size=self._size,
            notes=self._notes,
            seconds=clock_s - self._reported_at,
        )
        self._results, self._failures, self._never_begun = [], {}, []
        self._given_back, self._notes, self._reported_at = [], [], clock_s
        return report

    def _progress(self) -> PackProgress:
        pack = self._pack
        if not pack:
            return PackProgress()
        phases = {pack.stage(row) for row in range(pack.active)}
        return PackProgress(
            members=pack.active,
            phase=phases.pop() if len(phases) == 1 else "mixed",
            under_way=sum(pack.fraction(row) for row in range(pack.active)),
            evaluations=sum(sum(member.evaluations.values()) for member in pack.progress),
            load=self._use.look(),
        )


def is_out_of_memory(problem: BaseException) -> bool:
    """Return whether an exception says that host or device memory ran out."""
    if isinstance(problem, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(problem).lower().replace("_", " ")  # the driver's own name is CUDA_ERROR_OUT_OF_MEMORY
    is_theirs = isinstance(problem, (RuntimeError, pinncore.PinnError))
    return is_theirs and ("allocate memory" in text or "out of memory" in text)
