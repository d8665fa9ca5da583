"""The slots of workers, the places that Ray Tune gives them: how many there may be, and what each is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .capacity import ClusterCapacity
from .messages import PackProgress, PackTask
from .queue import PendingMember, PendingPack

SURPLUS_S: Final = 5.0  # time for which unneeded slots stay on offer


@dataclass(slots=True)
class WorkerSlot:
    """A slot whose worker trains: its task, the pack as it was queued, and the unfinished members by label.

    `origins` are the packs whose checkpoints its members may come from. `is_padded` tells that the last digits of a
    member depend on its pack on the worker's device.
    """

    task: PackTask
    pending: PendingPack
    members: dict[int, PendingMember]
    node: str | None
    origins: set[int]
    is_padded: bool
    progress: PackProgress | None = None

    @property
    def keeps_composition(self) -> bool:
        """Return whether its members must train together, without others."""
        return self.is_padded and self.pending.is_planned

    @property
    def key(self) -> tuple[str, ...] | None:
        """Return the key that members need to join the pack, None where none may join."""
        return None if self.keeps_composition or self.pending.alone else self.pending.key


@dataclass(frozen=True)
class SlotOffer:
    """A slot for one more worker, and the device that it requests from Ray."""

    slot: int
    device: str


class SlotTable:
    """Every slot: on offer until its worker comes, then preparing, training, or idle until it asks again.

    `max_packs` is the study's own limit. The first `offered` slots have been handed out already.
    """

    def __init__(
        self, capacity: ClusterCapacity, max_packs: int | None, offered: int, clock: Callable[[], float]
    ) -> None:
        self.capacity, self.max_packs, self._clock = capacity, max_packs, clock
        self.training: dict[int, WorkerSlot] = {}
        self.preparing: dict[int, str] = {}  # what a worker prepares before it asks for members
        self.unfit: dict[int, str] = {}  # why the machine of a worker cannot train this study
        self.idle: set[int] = set()  # their workers will ask again
        self.most_workers: int | None = None  # while other studies share the cluster
        self.most_requests: int | None = None
        # the device of each slot that no worker has taken yet
        self._offered = dict.fromkeys(range(1, offered + 1), capacity.device)
        self._last_slot = offered
        self._surplus_since: float | None = None  # since when more slots are on offer than needed

    @property
    def at_once(self) -> int:
        """Return the number of packs that the study plans to train at once."""
        return self.capacity.planned(self.max_packs)

    @property
    def requested(self) -> int:
        """Return the number of workers that exist or are requested."""
        return len(self.training) + len(self._offered) + len(self.idle) + len(self.unfit)

    @property
    def vacant(self) -> int:
        """Return the number of slots that will ask for members."""
        return len(self._offered) + len(self.idle)

    @property
    def is_full(self) -> bool:
        """Return whether no more workers may be requested."""
        return self.requested >= self._may_request

    @property
    def _may_request(self) -> int:
        """Return the number of workers that may exist or be requested.

        On a cluster that does not grow it is at most the number of places: one more slot would only start a process
        once another one ends, when there is no work left for it.
        """
        most = self.capacity.requests(self.max_packs)
        return most if self.most_requests is None else min(most, max(1, self.most_requests))

    def has_place(self, others: int) -> bool:
        """Return whether one more worker may train beside `others`."""
        return self.most_workers is None or others < self.most_workers

    def offer(self) -> SlotOffer:
        """Put one more slot on offer."""
        self._last_slot += 1
        self._offered[self._last_slot] = self.capacity.device
        return SlotOffer(self._last_slot, self.capacity.device)

    def withdraw(self, packs_ready: int) -> tuple[int, ...]:
        """Withdraw slots on offer beyond those that `packs_ready` packs need, and return them.

        The need changes quickly and a worker starts slowly, so slots are withdrawn only after `SURPLUS_S` seconds,
        those of another device at once.
        """
        needed = min(packs_ready - len(self.idle), self._may_request - (self.requested - len(self._offered)))
        slots = [slot for slot, device in self._offered.items() if device == self.capacity.device]
        withdrawn = [slot for slot in self._offered if slot not in slots]
        surplus = slots[max(0, needed) :]
        if not surplus:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = self._clock()
        if self._surplus_since is not None and self._clock() - self._surplus_since >= SURPLUS_S:
            withdrawn += surplus
        for slot in withdrawn:
            del self._offered[slot]
        return tuple(withdrawn)

    def release(self, slot: int) -> bool:
        """Remove a slot from those on offer, preparing or idle, and return whether it was on offer."""
        self.preparing.pop(slot, None)
        self.idle.discard(slot)
        return self._offered.pop(slot, None) is not None
