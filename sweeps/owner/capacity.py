"""The capacity of a cluster: how many packs it has room for, now and once it has grown, and on which device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ASKED_BEYOND: Final = 64  # workers requested beyond the present places where the size limit of a cluster is unknown


@dataclass(frozen=True)
class ClusterCapacity:
    """Number of packs that the nodes of a cluster have room for.

    `places` is the number at present. `grows` tells whether an autoscaler adds nodes, and `at_most` how many packs fit
    then, None where that is unknown. `device` is the device that packs train on.
    """

    places: int
    device: str
    grows: bool = False
    at_most: int | None = None

    def planned(self, max_packs: int | None) -> int:
        """Return the number of packs that a study plans to train at once, at least one."""
        grown = self.at_most if self.at_most is not None else (max_packs or 0) if self.grows else 0
        most = max(self.places, grown)
        return max(1, min(most, max_packs or most))

    def requests(self, max_packs: int | None) -> int:
        """Return the number of workers that may be requested from Ray, at least one.

        An autoscaler adds nodes for pending requests. One request is always allowed, so that a cluster which does not
        report that it grows can react to it.
        """
        unknown = self.grows and self.at_most is None
        most = self.places + ASKED_BEYOND if unknown else max(self.places, self.at_most or 0)
        return max(1, min(most, max_packs or most))
