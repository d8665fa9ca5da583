"""Members that wait for a worker, in packs as they were planned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PendingMember:
    """A member that waits: which seed of which trial, and the members it may train with."""

    label: int
    trial: int
    replicate: int
    key: tuple[str, ...]
    origin: int | None = None  # the pack whose checkpoint holds it


@dataclass(slots=True)
class PendingPack:
    """Members that start together as pack `pack`.

    `is_planned` says that it is the pack that was planned, with every member it had: where last digits depend on the
    company it trains as it is. `alone` marks members whose worker died once: each gets a worker of its own.
    """

    pack: int
    seats: list[PendingMember] = field(default_factory=list)
    is_planned: bool = False
    alone: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """What its members share."""
        return self.seats[0].key


class MemberQueue:
    """Groups in the order in which they start."""

    def __init__(self) -> None:
        self._groups: list[PendingPack] = []

    def __len__(self) -> int:
        return sum(len(group.seats) for group in self._groups)

    @property
    def groups(self) -> int:
        """Number of packs that wait."""
        return len(self._groups)

    def append(self, groups: Iterable[PendingPack]) -> None:
        """Put groups at the end."""
        self._groups += groups

    def put_first(self, groups: Sequence[PendingPack]) -> None:
        """Put groups at the front: what had begun goes on first."""
        self._groups[:0] = groups

    def take_group(self) -> PendingPack | None:
        """The next group."""
        return self._groups.pop(0) if self._groups else None

    def take(self, key: tuple[str, ...], number: int, *, spare_planned: bool) -> list[PendingMember]:
        """Up to `number` members that may join a pack of `key`, in order.

        With `spare_planned`, packs that are still as they were planned stay whole.
        """
        taken: list[PendingMember] = []
        for group in self._groups:
            if len(taken) >= number:
                break
            if group.alone or group.key != key or (spare_planned and group.is_planned):
                continue
            free = number - len(taken)
            taken, group.seats, group.is_planned = taken + group.seats[:free], group.seats[free:], False
        self._groups = [group for group in self._groups if group.seats]
        return taken

    def drop(self, trial: int) -> list[PendingMember]:
        """Take the members of a trial out."""
        dropped = [seat for group in self._groups for seat in group.seats if seat.trial == trial]
        for group in self._groups:
            group.seats = [seat for seat in group.seats if seat.trial != trial]
        self._groups = [group for group in self._groups if group.seats]
        return dropped
