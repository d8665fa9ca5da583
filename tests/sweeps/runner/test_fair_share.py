"""Shares of several studies on one cluster, and what they become when the actor does not answer."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.owner.capacity import ClusterCapacity
from sweeps.runner.fair_share import HEAD, Share, Shares, Studies, fair_shares

from ..clusters import Node, command, kill, named, wait_for
from ..small import table, write_study

WORKER_ID, HEAD_ID = "a" * 56, "b" * 56
FIXED = ClusterCapacity(places=4, device="cpu")


class OneActor:
    """Fake of the part of Ray that a driver uses: two nodes, and an actor that can be made silent."""

    def __init__(self) -> None:
        self.studies, self.is_silent, self.where = Studies(), False, ""

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "NodeID": WORKER_ID, "Resources": {"CPU": 4}},
            {"Alive": True, "NodeID": HEAD_ID, "Resources": {"CPU": 0, HEAD: 1.0}},
        ]

    def remote(self, actor_class: type) -> OneActor:
        assert actor_class is Studies
        return self

    def options(self, *, scheduling_strategy: Any, **options: Any) -> Any:
        self.where = scheduling_strategy.node_id
        actor, method = type("Actor", (), {})(), type("Method", (), {})()
        method.remote = self.studies.register
        actor.register, actor.remote = method, lambda: actor
        return actor

    def get(self, answer: Any, *, timeout: float) -> Any:
        if self.is_silent:
            raise TimeoutError("the actor's node is gone")
        return answer


def share_of(
    ray: OneActor, name: str, capacity: ClusterCapacity = FIXED, *, max_packs: int | None = None
) -> Share | None:
    shares = Shares(ray, Path(name), 1, max_packs)
    return shares.ask(capacity, is_hungry=True)


def test_alone_there_is_no_share_and_two_share_evenly_on_the_head() -> None:
    ray = OneActor()
    assert share_of(ray, "first") is None and ray.where == HEAD_ID
    assert share_of(ray, "second") == Share(2, 2)


def test_a_cluster_that_can_grow_is_asked_to_by_each_study() -> None:
    ray = OneActor()
    share_of(ray, "first")
    grows = ClusterCapacity(places=2, device="cpu", grows=True, at_most=8)
    assert share_of(ray, "second", grows) == Share(1, 4)
    assert share_of(ray, "second", ClusterCapacity(places=8, device="cpu", grows=True, at_most=8)) == Share(4, 4)


def test_silence_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = OneActor()
    share_of(ray, "first")
    shares = Shares(ray, Path("second"), 1, None)
    assert shares.ask(FIXED, is_hungry=True) == Share(2, 2)
    ray.is_silent, shares._next = True, 0.0
    assert shares.ask(FIXED, is_hungry=True) == Share(2, 2)
    assert shares.ask(ClusterCapacity(places=8, device="cpu"), is_hungry=True) == Share(4, 4), "nor the cluster's size"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_nobody_is_left_without_a_worker(workers: int) -> None:
    assert min(fair_shares(workers, {"a": 1, "b": 5}).values()) == 1


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(400)
def test_the_sharing_actor_and_nodes_killed_twenty_times(tmp_path: Path) -> None:
    """One study, on a head while other nodes come and go."""
    nodes = [Node(tmp_path, "head", cpus=1)]
    head = nodes[0]
    file = write_study(tmp_path / "data", epochs=6000, iterations=300, thin=1, trials=24, pack=1)
    log = tmp_path / "run.log"
    with open(log, "w") as output:
        words = command("run", file, "--root", tmp_path, "--address", head.address, "--plain")
        driver = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        kills = 0
        while kills < 20 and driver.poll() is None:
            wait_for(lambda: named([head.process.pid], "ray::Studies"), driver)
            if kills % 5 == 2:
                nodes.append(Node(tmp_path, f"node{kills}", head=head.address))
            if kills % 5 == 4:
                nodes.pop().kill()
            kills += sum(kill(pid) for pid in named([head.process.pid], "ray::Studies"))
            time.sleep(0.5)
        assert kills >= 20, log.read_text()
        driver.wait(timeout=300)
        assert driver.returncode == 0, log.read_text()
        assert table(tmp_path / "small", "trials")["trial"].to_pylist() == list(range(24))
    finally:
        driver.kill()
        driver.wait(timeout=30)
        for node in reversed(nodes):
            node.kill()
