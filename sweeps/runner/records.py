"""The records of members that ended: rows of the result tables."""

from __future__ import annotations

import datetime
import functools
from typing import Any

import numpy as np

import pinncore
from pinncore.cuda.devices import gpu_of
from pinncore.networks import unflatten

from ..owner.messages import MemberRecord, MemberTask, PackTask, configuration_columns
from ..states import COMPLETE, FAIL, PRUNED
from ..study.trials import no_objective


def record_of(
    task: PackTask,
    member: MemberTask,
    result: pinncore.MemberResult,
    started: datetime.datetime,
    finished: datetime.datetime,
) -> MemberRecord:
    """Return the record of a member with a result; without every objective it has failed."""
    failure = result.failure if result.failure is not None else no_objective(result, task.objectives)
    was_pruned = result.stop_reason is pinncore.StopReason.PRUNED
    state = FAIL if failure is not None else PRUNED if was_pruned else COMPLETE
    row = {
        **_identity(task, member, state, started, finished),
        **result.metrics,
        **result.seconds,
        **result.counts,
        **{f"loss_{term}": number for term, number in result.terms.items()},
        "loss": result.loss,
        "grad_norm": result.grad_norm,
        "stop_reason": result.stop_reason.value,
        "stop_advice": result.advice,
        "failure": failure,
        "parameters": len(result.parameters),
        "engine_used": result.engine,
        "lbfgs_memory_used": result.memory,
        "device": result.device,
        **_gpu_columns(task.device),
        "data_hash": result.data_sha256,
    }
    return MemberRecord(
        row,
        curves=result.curves,
        fields=result.field if task.keep_fields else {},
        weights=_weight_columns(result) if task.keep_weights else {},
    )


def untrained(
    task: PackTask, member: MemberTask, state: str, started: datetime.datetime, finished: datetime.datetime, reason: str
) -> MemberRecord:
    """Return the record of a member without a result: one that failed, or whose trial was pruned before it began."""
    column = "failure" if state == FAIL else "stop_reason"
    return MemberRecord(_identity(task, member, state, started, finished) | {column: reason})


@functools.cache
def _gpu_columns(device: str) -> dict[str, str]:
    """Return the columns of a row of `trials` that say which GPU a device is, none on a CPU."""
    gpu = gpu_of(device)
    return {} if gpu is None else {"device_name": gpu.name, "driver": gpu.driver, "capability": gpu.capability_text}


def _identity(
    task: PackTask, member: MemberTask, state: str, started: datetime.datetime, finished: datetime.datetime
) -> dict[str, Any]:
    """Return the columns of a row of `trials` that do not depend on the course of the training."""
    return {
        "trial": member.trial,
        "replicate": member.replicate,
        "state": state,
        "pack": task.pack,
        "seed": member.seed,
        "attempt": task.attempt,
        "retry_of": member.retry_of,
        "rebatched": member.rebatched,
        "started_at": started,
        "finished_at": finished,
        **configuration_columns(member.config, task.problem.record, member.config_hash, task.spec_hash),
    }


def _weight_columns(result: pinncore.MemberResult) -> dict[str, Any]:
    """Return kept weights as columns: weight matrices by row (input unit) and column; the bias is row -1."""
    parts = []
    for epoch, flat in sorted(result.weights.items()):
        for layer, (w, b) in enumerate(unflatten(flat, result.layers), start=1):
            table = np.concatenate([b[None, :], w])
            row, column = np.indices(table.shape)
            parts.append(np.broadcast_arrays(epoch, layer, row.ravel() - 1, column.ravel(), table.ravel()))
    columns = map(np.concatenate, zip(*parts, strict=True))
    return dict(zip(("epoch", "layer", "row", "column", "value"), columns, strict=True))
