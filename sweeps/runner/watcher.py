"""Duties of a driver while Ray Tune holds its main thread: progress, signals, the cluster's size, the study's share.

There are two threads. `Pulse` asks the cluster, which may not answer for a minute. `Watcher` asks the owner and never
waits long.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from ..owner.capacity import ClusterCapacity
from ..owner.snapshot import StudySnapshot
from ..states import WAITING
from ..study.log import log_exception
from .cluster_view import ClusterView
from .fair_share import Share, Shares
from .progress import Progress
from .ray_cluster import RayCluster

LOOK_S: Final = 0.5  # between two looks at the owner for the progress view
PULSE_S: Final = 1.0  # between two looks at the cluster
OWNER_PATIENCE_S: Final = 30.0  # without an answer from the owner, which then counts as gone
ASK_S: Final = 5.0  # to wait for one answer of the owner
CLUSTER_PATIENCE_S: Final = 10.0  # without an answer from the head of a cluster of this machine
SHARED_PATIENCE_S: Final = 40.0  # of a joined cluster, which may restart; after a minute Ray ends this process
ECHO_S: Final = 1.0  # after a signal, in which another one counts as its echo
STOP_PATIENCE_S: Final = 60.0  # for workers to finish their step and save
SAVE_S: Final = 8.0  # for workers to save when the cluster is lost


class Echoes:
    """Filter for the echo of a signal: `timeout` signals the process and then its group, which includes it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last = clock, float("-inf")

    def is_echo(self) -> bool:
        """Return whether the signal that arrives now is the echo of the one before."""
        now = self._clock()
        is_echo = now - self._last < ECHO_S
        self._last = self._last if is_echo else now
        return is_echo


@contextlib.contextmanager
def on_signals(numbers: Iterable[signal.Signals], act: Callable[[bool], None]) -> Iterator[None]:
    """Call `act` when a signal arrives, with whether it is an echo; only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    echoes = Echoes()
    handlers = {number: signal.signal(number, lambda *_: act(echoes.is_echo())) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Pulse:
    """Thread that asks a cluster every second for its capacity and the study's share of it; begins at once."""

    def __init__(self, view: ClusterView, shares: Shares | None) -> None:
        self._view, self._shares = view, shares
        self.capacity: ClusterCapacity = view.look()
        self.share: Share | None = None
        self.is_hungry = True  # the study could use more workers
        self.missing = ""  # what the cluster lacks while it has room for no pack
        self._answered_at, self._over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    @property
    def silent_s(self) -> float:
        """Return the seconds since the cluster last answered."""
        return time.monotonic() - self._answered_at

    def stop(self) -> None:
        """Stop asking; a call that still waits for its answer is left alone."""
        self._over.set()
        self._thread.join(PULSE_S)

    def _beat(self) -> None:
        while not self._over.wait(PULSE_S):
            with contextlib.suppress(Exception):  # `silent_s` counts the time without an answer
                self.capacity = self._view.look()
                self.missing = "" if self.capacity.places else self._view.missing()
                self._answered_at = time.monotonic()
            if self._shares is not None and not self._over.is_set():
                self.share = self._shares.ask(self.capacity, is_hungry=self.is_hungry)


