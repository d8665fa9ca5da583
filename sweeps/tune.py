"""The study under Ray Tune: workers that take lanes, and the trainable that trains segment by segment.

Tune places and restarts processes. Its checkpoints, loggers and `Tuner.restore` are not used: the study is the owner's.
A Tune trial is a lane: its worker takes one pack after the other until the owner has none left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.search import Searcher

from . import homes
from .errors import StudyError
from .packs import Answer, PackReport, PackTask
from .preflight import Expected, check_here
from .study import WAIT

if TYPE_CHECKING:
    from .worker import LaneWorker

SUGGEST_WAIT_S = 0.008  # suggest runs in Tune's loop and must not hold it up
SEGMENT_S = 5.0  # between two checkpoints
IDLE_S = 2.0  # between two questions of a worker that may not train
LOOK_S = 0.5  # between two questions whether the end has come
GRACE_S = 1.0  # for workers to leave by themselves; Tune gives them seconds more


@dataclass(frozen=True)
class WorkerContext:
    """What every worker of an attempt knows: where the study is, who owns it, what its machine must find there."""

    study_dir: str
    owner: str
    namespace: str
    driver_node: str
    expected: Expected


class LaneSearcher(Searcher):
    """Hands out the owner's lanes, without ever waiting for it in Tune's loop."""

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self._owner = owner
        self._asked: Any = None
        self._lanes: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next lane, None while there is none, FINISHED when there will be none."""
        self._asked = self._asked if self._asked is not None else self._owner.next_lane.remote()
        ready, _ = ray.wait([self._asked], timeout=SUGGEST_WAIT_S)
        if not ready:
            return None
        lane = ray.get(self._asked)
        self._asked = None
        if lane is None:
            return Searcher.FINISHED
        if lane == WAIT:
            return None
        self._lanes[trial_id] = lane
        return {"lane": lane}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: workers report to the owner themselves."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the owner of a lane that Tune has given up."""
        lane = self._lanes.pop(trial_id, None)
        if error and lane is not None:
            self._owner.lost.remote(lane, "its process died again and again; the log is in Ray's session folder")

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the owner remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Metric, mode and space are the study's own."""
        return True


class LaneStopper(tune.Stopper):
    """Ends the run when the owner is idle, or Tune would wait for places of lanes that nobody wants any more.

    Other studies may hold those places for hours. Workers have `GRACE_S` to leave by themselves.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._asked: Any = None
        self._next, self._idle_since = 0.0, float("inf")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never: a lane ends when its worker says so."""
        return False

    def stop_all(self) -> bool:
        """Whether the owner has been idle for a while; does not wait for it."""
        now = time.monotonic()
        if self._asked is None and now >= self._next:
            self._asked, self._next = self._owner.is_idle.remote(), now + LOOK_S
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            self._idle_since = min(self._idle_since, now) if ray.get(self._asked) else float("inf")
            self._asked = None
        return now - self._idle_since > GRACE_S


class _RemoteOwner:
    """The owner's methods as calls that wait for their answer."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def lease(self, lane: int, node: str | None = None) -> PackTask:
        task: PackTask = ray.get(self._actor.lease.remote(lane, node))
        return task

    def report(self, report: PackReport) -> Answer:
        answer: Answer = ray.get(self._actor.report.remote(report))
        return answer

    def cannot_write(self, reason: str) -> None:
        ray.get(self._actor.cannot_write.remote(reason))


def lane_trainable(context: WorkerContext) -> type[tune.Trainable]:
    """The trainable of one attempt: a segment a step."""

    class LaneTrainable(tune.Trainable):
        """A worker in the lane named in its configuration."""

        def setup(self, config: dict[str, Any]) -> None:
            self._owner, self._lane = ray.get_actor(context.owner, namespace=context.namespace), config["lane"]
            self._worker: LaneWorker | None = None  # not before the first step: Tune may yet drop this actor
            self._node: str = ray.get_runtime_context().get_node_id()
            self._unfit: str | None = None
            self._study_dir = Path(context.study_dir)
            if self._node != context.driver_node:  # it may have joined after the driver looked at all of them
                try:
                    check_here(self._study_dir, context.expected)
                    if context.expected.store is not None:
                        self._study_dir = homes.worker_home(context.expected.store)
                except StudyError as problem:
                    self._unfit = str(problem)
                    ray.get(self._owner.unfit.remote(self._lane, self._unfit))

        def step(self) -> dict[str, Any]:
            if self._unfit is not None:  # it keeps its place, or Tune would start the next lane right here
                time.sleep(IDLE_S)
                return {"lane": self._lane, "done": not ray.get(self._owner.has_work.remote())}
            if self._worker is None:
                from .worker import LaneWorker  # with torch, which a driver on a cluster does without

                self._worker = LaneWorker(_RemoteOwner(self._owner), self._study_dir, self._lane, self._node)
            self._worker.segment(SEGMENT_S)
            return {"lane": self._lane, "done": self._worker.done}

    return LaneTrainable
