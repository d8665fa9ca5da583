"""Messages between the owner and a worker: the members of a pack, the report on them, the answer to the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pinncore
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from ..spec.sections import PrunerSettings
from ..spec.study_spec import build_settings
from ..storage.schema import setting_columns
from ..study.provenance import versions
from ..study.references import reference_store


@dataclass(frozen=True)
class MemberTask:
    """Member to train: one replicate of a trial, with its seed and the whole configuration.

    `label` identifies it in packs and checkpoints. `origin` is the pack whose checkpoint it resumes from. `weights` is
    the path, in the study's folder, of the study's own copy of the file of initial weights.
    """

    label: int
    trial: int
    replicate: int
    seed: int
    config: dict[str, dict[str, Any]]
    config_hash: str
    origin: int | None = None
    weights: str | None = None
    retry_of: int | None = None
    rebatched: bool = False  # its pack is not the planned one, and the engine's last digits depend on the pack

    def member_of_pack(self, study_dir: Path, source: ProblemSource) -> pinncore.Member:
        """Return the member as `pinncore` trains it, on the problem of its pack."""
        train, problem = build_settings(self.config, source)
        problem = problem.storing(reference_store(study_dir, keeps=True))
        if self.weights is not None:
            train = dataclasses.replace(train, init=f"file:{study_dir / self.weights}")
        return pinncore.Member(train, problem, self.seed, self.label)


@dataclass(frozen=True)
class PackTask:
    """Pack for a worker to train or to resume; without members there is nothing to do.

    If there are more members than `size`, the others wait for a place in the pack. `slot` is the place Ray Tune gives
    a worker. `lease` numbers the leases of slots; reports of an earlier lease are refused. `rungs` are the shares of a
    member's planned steps, in thousandths, at which the worker reports its loss and rel_l2.
    """

    slot: int
    lease: int
    attempt: int
    pack: int
    problem: ProblemSource  # with its text, so that a worker needs no file of the user
    members: tuple[MemberTask, ...]
    size: int  # members that train together
    device: str
    cpus: int
    objectives: tuple[str, ...]
    spec_hash: str
    keep_composition: bool = False  # resume with exactly the members of the checkpoint
    rungs: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by label
    patience: PrunerSettings | None = None
    metric: str = "rel_l2"  # watched by `patience`
    keep_fields: bool = True
    keep_weights: bool = True
    ask_again: bool = False  # the next trials wait for results of others: ask again later


@dataclass(frozen=True)
class MemberRecord:
    """Record of a member that ended: its row of `trials` and, by column, its rows of the other tables."""

    row: Mapping[str, Any]
    curves: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, int]:
        """Return trial and replicate."""
        return self.row["trial"], self.row["replicate"]


class RungReached(NamedTuple):
    """A rung that a member has reached, in thousandths of its planned steps, and its metrics there."""

    label: int
    rung: int
    values: dict[str, float]


@dataclass(frozen=True)
class DeviceLoad:
    """Use of a device by a worker; None where it was not measured.

    `cores_busy` is that of its process, `gpu_bytes` the memory that it holds. `gpu_busy` is the share of the last
    moments in which the GPU computed, for any process.
    """

    cores_busy: float | None = None
    gpu_bytes: float | None = None
    gpu_busy: float | None = None


@dataclass(frozen=True)
class PackProgress:
    """Progress of the members in training: their number, their phase, and what was done of them, in members."""

    members: int = 0
    phase: str = ""
    under_way: float = 0.0
    evaluations: int = 0
    load: DeviceLoad = DeviceLoad()


@dataclass(frozen=True)
class PackReport:
    """Result of a stretch of training: the records of the members that ended, and the progress of the others.

    `given_back` are the members that did not fit in memory, `crashed` is the error of the pack as a whole. `saved`
    tells that a checkpoint of this pack has all members.
    """

    slot: int
    lease: int
    attempt: int
    pack: int
    progress: PackProgress
    left: int  # members in training or waiting for a place
    saved: bool = False
    records: list[MemberRecord] = field(default_factory=list)
    rungs: list[RungReached] = field(default_factory=list)
    given_back: tuple[int, ...] = ()
    size: int = 0  # of the pack, reduced where memory ran out
    crashed: str | None = None
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0  # since the previous report


@dataclass(frozen=True)
class Answer:
    """Instruction to a worker: end the members of `stop`, add those of `add`, or write a checkpoint and `leave`.

    `taken` tells whether the report was accepted.
    """

    taken: bool
    stop: tuple[int, ...] = ()
    add: tuple[MemberTask, ...] = ()
    rungs: dict[int, tuple[int, ...]] = field(default_factory=dict)
    leave: bool = False


def configuration_columns(
    config: Mapping[str, Mapping[str, Any]], problem: ProblemRecord, config_hash: str, spec_hash: str
) -> dict[str, Any]:
    """Return the columns that say which configuration of which study was trained, where and with which versions."""
    return {**setting_columns(config, problem), "config_hash": config_hash, "spec_hash": spec_hash, **versions()}
