"""A pack as it travels: the task handed to a worker, the run that trains it, the report it gives.

The worker trains a segment, reports what finished, then writes a checkpoint. In this order: a member that is reported
but not yet out of the checkpoint is trained again after a crash and its second report is passed over, which costs
seconds; the other order would lose it.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import platform
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pinncore
from pinncore.networks import unflatten

from .spec import build_settings, config_sha256
from .store import setting_columns

TICKS_BETWEEN_LOOKS = 10  # evaluations between two looks at the clock


@dataclass(frozen=True)
class MemberTask:
    """One trial as a member of a pack: its number, place, seed and whole configuration."""

    trial: int
    member: int
    seed: int
    config: dict[str, dict[str, Any]]

    def member_of_pack(self) -> pinncore.Member:
        """The trial as pinncore trains it."""
        train, problem = build_settings(self.config)
        return pinncore.Member(train, problem, self.seed, self.trial)


@dataclass(frozen=True)
class PackTask:
    """What a worker needs to train a pack, or to go on with it."""

    pack: int
    attempt: int
    members: tuple[MemberTask, ...]
    device: str
    cpus: int
    objective: str
    spec_hash: str
    keep_fields: bool = True
    keep_weights: bool = True


@dataclass
class PackReport:
    """What a segment brought: rows of the members that finished, and how far the others are."""

    pack: int
    attempt: int
    done: bool
    progress: dict[str, Any]
    trials: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)
    weights: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class PackRun:
    """Trains one pack segment by segment, from its newest checkpoint if there is one."""

    def __init__(self, task: PackTask, study_dir: Path, *, now: Callable[[], datetime.datetime] | None = None) -> None:
        self.task = task
        self._now = now or (lambda: datetime.datetime.now(datetime.UTC))
        self._started = self._now()
        self._folder = checkpoint_folder(study_dir, task.pack)
        self._segment = 0
        self._notes: list[str] = []
        self._members = {member.trial: member for member in task.members}
        self._pack: pinncore.Pack | None = None
        self._failure: str | None = None
        self._reported = 0
        torch.set_num_threads(task.cpus)
        try:
            self._pack = self._restored() or pinncore.Pack(
                [m.member_of_pack() for m in task.members], device=task.device
            )
        except pinncore.PinnError as problem:
            self._failure = str(problem)

    def segment(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> PackReport:
        """Train for about `seconds`, or until no member is left."""
        if self._pack is None:
            return self._all_failed()
        until = clock() + seconds
        while self._pack.active and clock() < until:
            self._pack.step(TICKS_BETWEEN_LOOKS)
        report = PackReport(
            self.task.pack, self.task.attempt, not self._pack.active, self._progress(), notes=self._notes
        )
        self._notes = []
        for result in self._pack.results[self._reported :]:
            self._add(report, result)
        self._reported = len(self._pack.results)
        return report

    def checkpoint(self) -> None:
        """Write the unfinished members and drop the older checkpoint; at the end of the pack, drop them all."""
        if self._pack is None or not self._pack.active:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        name = f"attempt-{self.task.attempt:04d}-segment-{self._segment:06d}"
        self._segment += 1
        pinncore.write_checkpoint(
            self._folder / name, self._pack.state(), values={"padded": list(self._pack.engine.layout.padded)}
        )
        for older in self._folder.iterdir():
            if older.name != name:
                shutil.rmtree(older, ignore_errors=True)

    def _restored(self) -> pinncore.Pack | None:
        """The pack as its newest checkpoint has it; a torn one is set aside and its members start anew."""
        found = sorted(path for path in self._folder.glob("attempt-*")) if self._folder.is_dir() else []
        if not found:
            return None
        self._segment = 1 + int(found[-1].name.rpartition("-")[2])  # names are never used again, whoever wrote them
        try:
            states, values = pinncore.read_checkpoint(found[-1])
        except pinncore.CheckpointError as problem:
            self._notes.append(f"checkpoint set aside: {problem}")
            shutil.rmtree(self._folder, ignore_errors=True)
            return None
        members = [self._members[state.label].member_of_pack() for state in states]
        pack = pinncore.Pack(members, device=self.task.device, padded=tuple(values["padded"]))
        pack.restore(states)
        return pack

    def _progress(self) -> dict[str, Any]:
        pack = self._pack
        assert pack is not None
        phases = {pack.stage(row) for row in range(pack.active)}
        shares = [pack.fraction(row) for row in range(pack.active)]
        finished = len(self.task.members) - pack.active
        return {
            "pack": self.task.pack,
            "members": len(self.task.members),
            "finished": finished,
            "phase": phases.pop() if len(phases) == 1 else "mixed",
            "fraction": (finished + sum(shares)) / len(self.task.members),
            "evaluations": sum(sum(progress.evaluations.values()) for progress in pack.progress),
        }

    def _add(self, report: PackReport, result: pinncore.MemberResult) -> None:
        """The rows of one finished member."""
        task = self._members[result.label]
        key = {"trial": task.trial, "replicate": 0}
        report.trials.append(self._row(task, result))
        report.curves.append({**key, **result.curves})
        if self.task.keep_fields and result.field:
            report.fields.append({**key, **result.field})
        if self.task.keep_weights:
            report.weights.append({**key, **_weight_columns(result)})

    def _row(self, task: MemberTask, result: pinncore.MemberResult) -> dict[str, Any]:
        failure = result.failure
        values = {**result.metrics, "loss": result.loss, "grad_norm": result.grad_norm}
        value = values.get(self.task.objective)
        if failure is None and (value is None or not math.isfinite(value)):
            failure = f"the objective {self.task.objective} could not be computed"
        return (
            identity_columns(self.task, task, "COMPLETE" if failure is None else "FAIL", self._started, self._now())
            | values
            | {
                **{f"loss_{term}": number for term, number in result.terms.items()},
                "stop_reason": result.stop_reason.value,
                "stop_advice": result.stop_reason.advice,
                "failure": failure,
                "parameters": len(result.parameters),
                **result.counts,
                **result.seconds,
                "engine_used": result.engine,
                "lbfgs_memory_used": result.memory,
                "device": result.device,
                "data_hash": result.data_sha256,
            }
        )

    def _all_failed(self) -> PackReport:
        """Files that were there at validation are gone: nobody in the pack can train."""
        progress = {
            "pack": self.task.pack,
            "members": len(self.task.members),
            "finished": len(self.task.members),
            "phase": "",
            "fraction": 1.0,
            "evaluations": 0,
        }
        rows = failed_rows(self.task, str(self._failure), self._started, self._now())
        return PackReport(self.task.pack, self.task.attempt, True, progress, trials=rows)


def identity_columns(
    task: PackTask, member: MemberTask, state: str, started: datetime.datetime, finished: datetime.datetime
) -> dict[str, Any]:
    """Columns of a trials row that do not depend on how the training went."""
    return {
        "trial": member.trial,
        "replicate": 0,
        "state": state,
        "pack": task.pack,
        "member": member.member,
        "seed": member.seed,
        "attempt": task.attempt,
        **setting_columns(member.config),
        "started_at": started,
        "finished_at": finished,
        "config_hash": config_sha256(member.config),
        "spec_hash": task.spec_hash,
        **versions(),
    }


def failed_rows(
    task: PackTask, failure: str, started: datetime.datetime, finished: datetime.datetime
) -> list[dict[str, Any]]:
    """Rows for the members of a pack that could not be trained."""
    return [identity_columns(task, m, "FAIL", started, finished) | {"failure": failure} for m in task.members]


def checkpoint_folder(study_dir: Path, pack: int) -> Path:
    """Where a pack's checkpoints lie."""
    return study_dir / "checkpoints" / f"pack-{pack:06d}"


@cache
def versions() -> dict[str, str]:
    """Where and with what this process computes."""
    return {
        "host": socket.gethostname(),
        "python_version": platform.python_version(),
        "torch_version": importlib.metadata.version("torch"),
        "pinnsweep_version": importlib.metadata.version("pinnsweep"),
    }


def _weight_columns(result: pinncore.MemberResult) -> dict[str, Any]:
    """Kept weights as columns: weight matrices by row (input unit) and column; the bias is row -1."""
    parts: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in ("epoch", "layer", "row", "column", "value")}
    for epoch, flat in sorted(result.weights.items()):
        for layer, (w, b) in enumerate(unflatten(flat, result.layers), start=1):
            table = np.concatenate([b[None, :], w])
            row, column = np.indices(table.shape)
            for name, values in (
                ("epoch", np.full(table.size, epoch)),
                ("layer", np.full(table.size, layer)),
                ("row", row.reshape(-1) - 1),
                ("column", column.reshape(-1)),
                ("value", table.reshape(-1)),
            ):
                parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}
