"""A study under Ray Tune: workers in slots, and the trainable that trains segment by segment.

Tune places and restarts processes. Its checkpoints, loggers and `Tuner.restore` are not used, because the owner keeps
the study. A trial of Tune is a worker slot: its worker trains one pack after the other until the owner has none left.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from pinncore.errors import PinnError

from ..errors import StudyError
from ..owner.owner import WAIT
from ..owner.slots import SlotOffer
from ..study import home
from ..study.log import LOG_FILE
from .preflight import Expected, check_here
from .ray_cluster import NAMESPACE

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec
    from .worker import SlotWorker

SUGGEST_WAIT_S = 0.008  # `suggest` runs in Tune's loop and must not block it
SEGMENT_S = 5.0  # between two checkpoints
IDLE_S = 2.0  # between two checks of a worker that cannot train
LOOK_S = 0.5  # between two checks for the end of the study
UNANSWERED = ("preparing", "measured", "failed")
GRACE_S = 1.0  # for workers to end by themselves; Tune gives them some seconds more


@dataclass(frozen=True)
class WorkerContext:
    """Facts for every worker of an attempt: the study, its owner, and what the worker's machine must find."""

    study_dir: str
    owner: str
    driver_node: str
    expected: Expected
    spec: StudySpec


class Question:
    """Repeated call of a method of the owner that does not block Tune's loop.

    An owner that cannot be reached gives no answer. The driver notices that; nothing is raised in Tune's loop.
    """

    def __init__(self, method: Any, *, every_s: float = 0.0) -> None:
        self._method, self._every_s = method, every_s
        self._pending: Any = None  # reference to the answer
        self._next = 0.0

    def answer(self, wait_s: float = 0.0, default: Any = None) -> Any:
        """Return the newest answer, each one once, or `default` while there is none."""
        try:
            if self._pending is None and time.monotonic() >= self._next:
                self._pending, self._next = self._method.remote(), time.monotonic() + self._every_s
            if self._pending is None or not ray.wait([self._pending], timeout=wait_s)[0]:
                return default
            reference, self._pending = self._pending, None
            return ray.get(reference)
        except ray.exceptions.RayError:
            self._pending = None
            return default


class NoReport(tune.ProgressReporter):
    """Reporter of Tune that says nothing; its usual one clears the outputs of a notebook's cell."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Return False: the driver has a view of its own."""
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Do nothing."""


class SlotSearcher(Searcher):
    """Searcher that hands out the owner's slots without blocking Tune's loop.

    `first` is an offer that the owner need not be asked for.
    """

    def __init__(self, owner: Any, first: SlotOffer | None) -> None:
        super().__init__()
        self._owner, self._offers, self._first = owner, Question(owner.offer), first
        self._slots: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """Return the next slot and its device, None while there is none, FINISHED when there will be none."""
        offer, self._first = self._first or self._offers.answer(SUGGEST_WAIT_S, default=WAIT), None
        if offer is None:
            return Searcher.FINISHED
        if offer == WAIT:
            return None
        self._slots[trial_id] = offer.slot
        return {"slot": offer.slot, "device": offer.device}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the owner that Tune has given up a slot."""
        slot = self._slots.pop(trial_id, None)
        if error and slot is not None:
            self._owner.lost.remote(slot, f"its process died repeatedly; see {LOG_FILE} of the study, and Ray's logs")

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the owner keeps the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: there is nothing to restore."""


class SlotStopper(tune.Stopper):
    """Stopper that ends the run when the owner is idle.

    Without it Tune would wait for resources of slots that are no longer needed, which other studies may hold for hours.
    Workers have `GRACE_S` to end by themselves.
    """

    def __init__(self, owner: Any) -> None:
        self._idle = Question(owner.is_idle, every_s=LOOK_S)
        self._idle_since = float("inf")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: a slot ends when its worker says so."""
        return False

    def stop_all(self) -> bool:
        """Return whether the owner has been idle for `GRACE_S`, without waiting for its answer."""
        now, is_idle = time.monotonic(), self._idle.answer()
        if is_idle is not None:
            self._idle_since = min(self._idle_since, now) if is_idle else float("inf")
        return now - self._idle_since > GRACE_S


class SlotScheduler(FIFOScheduler):
    """Scheduler that starts workers in order, and drops pending ones that are no longer needed.

    An autoscaler would add a node for those.
    """

    def __init__(self, owner: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._surplus = Question(owner.surplus, every_s=LOOK_S)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the next worker to start."""
        surplus = self._surplus.answer(default=())
        if surplus:
            for trial in [trial for trial in tune_controller.get_trials() if trial.config["slot"] in surplus]:
                if trial.status == "PENDING":
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class RemoteOwner:
    """The owner in another process; its methods are called as if it were in this one.

    Calls in `UNANSWERED` do not wait: the owner may still be opening the study.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._actor, name).remote
        return method if name in UNANSWERED else lambda *arguments: ray.get(method(*arguments))


def slot_trainable(context: WorkerContext) -> type[tune.Trainable]:
    """Return the trainable of one attempt, which trains one segment in each step."""

    class SlotTrainable(tune.Trainable):
        """Worker in the slot and on the device of its configuration."""

        def setup(self, config: dict[str, Any]) -> None:
            actor = ray.get_actor(context.owner, namespace=NAMESPACE)
            self._owner: Any = RemoteOwner(actor)
            self._slot, self._device = config["slot"], config["device"]
            self._worker: SlotWorker | None = None  # made in the first step, because Tune may drop this actor before
            self._node: str = ray.get_runtime_context().get_node_id()
            self._study_dir = Path(context.study_dir)
            self._unfit: str | None = None
            with self._logged():
                try:
                    self._prepare()
                except (StudyError, PinnError) as problem:
                    self._unfit = str(problem)

        def step(self) -> dict[str, Any]:
            with self._logged():
                return self._step()

        @contextlib.contextmanager
        def _logged(self) -> Iterator[None]:
            """Record unexpected exceptions in the study's log; Tune starts the worker again."""
            try:
                yield
            except ray.exceptions.RayError:
                raise  # the owner is gone, or does not answer
            except Exception:
                self._owner.failed(self._slot, traceback.format_exc())
                raise

        def _prepare(self) -> None:
            """Do all that takes time and does not need the owner, which may still be opening the study."""
            if self._node != context.driver_node:  # it may have joined after the driver checked the nodes
                check_here(self._study_dir, context.expected)
                if context.expected.store is not None:
                    self._study_dir = home.worker_home(context.expected.store)
            from .precompile import prepare  # imports torch, which a driver does not need

            size = prepare(context.spec, self._device, lambda step: self._owner.preparing(self._slot, step))
            if size is not None:
                self._owner.measured(size)

        def _step(self) -> dict[str, Any]:
            if self._unfit is not None:  # it keeps its resources, or Tune would start the next slot here
                self._owner.unfit(self._slot, self._unfit)
                time.sleep(IDLE_S)
                return {"slot": self._slot, "done": not self._owner.has_work()}
            if self._worker is None:
                from .worker import SlotWorker

                self._worker = SlotWorker(self._owner, self._study_dir, self._slot, self._node, self._device)
            self._worker.segment(SEGMENT_S)
            return {"slot": self._slot, "done": self._worker.done}

    return SlotTrainable
