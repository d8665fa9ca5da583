"""Sharing of one cluster by several studies: workers by priority, as far as a study has members for them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..owner.capacity import ClusterCapacity
from .ray_cluster import alive_nodes, on_node

NAME: Final = "pinnsweep-studies"  # of the actor that every driver of a cluster talks to
SILENT_S: Final = 15.0  # after which a study that does not report counts as gone
ASK_EVERY_S: Final = 2.0
HEAD: Final = "node:__internal_head__"  # a resource that Ray gives to the head alone


def fair_shares(workers: int, priorities: Mapping[str, int]) -> dict[str, int]:
    """Return the number of workers of each study, by priority and at least one each.

    Workers left over by rounding go to the largest fractions, then to the first by name.
    """
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
    """Share of a study in a cluster that others use too.

    `held` is the number of workers that it may hold, `requested` the number that it may request where the cluster can
    grow.
    """

    held: int
    requested: int


class Studies:
    """Register of the studies that run on a cluster; lives in an actor on the head, made by the first driver."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[int, bool, float]] = {}  # priority, whether hungry, and when

    def register(self, study: str, priority: int, is_hungry: bool) -> dict[str, int]:
        """Record that a study runs; return the priorities of all that want workers, and of the study itself."""
        now = self._clock()
        self._reports[study] = (priority, is_hungry, now)
        self._reports = {name: report for name, report in self._reports.items() if now - report[2] < SILENT_S}
        return {name: priority for name, (priority, hungry, _) in self._reports.items() if hungry or name == study}


class Shares:
    """Driver's side of the sharing: asks now and then how many workers its study may have."""

    def __init__(self, ray: Any, study_dir: Path, priority: int, max_packs: int | None) -> None:
        self._ray, self._study, self._priority = ray, str(study_dir.absolute()), priority
        self._max_packs = max_packs
        self._next = 0.0
        self._priorities: dict[str, int] = {}

    def ask(self, capacity: ClusterCapacity, *, is_hungry: bool) -> Share | None:
        """Return the study's present share, None where it may take all there is room for.

        Without an answer the last priorities stay in force: the actor, or its node, may be gone, and is made anew.
        """
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + ASK_EVERY_S
            with contextlib.suppress(Exception):
                answer = self._actor().register.remote(self._study, self._priority, is_hungry)
                self._priorities = self._ray.get(answer, timeout=ASK_EVERY_S)
        if len(self._priorities) < 2:
            return None
        totals = (capacity.places, capacity.requests(self._max_packs))
        held, requested = (fair_shares(workers, self._priorities)[self._study] for workers in totals)
        return Share(held, max(held, requested))

    def _actor(self) -> Any:
        """Return the one actor of the cluster, on its head: that node stays while others come and go."""
        nodes = alive_nodes(self._ray)
        head = next((node for node in nodes if HEAD in node["Resources"]), nodes[0])
        options = {"name": NAME, "get_if_exists": True, "lifetime": "detached", "max_restarts": -1}
        return self._ray.remote(Studies).options(**options, **on_node(head["NodeID"])).remote()
