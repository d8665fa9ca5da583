"""What travels between the owner and a worker: the members of a pack, the report on them, the answer to it."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pinncore

from ..spec.sections import PrunerSettings
from ..spec.study_spec import build_settings, config_sha256
from ..storage.schema import setting_columns
from ..study.provenance import versions


@dataclass(frozen=True)
class MemberTask:
    """One training: a seed of a trial, with the whole configuration.

    `label` names it in packs and checkpoints; `origin` is the pack whose checkpoint it goes on from, `weights` the
    study's own copy of the file its initial weights come from, in its folder.
    """

    label: int
    trial: int
    replicate: int
    seed: int
    config: dict[str, dict[str, Any]]
    origin: int | None = None
    weights: str | None = None
    retry_of: int | None = None
    rebatched: bool = False  # its pack is not the one it was planned for, which the engine's last digits depend on

    def member_of_pack(self, study_dir: Path) -> pinncore.Member:
        """The member as pinncore trains it."""
        train, problem = build_settings(self.config)
        if self.weights is not None:
            train = dataclasses.replace(train, init=f"file:{study_dir / self.weights}")
        return pinncore.Member(train, problem, self.seed, self.label)


@dataclass(frozen=True)
class PackTask:
    """What a worker needs to train a pack, or to go on with it; without members there is nothing to do, or not `yet`.

    Where more are handed out than `size`, the others wait for a place. A `slot` is the place Ray Tune gives a worker;
    `lease` counts who held it, and what an earlier holder writes late is refused. `rungs` are the shares of a member's
    planned steps, in thousandths, at which the owner wants to hear of it.
    """

    slot: int
    lease: int
    attempt: int
    pack: int
    members: tuple[MemberTask, ...]
    size: int  # members that train together
    device: str
    cpus: int
    objectives: tuple[str, ...]
    spec_hash: str
    keep_composition: bool = False  # goes on with exactly the members of its checkpoint
    rungs: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by label
    patience: PrunerSettings | None = None
    metric: str = "rel_l2"  # that patience looks at
    keep_fields: bool = True
    keep_weights: bool = True
    ask_again: bool = False  # others are training what the next trials wait for: ask again


@dataclass
class PackReport:
    """What a stretch of training brought: rows of the members that finished, and how far the others are.

    `rungs` are (label, rung, loss and rel_l2 there); `given_back` the members that found no room in memory, `crashed`
    what went wrong with the pack as a whole. `saved` says that every member stands in a checkpoint of this pack.
    """

    slot: int
    lease: int
    attempt: int
    pack: int
    progress: dict[str, Any]
    left: int  # members in training or without a place yet
    saved: bool = False
    trials: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)
    weights: list[dict[str, Any]] = field(default_factory=list)
    rungs: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    given_back: tuple[int, ...] = ()
    size: int = 0  # of the pack, now that memory may have run out
    crashed: str | None = None
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0  # since the report before


@dataclass(frozen=True)
class Answer:
    """What a worker does next: end the members of `stop`, take in those of `add`, or `leave` with a checkpoint."""

    taken: bool
    stop: tuple[int, ...] = ()
    add: tuple[MemberTask, ...] = ()
    rungs: dict[int, tuple[int, ...]] = field(default_factory=dict)
    leave: bool = False


def identity_columns(
    task: PackTask, member: MemberTask, state: str, started: datetime.datetime, finished: datetime.datetime
) -> dict[str, Any]:
    """Columns of a trials row that do not depend on how the training went."""
    return {
        "trial": member.trial,
        "replicate": member.replicate,
        "state": state,
        "pack": task.pack,
        "seed": member.seed,
        "attempt": task.attempt,
        "retry_of": member.retry_of,
        "rebatched": member.rebatched,
        **setting_columns(member.config),
        "started_at": started,
        "finished_at": finished,
        "config_hash": config_sha256(member.config),
        "spec_hash": task.spec_hash,
        **versions(),
    }


def failed_row(
    task: PackTask, member: MemberTask, failure: str, started: datetime.datetime, finished: datetime.datetime
) -> dict[str, Any]:
    """The row of a member that could not be trained."""
    return identity_columns(task, member, "FAIL", started, finished) | {"failure": failure}
