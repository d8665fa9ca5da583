"""What a driver does while Ray Tune holds its main thread: progress, signals, the cluster's size, the study's share.

Two threads: `Pulse` asks the cluster, which may not answer for a minute; `Watcher` asks the owner and never waits long.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ..owner.capacity import ClusterCapacity
from ..study.log import log_exception
from .cluster_view import ClusterView
from .fair_share import Share, Shares
from .progress import Progress

LOOK_S: Final = 0.5  # between two looks at the owner for the progress view
PULSE_S: Final = 1.0  # between two looks at the cluster
OWNER_PATIENCE_S: Final = 30.0  # without an answer from the owner
ASK_S: Final = 5.0  # for one answer of the owner
CLUSTER_PATIENCE_S: Final = 10.0  # without an answer from the head of a cluster of this machine
SHARED_PATIENCE_S: Final = 40.0  # from another's, which may be restarted; after a minute Ray ends this process
ECHO_S: Final = 1.0  # after a signal, in which another one says nothing new
STOP_PATIENCE_S: Final = 60.0  # for workers to finish their stretch
SAVE_S: Final = 8.0  # for them to save when the cluster is lost


class Echoes:
    """Tells a signal from its echo: `timeout` sends one to the process and one to its group, which has it too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last = clock, float("-inf")

    def hears_one(self) -> bool:
        """Whether the signal that comes now is the echo of the one before."""
        now = self._clock()
        is_echo = now - self._last < ECHO_S
        self._last = self._last if is_echo else now
        return is_echo


class Pulse:
    """Looks at a cluster again and again: its capacity, and the study's share of it. Begins at once."""

    def __init__(self, view: ClusterView, shares: Shares | None) -> None:
        self._view, self._shares = view, shares
        self.capacity: ClusterCapacity = view.look()
        self.share: Share | None = None
        self.is_hungry = True  # whether the study could use more workers
        self.missing = ""  # what the cluster lacks while it has no place
        self._heard, self._over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    @property
    def silent_s(self) -> float:
        """Seconds since the cluster last answered."""
        return time.monotonic() - self._heard

    def stop(self) -> None:
        """Ask no more; a question that waits for its answer is left alone."""
        self._over.set()
        self._thread.join(PULSE_S)

    def _beat(self) -> None:
        while not self._over.wait(PULSE_S):
            with contextlib.suppress(Exception):  # no answer: `silent_s` tells
                self.capacity = self._view.look()
                self.missing = "" if self.capacity.places else self._view.missing()
                self._heard = time.monotonic()
            if self._shares is not None and not self._over.is_set():
                self.share = self._shares.ask(self.capacity, is_hungry=self.is_hungry)


