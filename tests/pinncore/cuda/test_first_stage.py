"""The first stage on the device: the same numbers as step by step, few launches, one wait a stretch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pinncore
from pinncore import FieldData, Member, NonlocalStrain, Pack, Problem, TrainSettings, training
from pinncore.cuda.machine import HostMachine
from pinncore.engines import FusedCudaEngine
from pinncore.results import MemberResult

from ..helpers import CPU, every
from .host import NEEDS_COMPILER, HostEngine

pytestmark = NEEDS_COMPILER

KINDS: list[dict[str, Any]] = [
    {"width": 8},
    {"width": 5, "adam_convention": "tf1", "lr_schedule": "cosine"},
    {"width": 8, "first_stage": "momentum", "adam_lr": 1e-5},
    {"width": 6, "first_stage": "rmsprop"},
    {"width": 8, "first_stage": "adamw", "adam_convention": "inside"},
    {"width": 8, "first_stage": "adagrad", "record_every": 3},
    {"width": 7, "first_stage": "adamw", "weight_decay_form": "l2", "adam_convention": "keras"},
    {"width": 8, "adam_lr": 1e3, "divergence_factor": 10.0},  # diverges
    {"width": 5, "adam_lr": 1e300},  # soon has no finite loss
]


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "engine_for", lambda member, device: HostEngine)


@pytest.fixture(scope="module")
def problem(strb100: FieldData) -> Problem:
    """49 Gauss points, which are those of the errors too."""
    return NonlocalStrain().with_tables(every(strb100, gauss=131, nodes=12))


def members(problem: Problem, kinds: list[dict[str, Any]] = KINDS, **changes: Any) -> list[Member]:
    settings = {"depth": 2, "epochs": 14, "iterations": 2, "record_every": 5, "keep_epochs": (7,), **changes}
    return [Member(TrainSettings(**{**settings, **kind}), problem, row, row) for row, kind in enumerate(kinds)]


def results(pack: Pack, ticks: int = 1000) -> dict[int, MemberResult]:
    while pack.active:
        pack.step(ticks)
    return {result.label: result for result in pack.results}


def assert_same(found: MemberResult, expected: MemberResult) -> None:
    """Bit for bit, but for times."""
    assert (found.stop_reason, found.counts) == (expected.stop_reason, expected.counts)
    assert found.parameters.tobytes() == expected.parameters.tobytes()
    assert list(found.weights) == list(expected.weights)
    assert all(found.weights[step].tobytes() == expected.weights[step].tobytes() for step in found.weights)
    for name in set(found.curves) - {"time_s"}:
        assert np.array_equal(found.curves[name], expected.curves[name], equal_nan=name != "phase"), name


def test_stretches_are_bitwise_the_steps(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = results(Pack(members(problem), device="cpu"))
    in_pieces = results(Pack(members(problem), device="cpu"), ticks=4)
    alone = {row: results(Pack([member], device="cpu"))[row] for row, member in enumerate(members(problem))}
    monkeypatch.setattr(FusedCudaEngine, "stage", None)  # so that the host takes every step
    stepped = results(Pack(members(problem), device="cpu"))
    reasons = {result.stop_reason.value for result in stepped.values()}
    assert reasons == {"iterations_done", "diverged", "not_finite"}
    for row, expected in stepped.items():
        for other in (at_once, in_pieces, alone):
            assert_same(other[row], expected)


def test_a_pack_goes_on_from_its_state(problem: Problem) -> None:
    kinds = KINDS[:4]
    expected = results(Pack(members(problem, kinds), device="cpu"))
    stopped, resumed = (Pack(members(problem, kinds), device="cpu") for _ in range(2))
    stopped.step(9)
    resumed.restore(stopped.state())
    for row, result in results(resumed).items():
        assert_same(result, expected[row])


def test_points_that_change_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = pinncore.problems.problem_class("burgers")
    for settings in ({"resample_every": 4}, {"batch": 20}):
        problem = kind(points=49, condition_points=11, **settings)
        found = results(Pack(members(problem, KINDS[:2]), device="cpu"))
        with monkeypatch.context() as patched:
            patched.setattr(FusedCudaEngine, "stage", None)
            stepped = results(Pack(members(problem, KINDS[:2]), device="cpu"))
        for row, expected in stepped.items():
            assert_same(found[row], expected)


def test_one_wait_a_stretch(problem: Problem) -> None:
    """Launches do not grow with the epochs: they are recorded once, and repeated."""
    machine = HostMachine()
    counts = {}
    for epochs in (20, 40):
        pack = Pack(members(problem, KINDS[:2], epochs=60, keep_epochs=()), device="cpu")
        pack.engine = FusedCudaEngine(
            pack.engine.problems, pack.engine.layout, machine=machine, dtype=torch.float64, device=CPU
        )
        machine.counts.clear()
        pack.step(epochs)
        counts[epochs] = dict(machine.counts)
    # an epoch: three groups and the step; with a record: also the errors, and what keeps it
    each = {"recorded": 4 + 6, "synchronisations": 1}
    assert counts == {20: {**each, "replays": 20}, 40: {**each, "replays": 40}}


def test_the_step_is_that_of_the_cpu(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the roots of torch on a CPU, which are not the nearest numbers."""
    kinds = KINDS[:7]
    found = results(Pack(members(problem, kinds, iterations=0), device="cpu"))
    monkeypatch.undo()
    expected = results(Pack(members(problem, kinds, iterations=0), device="cpu"))
    for row, result in expected.items():
        scale = np.abs(result.parameters).max()
        assert np.abs(found[row].parameters - result.parameters).max() < 1e-11 * scale, row
        assert found[row].curves["rel_l2"] == pytest.approx(result.curves["rel_l2"], rel=1e-10)
