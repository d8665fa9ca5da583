"""The driver's threads with an owner, a cluster or a terminal that fails, without Ray."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import exceptions

from sweeps.owner.capacity import ClusterCapacity
from sweeps.owner.messages import PackProgress
from sweeps.owner.snapshot import StudySnapshot
from sweeps.runner import watcher
from sweeps.runner.watcher import ECHO_S, Echoes, Watcher
from tests.cluster.waiting import eventually


class Owner:
    """Fake owner whose answers are values or exceptions to raise; a remote call is its own answer."""

    def __init__(self) -> None:
        self.stopped = self.closed = False
        self.fails: Exception | None = None
        self.packs = {0: PackProgress()}

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: lambda: getattr(self, f"do_{name}")(*arguments))

    def do_begun(self) -> None: ...
    def do_set_capacity(self, capacity: object) -> None: ...
    def do_share(self, held: object, requested: object) -> None: ...

    def do_stop(self) -> None:
        self.stopped, self.packs = True, {}

    def do_close(self) -> None:
        self.closed = True

    def do_snapshot(self, since: int) -> StudySnapshot:
        if self.fails is not None:
            raise self.fails
        return StudySnapshot("small", "rel_l2", True, 1, {"WAITING": 1}, packs=self.packs)


class View:
    """Fake progress view that can break."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.breaks = False

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, snapshot: object) -> None:
        if self.breaks:
            raise ValueError("a bug in the view")


class Scene:
    """Watcher of the fake owner and view; `left` says that it ended its process."""

    def __init__(self, folder: Path, *, wait_min: float = 1.0) -> None:
        self.owner, self.view, self.left, self.head_is_gone = Owner(), View(), threading.Event(), False
        self.told: list[str] = []  # lines to show, of what is told to others
        self.pulse = SimpleNamespace(capacity=ClusterCapacity(1, "cpu"), share=None, missing="", silent_s=0.0)
        ray = SimpleNamespace(
            exceptions=exceptions,
            get=lambda answer, timeout: answer(),
            wait=lambda answers, timeout: (answers, []),
        )
        self.watcher = Watcher(
            ray,
            self.owner,
            self.owner.begun.remote(),
            self.view,  # type: ignore[arg-type]
            self.pulse,  # type: ignore[arg-type]
            folder,
            SimpleNamespace(is_shared=False, head_is_gone=lambda: self.head_is_gone),  # type: ignore[arg-type]
            wait_min=wait_min,
            leave=self.left.set,
            tell=lambda snapshot: [self.told.pop()] if self.told else [],
        )


@pytest.fixture
def start_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Start a watcher that looks often and does not interrupt the main thread."""
    monkeypatch.setattr(watcher, "LOOK_S", 0.01)
    monkeypatch.setattr(watcher, "_thread", SimpleNamespace(interrupt_main=lambda: None))
    with contextlib.ExitStack() as stack:

        def start(**options: float) -> Scene:
            started = Scene(tmp_path, **options)
            stack.enter_context(started.watcher)
            return started

        yield start


def test_an_exception_in_the_view_leaves_signals_in_force_and_is_logged(
    start_scene: Callable[..., Scene], tmp_path: Path
) -> None:
    scene = start_scene()
    scene.view.breaks = True
    eventually(lambda: (tmp_path / "pinnsweep.log").exists())
    with scene.watcher.stops_on_signals():
        signal.raise_signal(signal.SIGINT)
        eventually(lambda: scene.owner.stopped)
    assert "a bug in the view" in (tmp_path / "pinnsweep.log").read_text()


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_without_the_head_everything_is_saved_before_the_process_is_left(
    start_scene: Callable[..., Scene], how: str
) -> None:
    scene = start_scene()
    if how == "gone":
        scene.head_is_gone = True
    else:
        scene.pulse.silent_s = 11.0
    eventually(scene.left.is_set)
    assert scene.owner.stopped and scene.owner.closed
    assert any("saved" in text for text in scene.view.messages)


def test_a_dead_owner_ends_the_run(start_scene: Callable[..., Scene]) -> None:
    scene = start_scene()
    scene.owner.fails = exceptions.ActorDiedError()
    eventually(lambda: scene.watcher.owner_is_gone)
    assert scene.watcher.lost == "its process died"


def test_a_cluster_without_a_place_is_waited_for_and_not_for_ever(start_scene: Callable[..., Scene]) -> None:
    scene = start_scene(wait_min=0.001)
    scene.owner.packs, scene.pulse.missing = {}, "no node has room for a pack, which needs 2 cores; nodes have 1 core"
    eventually(lambda: scene.watcher.lost)
    assert scene.view.messages == [f"waiting for the cluster: {scene.pulse.missing}"]
    assert "did not grow within 0.001 min (resources.wait_min): no node has room" in scene.watcher.lost


def test_what_others_could_not_be_told_is_shown(start_scene: Callable[..., Scene]) -> None:
    scene = start_scene()
    scene.told.append("warning: wandb: no route")
    eventually(lambda: scene.view.messages)
    assert scene.view.messages == ["warning: wandb: no route"]


def test_the_echo_of_a_signal_is_none() -> None:
    clock = iter((0.0, ECHO_S / 2, 2 * ECHO_S, 2 * ECHO_S))
    echoes = Echoes(lambda: next(clock))
    assert [echoes.is_echo() for _ in range(4)] == [False, True, False, True]


def test_a_second_signal_ends_the_run_at_once(start_scene: Callable[..., Scene]) -> None:
    scene = start_scene()
    with scene.watcher.stops_on_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # an echo
        time.sleep(ECHO_S)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