class Watcher:
    """Thread that shows the owner's snapshots, hands on signals, and tells the owner the cluster's capacity.

    The first signal lets every worker finish its step and write a checkpoint. The second one, or STOP_PATIENCE_S after
    the first, ends the run at once. `leave` ends a process that Ray would abort, once all is saved; without it the main
    thread is interrupted. `tell` is called with every snapshot and returns lines to show; it must wait for nothing.
    """

    def __init__(
        self,
        ray: Any,
        actor: Any,
        begun: Any,
        progress: Progress,
        pulse: Pulse,
        study_dir: Path,
        cluster: RayCluster,
        *,
        wait_min: float,
        leave: Callable[[], None] | None,
        tell: Callable[[StudySnapshot], Iterable[str]] = lambda snapshot: (),
    ) -> None:
        self._ray, self._actor, self._progress, self._pulse = ray, actor, progress, pulse
        self._begun, self._has_begun = begun, False
        self._study_dir, self._cluster, self._wait_s, self._leave = study_dir, cluster, 60 * wait_min, leave
        self._tell = tell
        self._over, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._is_blind = False  # the progress view has failed
        self._sent_capacity: tuple[ClusterCapacity, Share | None] | None = None
        self._stop_by: float | None = None
        self._no_place_since: float | None = None
        self._unfit: set[str] = set()
        self._answered_at = time.monotonic()  # by the owner
        self.shown_count = 0  # finished trials that were shown
        self.lost = ""  # why the run cannot go on
        self.owner_is_gone = False

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def stops_on_signals(self) -> contextlib.AbstractContextManager[None]:
        """Let SIGINT and SIGTERM stop the study; the second one raises KeyboardInterrupt."""

        def stop(is_echo: bool) -> None:
            if self.lost or (self._stopping.is_set() and not is_echo):
                raise KeyboardInterrupt
            self._stopping.set()

        return on_signals([signal.SIGINT, signal.SIGTERM], stop)

    def _watch(self) -> None:
        """Look until the run is over; no error here may leave signals without effect."""
        while not self._over.wait(LOOK_S):
            try:
                self._look()
            except self._ray.exceptions.RayError as problem:
                self._owner_is_silent(isinstance(problem, self._ray.exceptions.ActorDiedError))
            except Exception as problem:
                self._show(self._progress.message, log_exception(self._study_dir, "driver", problem))
            if self._over.is_set():
                return
            patience_s = SHARED_PATIENCE_S if self._cluster.is_shared else CLUSTER_PATIENCE_S
            if self._cluster.head_is_gone() or self._pulse.silent_s > patience_s:
                self._save_without_cluster()
            if self._stop_by is not None and time.monotonic() > self._stop_by:
                _thread.interrupt_main()
                return
            if self.lost:
                return

    def _look(self) -> None:
        if not self._has_begun:
            if not self._ray.wait([self._begun], timeout=0)[0]:
                self._answered_at = time.monotonic()  # a large study takes long to open
                return
            self._has_begun = True
            try:
                self._answer(self._begun)
            except self._ray.exceptions.RayError:
                self._interrupt("the study could not be opened")  # the driver raises the reason
                return
        if self._stopping.is_set() and self._stop_by is None:
            self._stop_by = time.monotonic() + STOP_PATIENCE_S
            self._show(
                self._progress.message, "Stopping: finishing and saving the current step. Ctrl-C again to stop now."
            )
            self._answer(self._actor.stop.remote())
        snapshot = self._answer(self._actor.snapshot.remote(self.shown_count))
        self._answered_at = time.monotonic()
        self._show(self._progress.update, snapshot)
        self.shown_count = snapshot.finished_count
        self._pulse.is_hungry = snapshot.counts[WAITING] > 0
        capacity, share = self._pulse.capacity, self._pulse.share
        if (capacity, share) != self._sent_capacity:
            self._actor.set_capacity.remote(capacity)
            self._actor.share.remote(*((share.held, share.requested) if share else (None, None)))
            self._sent_capacity = (capacity, share)
        for reason in set(snapshot.unfit) - self._unfit:
            self._unfit.add(reason)
            self._show(self._progress.message, f"warning: {reason}")
        self._wait_for_places(snapshot)
        for line in self._tell(snapshot):
            self._show(self._progress.message, line)

    def _wait_for_places(self, snapshot: StudySnapshot) -> None:
        """Say that a cluster without room for a pack is waited for; interrupt the run after `resources.wait_min`."""
        missing = self._pulse.missing
        if not missing or snapshot.packs or self._stopping.is_set():
            self._no_place_since = None
            return
        now = time.monotonic()
        if self._no_place_since is None:
            self._no_place_since = now
            self._show(self._progress.message, f"waiting for the cluster: {missing}")
        elif now - self._no_place_since > self._wait_s:
            self._interrupt(
                f"the cluster did not grow within {self._wait_s / 60:g} min (resources.wait_min): {missing}. Add such "
                "a node, or lower resources.cpus_per_pack or resources.gpus_per_pack"
            )

    def _answer(self, reference: Any) -> Any:
        return self._ray.get(reference, timeout=ASK_S)

    def _show(self, show: Callable[[Any], None], content: Any) -> None:
        """Show a message or snapshot; where that fails the run goes on without the progress view."""
        if self._is_blind:
            return
        try:
            show(content)
        except Exception as problem:
            self._is_blind = True
            log_exception(self._study_dir, "progress view", problem)

    def _owner_is_silent(self, is_dead: bool) -> None:
        """Interrupt the run where the owner is lost; on a busy cluster it may be out of reach for a moment.

        Without the owner Tune would start workers again and again.
        """
        is_lost = is_dead or time.monotonic() > self._answered_at + OWNER_PATIENCE_S
        if is_lost and not self._over.is_set():
            self.owner_is_gone = True
            self._interrupt("its process died" if is_dead else f"it gave no answer for {OWNER_PATIENCE_S:g} s")

    def _save_without_cluster(self) -> None:
        """Let workers save and the owner close the study, while calls between processes still work for a minute."""
        deadline = time.monotonic() + SAVE_S
        with contextlib.suppress(Exception):
            self._answer(self._actor.stop.remote())
            while time.monotonic() < deadline and self._answer(self._actor.snapshot.remote(0)).packs:
                time.sleep(LOOK_S / 5)
            self._answer(self._actor.close.remote())
        is_gone = "is gone" if self._cluster.head_is_gone() else f"gave no answer for {self._pulse.silent_s:.0f} s"
        reason = f"the head of the Ray cluster (its GCS) {is_gone}"
        if self._leave is not None:
            self._show(self._progress.message, f"{reason}. All training so far is saved")
            self._leave()
        self._interrupt(reason)

    def _interrupt(self, reason: str) -> None:
        self.lost = reason
        self._stopping.set()
        _thread.interrupt_main()
