"""How many packs a cluster has room for, now and once it has grown, and on what device they train there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ASKED_BEYOND: Final = 64  # workers asked for beyond those there is room for, where nobody tells how far a cluster grows


@dataclass(frozen=True)
class ClusterCapacity:
    """Packs that the nodes of a cluster have room for.

    `places` are those there now; `grows` says whether an autoscaler adds nodes, and `at_most` how many packs there can
    be then, None where that is not known. `device` is what packs train on.
    """

    places: int
    device: str
    grows: bool = False
    at_most: int | None = None

    def planned(self, max_packs: int | None) -> int:
        """Return how many packs a study is planned to train at once, at least one."""
        grown = self.at_most if self.at_most is not None else (max_packs or 0) if self.grows else 0
        most = max(self.places, grown)
        return max(1, min(most, max_packs or most))

    def requests(self, max_packs: int | None) -> int:
        """Return how many workers Ray may be asked for: an autoscaler adds nodes for what it sees asked.

        One is asked for in any case, so that a cluster sees it which does not tell that it grows.
        """
        unknown = self.grows and self.at_most is None
        most = self.places + ASKED_BEYOND if unknown else max(self.places, self.at_most or 0)
        return max(1, min(most, max_packs or most))