class Watcher:
    """Shows the owner's snapshots, hands on signals, tells the owner what the cluster has room for.

    The first signal lets every worker finish its step and write a checkpoint; the second, or STOP_PATIENCE_S, ends the
    run at once. `leave` ends a process that Ray would abort, once all is saved; without it the main thread is told.
    """

    def __init__(
        self,
        ray: Any,
        actor: Any,
        begun: Any,
        progress: Progress,
        pulse: Pulse,
        study_dir: Path,
        *,
        wait_min: float,
        is_shared: bool,
        head_is_gone: Callable[[], bool],
        leave: Callable[[], None] | None,
    ) -> None:
        self._ray, self._actor, self._progress, self._pulse = ray, actor, progress, pulse
        self._begun, self._has_begun = begun, False
        self._study_dir, self._wait_s, self._leave = study_dir, 60 * wait_min, leave
        self._head_is_gone = head_is_gone
        self._cluster_patience_s = SHARED_PATIENCE_S if is_shared else CLUSTER_PATIENCE_S
        self._over, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._is_blind = False  # nothing can be shown any more
        self._told_capacity: tuple[ClusterCapacity, Share | None] | None = None
        self._stop_by: float | None = None
        self._no_place_since: float | None = None
        self._unfit: set[str] = set()
        self._heard = time.monotonic()
        self.told = 0  # finished trials that were shown
        self.lost = ""  # why the run cannot go on, in words
        self.owner_is_gone = False

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    @contextlib.contextmanager
    def stops_on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the study; the second one raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        echoes = Echoes()

        def stop(number: int, frame: object) -> None:
            is_echo = echoes.hears_one()
            if self.lost or (self._stopping.is_set() and not is_echo):
                raise KeyboardInterrupt
            self._stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self) -> None:
        """Look until the run is over; nothing that goes wrong here may leave signals without effect."""
        while not self._over.wait(LOOK_S):
            try:
                self._look()
            except self._ray.exceptions.RayError as problem:
                self._owner_is_silent(isinstance(problem, self._ray.exceptions.ActorDiedError))
            except Exception as problem:
                self._show(self._progress.message, log_exception(self._study_dir, "driver", problem))
            if self._over.is_set():
                return
            if self._head_is_gone() or self._pulse.silent_s > self._cluster_patience_s:
                self._save_without_cluster()
            if self._stop_by is not None and time.monotonic() > self._stop_by:
                _thread.interrupt_main()
                return
            if self.lost:
                return

    def _look(self) -> None:
        if not self._has_begun:
            if not self._ray.wait([self._begun], timeout=0)[0]:
                self._heard = time.monotonic()  # a large study takes its time to open
                return
            self._has_begun = True
            try:
                self._answer(self._begun)
            except self._ray.exceptions.RayError:
                self._interrupt("the study could not be opened")  # the driver asks why
                return
        if self._stopping.is_set() and self._stop_by is None:
            self._stop_by = time.monotonic() + STOP_PATIENCE_S
            self._show(
                self._progress.message, "Stopping: finishing and saving the current step. Ctrl-C again to stop now"
            )
            self._answer(self._actor.stop.remote())
        snapshot = self._answer(self._actor.snapshot.remote(self.told))
        self._heard = time.monotonic()
        self._show(self._progress.update, snapshot)
        self.told = snapshot["finished_count"]
        self._pulse.is_hungry = bool(snapshot["counts"]["WAITING"])
        capacity, share = self._pulse.capacity, self._pulse.share
        if (capacity, share) != self._told_capacity:
            self._actor.set_capacity.remote(capacity)
            self._actor.share.remote(*((share.held, share.requested) if share else (None, None)))
            self._told_capacity = (capacity, share)
        for reason in set(snapshot["unfit"]) - self._unfit:
            self._unfit.add(reason)
            self._show(self._progress.message, f"warning: {reason}")
        self._wait_for_places(snapshot)

    def _wait_for_places(self, snapshot: dict[str, Any]) -> None:
        """A cluster on which nothing can train is waited for, visibly, and not for ever."""
        missing = self._pulse.missing
        if not missing or snapshot["packs"] or self._stopping.is_set():
            self._no_place_since = None
            return
        now = time.monotonic()
        if self._no_place_since is None:
            self._no_place_since = now
            self._show(self._progress.message, f"waiting for the cluster: {missing}")
        elif now - self._no_place_since > self._wait_s:
            self._interrupt(
                f"the cluster did not grow within {self._wait_s / 60:g} min (resources.wait_min): {missing}. Add such "
                "a node, or ask for less a pack"
            )

    def _answer(self, asked: Any) -> Any:
        return self._ray.get(asked, timeout=ASK_S)

    def _show(self, shown: Callable[[Any], None], what: Any) -> None:
        """Show something; where that fails the run goes on without."""
        if self._is_blind:
            return
        try:
            shown(what)
        except Exception as problem:
            self._is_blind = True
            log_exception(self._study_dir, "progress view", problem)

    def _owner_is_silent(self, is_dead: bool) -> None:
        """A busy cluster may not get through to the owner for a moment; without it Tune would start workers again."""
        if self._over.is_set():
            return
        if is_dead:
            self._owner_is_lost("its process died")
        elif time.monotonic() > self._heard + OWNER_PATIENCE_S:
            self._owner_is_lost(f"it gave no answer for {OWNER_PATIENCE_S:g} s")

    def _owner_is_lost(self, reason: str) -> None:
        self.owner_is_gone = True
        self._interrupt(reason)

    def _save_without_cluster(self) -> None:
        """Calls between processes still get through for a minute: let workers save and the owner write the end."""
        deadline = time.monotonic() + SAVE_S
        with contextlib.suppress(Exception):
            self._answer(self._actor.stop.remote())
            while time.monotonic() < deadline and self._answer(self._actor.snapshot.remote(0))["packs"]:
                time.sleep(LOOK_S / 5)
            self._answer(self._actor.close.remote())
        is_gone = "is gone" if self._head_is_gone() else f"gave no answer for {self._pulse.silent_s:.0f} s"
        reason = f"the head of the Ray cluster (its GCS) {is_gone}"
        if self._leave is not None:
            self._show(self._progress.message, f"{reason}; what was trained is saved")
            self._leave()
        self._interrupt(reason)

    def _interrupt(self, reason: str) -> None:
        self.lost = reason
        self._stopping.set()
        _thread.interrupt_main()
