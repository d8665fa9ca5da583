"""Several studies on one cluster: each gets workers by its priority, as far as it has members for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = "pinnsweep-studies"  # of the actor that every driver of a cluster talks to
SILENT_S: Final = 15.0  # without a word, after which a study counts as gone
ASK_EVERY_S: Final = 2.0


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


class Studies:
    """Which studies run on a cluster; lives in an actor that the first driver makes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[int, bool, float]] = {}

    def share(self, study: str, priority: int, is_hungry: bool, workers: int) -> int | None:
        """How many of `workers` the study may hold, None where no other study wants any."""
        now = self._clock()
        self._heard[study] = (priority, is_hungry, now)
        self._heard = {name: word for name, word in self._heard.items() if now - word[2] < SILENT_S}
        wanting = {name: priority for name, (priority, hungry, _) in self._heard.items() if hungry or name == study}
        return fair_shares(workers, wanting)[study] if len(wanting) > 1 else None

    def leave(self, study: str) -> None:
        """Forget a study."""
        self._heard.pop(study, None)


class Shares:
    """A driver's side: asks now and then how many workers its study may have."""

    def __init__(self, ray: Any, study_dir: Path, priority: int, workers: int) -> None:
        self._ray, self._study, self._priority, self._workers = ray, str(study_dir.absolute()), priority, workers
        self._next, self._lanes = 0.0, None  # type: float, int | None

    def lanes(self, *, is_hungry: bool) -> int | None:
        """Workers the study may hold now, None for as many as there is room for."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + ASK_EVERY_S
            self._lanes = self._ask(is_hungry)
        return self._lanes

    def _ask(self, is_hungry: bool) -> int | None:
        actor = (
            self._ray.remote(Studies).options(name=NAME, get_if_exists=True, num_cpus=0, lifetime="detached").remote()
        )
        share: int | None = self._ray.get(
            actor.share.remote(self._study, self._priority, is_hungry, self._workers), timeout=ASK_EVERY_S
        )
        return share
