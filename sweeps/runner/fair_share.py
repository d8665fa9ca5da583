"""Several studies on one cluster: each gets workers by its priority, as far as it has members for them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..owner.capacity import ClusterCapacity

NAME: Final = "pinnsweep-studies"  # of the actor that every driver of a cluster talks to
SILENT_S: Final = 15.0  # without a word, after which a study counts as gone
ASK_EVERY_S: Final = 2.0
HEAD: Final = "node:__internal_head__"  # a resource that Ray gives the head alone


def fair_shares(workers: int, priorities: Mapping[str, int]) -> dict[str, int]:
    """So many workers shared among studies by priority, at least one each; the first by name get what is left over."""
    total = sum(priorities.values())
    exact = {name: workers * priority / total for name, priority in priorities.items()}
    shares = {name: max(1, math.floor(share)) for name, share in exact.items()}
    left = workers - sum(shares.values())
    for name in sorted(exact, key=lambda name: (math.floor(exact[name]) - exact[name], name)):
        if left <= 0:
            break
        shares[name] += 1
        left -= 1
    return shares


@dataclass(frozen=True)
class Share:
    """Workers a study may hold while others want some too, and those it may ask for on a cluster that can grow."""

    held: int
    requested: int


class Studies:
    """Which studies run on a cluster; lives in an actor that the first driver makes, on the head."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[int, bool, float]] = {}

    def wanting(self, study: str, priority: int, is_hungry: bool) -> dict[str, int]:
        """Hear of a study; return the priorities of those that want workers, itself among them."""
        now = self._clock()
        self._heard[study] = (priority, is_hungry, now)
        self._heard = {name: word for name, word in self._heard.items() if now - word[2] < SILENT_S}
        return {name: priority for name, (priority, hungry, _) in self._heard.items() if hungry or name == study}


class Shares:
    """A driver's side: asks now and then how many workers its study may have."""

    def __init__(self, ray: Any, study_dir: Path, priority: int, max_packs: int | None) -> None:
        self._ray, self._study, self._priority = ray, str(study_dir.absolute()), priority
        self._max_packs = max_packs
        self._next = 0.0
        self._wanting: dict[str, int] = {}

    def ask(self, capacity: ClusterCapacity, *, is_hungry: bool) -> Share | None:
        """Return what the study may have now, None for as much as there is room for.

        Silence changes nothing: the actor, or its node, may be gone, and is made anew.
        """
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + ASK_EVERY_S
            with contextlib.suppress(Exception):
                asked = self._actor().wanting.remote(self._study, self._priority, is_hungry)
                self._wanting = self._ray.get(asked, timeout=ASK_EVERY_S)
        if len(self._wanting) < 2:
            return None
        workers = (capacity.places, capacity.requests(self._max_packs))
        held, requested = (fair_shares(each, self._wanting)[self._study] for each in workers)
        return Share(held, max(held, requested))

    def _actor(self) -> Any:
        """The one actor of the cluster, on its head: that node stays while others come and go."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        head = next((node for node in nodes if HEAD in node["Resources"]), nodes[0])
        there = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
        options = {"name": NAME, "get_if_exists": True, "lifetime": "detached", "num_cpus": 0, "max_restarts": -1}
        return self._ray.remote(Studies).options(scheduling_strategy=there, **options).remote()
