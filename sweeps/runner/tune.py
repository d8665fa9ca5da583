"""The study under Ray Tune: workers that take slots, and the trainable that trains segment by segment.

Tune places and restarts processes. Its checkpoints, loggers and `Tuner.restore` are not used: the study is the owner's.
A Tune trial is a slot: its worker takes one pack after the other until the owner has none left.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ..errors import StudyError
from ..owner.messages import Answer, PackReport, PackTask
from ..owner.owner import WAIT
from ..study import home
from ..study.log import LOG_FILE
from .preflight import Expected, check_here

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec
    from .worker import SlotWorker

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
    spec: StudySpec


class Question:
    """A method of the owner, asked again and again without waiting for it: Tune's loop must not be held up.

    An owner that cannot be reached gives no answer; the driver notices, and nothing is raised into Tune's loop.
    """

    def __init__(self, method: Any, *, every_s: float = 0.0) -> None:
        self._method, self._every_s = method, every_s
        self._asked: Any = None
        self._next = 0.0

    def answer(self, wait_s: float = 0.0, default: Any = None) -> Any:
        """The newest answer, once; `default` while there is none."""
        try:
            if self._asked is None and time.monotonic() >= self._next:
                self._asked, self._next = self._method.remote(), time.monotonic() + self._every_s
            if self._asked is None or not ray.wait([self._asked], timeout=wait_s)[0]:
                return default
            asked, self._asked = self._asked, None
            return ray.get(asked)
        except ray.exceptions.RayError:
            self._asked = None
            return default


class SlotSearcher(Searcher):
    """Hands out the owner's slots, without ever waiting for it in Tune's loop; `first` is one it need not ask for."""

    def __init__(self, owner: Any, first: tuple[int, str] | None) -> None:
        super().__init__()
        self._owner, self._offers, self._first = owner, Question(owner.offer), first
        self._slots: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next slot, None while there is none, FINISHED when there will be none."""
        if self._first is not None:
            (slot, device), self._first = self._first, None
            self._slots[trial_id] = slot
            return {"slot": slot, "device": device}
        offer = self._offers.answer(SUGGEST_WAIT_S, default=WAIT)
        if offer is None:
            return Searcher.FINISHED
        if offer == WAIT:
            return None
        self._slots[trial_id] = offer.slot
        return {"slot": offer.slot, "device": offer.device}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: workers report to the owner themselves."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the owner of a slot that Tune has given up."""
        slot = self._slots.pop(trial_id, None)
        if error and slot is not None:
            self._owner.lost.remote(
                slot, f"its process died again and again; see {LOG_FILE} of the study, and Ray's logs"
            )

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the owner remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Metric, mode and space are the study's own."""
        return True


class SlotStopper(tune.Stopper):
    """Ends the run when the owner is idle, or Tune would wait for places of slots that nobody wants any more.

    Other studies may hold those places for hours. Workers have `GRACE_S` to leave by themselves.
    """

    def __init__(self, owner: Any) -> None:
        self._idle = Question(owner.is_idle, every_s=LOOK_S)
        self._idle_since = float("inf")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never: a slot ends when its worker says so."""
        return False

    def stop_all(self) -> bool:
        """Whether the owner has been idle for a while; does not wait for it."""
        now, is_idle = time.monotonic(), self._idle.answer()
        if is_idle is not None:
            self._idle_since = min(self._idle_since, now) if is_idle else float("inf")
        return now - self._idle_since > GRACE_S


class SlotScheduler(FIFOScheduler):
    """Starts workers as they come, and drops those that wait for a place which nobody needs any more.

    An autoscaler would add a node for them.
    """

    def __init__(self, owner: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._surplus = Question(owner.surplus, every_s=LOOK_S)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next worker to start."""
        surplus = self._surplus.answer(default=())
        if surplus:
            for trial in [each for each in tune_controller.get_trials() if each.config["slot"] in surplus]:
                if trial.status == "PENDING":
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class _RemoteOwner:
    """The owner's methods as calls that wait for their answer."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def lease(self, slot: int, node: str | None = None, device: str | None = None) -> PackTask:
        task: PackTask = ray.get(self._actor.lease.remote(slot, node, device))
        return task

    def report(self, report: PackReport) -> Answer:
        answer: Answer = ray.get(self._actor.report.remote(report))
        return answer

    def cannot_write(self, reason: str) -> None:
        ray.get(self._actor.cannot_write.remote(reason))

    def preparing(self, slot: int, what: str) -> None:
        self._actor.preparing.remote(slot, what)  # without waiting: the owner may still be opening the study

    def unfit(self, slot: int, reason: str) -> None:
        ray.get(self._actor.unfit.remote(slot, reason))

    def failed(self, slot: int, detail: str) -> None:
        self._actor.failed.remote(slot, detail)  # without waiting, as above

    def has_work(self) -> bool:
        answer: bool = ray.get(self._actor.has_work.remote())
        return answer


def slot_trainable(context: WorkerContext) -> type[tune.Trainable]:
    """The trainable of one attempt: a segment a step."""

    class SlotTrainable(tune.Trainable):
        """A worker in the slot named in its configuration, on the device it was given there."""

        def setup(self, config: dict[str, Any]) -> None:
            actor = ray.get_actor(context.owner, namespace=context.namespace)
            self._owner, self._slot, self._device = _RemoteOwner(actor), config["slot"], config["device"]
            self._worker: SlotWorker | None = None  # not before the first step: Tune may yet drop this actor
            self._node: str = ray.get_runtime_context().get_node_id()
            self._study_dir = Path(context.study_dir)
            self._unfit: str | None = None
            with self._logged():
                try:
                    self._prepare()
                except StudyError as problem:
                    self._unfit = str(problem)

        def step(self) -> dict[str, Any]:
            with self._logged():
                return self._step()

        @contextlib.contextmanager
        def _logged(self) -> Iterator[None]:
            """What nobody expected goes into the study's log; Tune starts the worker again."""
            try:
                yield
            except ray.exceptions.RayError:
                raise  # the owner is gone, or does not answer
            except Exception:
                self._owner.failed(self._slot, traceback.format_exc())
                raise

        def _prepare(self) -> None:
            """All that takes time and does not need the owner, which may still be opening the study."""
            if self._node != context.driver_node:  # it may have joined after the driver looked at all of them
                check_here(self._study_dir, context.expected)
                if context.expected.store is not None:
                    self._study_dir = home.worker_home(context.expected.store)
            from .precompile import prepare  # with torch, which a driver does without

            prepare(context.spec, self._device, lambda doing: self._owner.preparing(self._slot, doing))

        def _step(self) -> dict[str, Any]:
            if self._unfit is not None:  # it keeps its place, or Tune would start the next slot right here
                self._owner.unfit(self._slot, self._unfit)
                time.sleep(IDLE_S)
                return {"slot": self._slot, "done": not self._owner.has_work()}
            if self._worker is None:
                from .worker import SlotWorker

                self._worker = SlotWorker(self._owner, self._study_dir, self._slot, self._node, self._device)
            self._worker.segment(SEGMENT_S)
            return {"slot": self._slot, "done": self._worker.done}

    return SlotTrainable
