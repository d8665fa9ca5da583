"""The queue of members that wait for a worker, in packs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PendingMember:
    """A member that waits: a replicate of a trial. Members of the same `key` may share a pack."""

    label: int
    trial: int
    replicate: int
    key: tuple[str, ...]
    origin: int | None = None  # the pack whose checkpoint has it


@dataclass(slots=True)
class PendingPack:
    """Members that start together as pack number `pack`.

    `is_planned` tells that the pack still has exactly the members it was planned with; an engine whose last digits
    depend on the pack must train it unchanged. `alone` marks a member whose worker died: it gets its own worker.
    """

    pack: int
    members: list[PendingMember] = field(default_factory=list)
    is_planned: bool = False
    alone: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """Return the key that its members share."""
        return self.members[0].key


class MemberQueue:
    """Pending packs in the order in which they start."""

    def __init__(self) -> None:
        self._packs: list[PendingPack] = []

    def __len__(self) -> int:
        return sum(len(pending.members) for pending in self._packs)

    @property
    def packs(self) -> int:
        """Return the number of packs that wait."""
        return len(self._packs)

    def append(self, packs: Iterable[PendingPack]) -> None:
        """Add packs at the end."""
        self._packs += packs

    def put_first(self, packs: Sequence[PendingPack]) -> None:
        """Add packs at the front, so that trainings that have begun resume first."""
        self._packs[:0] = packs

    def take_pack(self) -> PendingPack | None:
        """Remove and return the next pack, None where no pack waits."""
        return self._packs.pop(0) if self._packs else None

    def take(self, key: tuple[str, ...], number: int, *, spare_planned: bool) -> list[PendingMember]:
        """Remove and return up to `number` members that may join a pack of `key`, in order.

        With `spare_planned`, packs that still are as planned are left whole.
        """
        members: list[PendingMember] = []
        for pending in self._packs:
            if len(members) >= number:
                break
            if pending.alone or pending.key != key or (spare_planned and pending.is_planned):
                continue
            free = number - len(members)
            members += pending.members[:free]
            pending.members, pending.is_planned = pending.members[free:], False
        self._remove_empty_packs()
        return members

    def drop(self, trial: int) -> list[PendingMember]:
        """Remove and return the members of a trial."""
        dropped = [member for pending in self._packs for member in pending.members if member.trial == trial]
        for pending in self._packs:
            pending.members = [member for member in pending.members if member.trial != trial]
        self._remove_empty_packs()
        return dropped

    def _remove_empty_packs(self) -> None:
        self._packs = [pending for pending in self._packs if pending.members]
