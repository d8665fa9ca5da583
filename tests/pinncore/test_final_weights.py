"""The weights that are the result: those of the last step, or those of the smallest held-out residual."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pinncore import (
    FieldData,
    Member,
    MemberResult,
    NonlocalStrain,
    Pack,
    SettingError,
    StopReason,
    TrainSettings,
)
from pinncore.data.points import Points

from .test_packs import assert_same, finish, killed_and_resumed, pack_of

# 157 Gauss points are too few for these networks: each over-fits within a hundred iterations
OVER_FITTED = TrainSettings(
    width=8,
    epochs=0,
    adam_lr=1e-2,
    iterations=120,
    second_stage="ssbroyden",
    final_weights="best_heldout",
    record_every=7,
    keep_epochs=(0, 20),
)


@pytest.fixture(scope="module")
def problem(coarse_npz: Path) -> NonlocalStrain:
    return NonlocalStrain(data={"npz": str(coarse_npz)}, loss="mean_square")


@pytest.fixture(scope="module", params=["fused", "torch"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def members_of(problem: NonlocalStrain, engine: str) -> list[Member]:
    """Members with their best weights far before their end, at it, and without any; one keeps its last weights."""
    train = replace(OVER_FITTED, engine=engine)
    return [
        Member(train, problem, seed=2, label=1),
        Member(replace(train, width=16, epochs=60), problem, seed=3, label=2),
        Member(replace(train, width=12, epochs=30, iterations=14), problem, seed=1, label=3),
        Member(replace(train, epochs=35, iterations=0), problem, seed=4, label=4),
        Member(replace(train, iterations=60, final_weights="last"), problem, seed=2, label=5),
        Member(replace(train, second_stage="lbfgs", epochs=30), problem, seed=1, label=6),
    ]


@pytest.fixture(scope="module")
def results(problem: NonlocalStrain, engine: str) -> dict[int, MemberResult]:
    return finish(pack_of(members_of(problem, engine)))


def stopped_after(member: Member, iterations: int) -> MemberResult:
    """Return the result of the last weights of a training that is cut off after some iterations."""
    train = replace(member.train, iterations=iterations, final_weights="last")
    return finish(pack_of([replace(member, train=train)]))[member.label]


def test_the_weights_of_the_smallest_residual_are_the_result(problem: NonlocalStrain) -> None:
    """Against trainings that end at every tenth iteration, each evaluated anew."""
    member = members_of(problem, "fused")[0]
    result = finish(pack_of([member]))[1]
    assert result.stop_reason is StopReason.HELD_OUT_STALLED and not result.stop_reason.failed
    courses = {step: stopped_after(member, step) for step in range(10, result.counts["iterations_done"] + 1, 10)}
    residuals = {step: each.metrics["heldout_residual"] for step, each in courses.items()}
    best = min(residuals, key=lambda step: residuals[step] or 0.0)
    expected = courses[best]
    assert result.counts["kept_at"] == best == 30 and result.counts["iterations_done"] == best + 50
    assert (expected.metrics["heldout_residual"] or 0) < 0.9 * (courses[best + 50].metrics["heldout_residual"] or 0)
    for name in ("loss", "terms", "grad_norm", "metrics"):
        assert getattr(result, name) == getattr(expected, name), name
    assert np.array_equal(result.parameters, expected.parameters)
    assert np.array_equal(result.field["predicted"], expected.field["predicted"])
    assert list(result.weights) == [best] and np.array_equal(result.weights[best], result.parameters)


def test_curves_go_on_to_the_last_step(results: dict[int, MemberResult]) -> None:
    result = results[1]
    assert result.curves["step"].tolist() == [*range(0, 78, 7), 80]
    assert result.curves["loss"][-1] < 0.9 * result.loss  # it trained on, and over-fitted
    assert result.curves["rel_l2"][-1] != result.metrics["rel_l2"]


def test_the_last_weights_compete(results: dict[int, MemberResult]) -> None:
    """Iteration 14 is at no tenth one, and its residual is the smallest."""
    result = results[3]
    assert result.stop_reason is StopReason.ITERATIONS_DONE
    assert result.counts["kept_at"] == 44 and 44 in result.weights and 40 not in result.weights


def test_the_end_of_the_first_stage_competes(problem: NonlocalStrain) -> None:
    pack = pack_of([replace(members_of(problem, "fused")[1], label=9)])
    pack.step(61)
    held_out = pack.progress[0].held_out
    assert held_out is not None and held_out.kept_at == 60 and len(held_out.residuals) == 1


def test_without_a_second_stage_and_with_last_the_last_weights_are_the_result(
    results: dict[int, MemberResult],
) -> None:
    assert results[4].counts["kept_at"] == 35 and results[4].stop_reason is StopReason.EPOCHS_DONE
    assert results[5].counts["kept_at"] == 60 and results[5].stop_reason is StopReason.ITERATIONS_DONE


def test_a_member_is_the_same_in_company(problem: NonlocalStrain) -> None:
    """Bit for bit with the engine fused: where it looks, what it keeps and when it ends depend on it alone."""
    members = members_of(problem, "fused")
    packed = finish(pack_of(members))
    for member in members:
        assert_same(finish(pack_of([member]))[member.label], packed[member.label])


@pytest.mark.parametrize("ticks", [33, 71])
def test_resumed_is_uninterrupted(
    problem: NonlocalStrain, engine: str, results: dict[int, MemberResult], tmp_path: Path, ticks: int
) -> None:
    """Before a first look, with a best of the last look or of an earlier one, after members have left."""
    for label, result in killed_and_resumed(members_of(problem, engine), tmp_path, ticks, 15).items():
        assert_same(result, results[label])


def pruned(member: Member, ticks: int) -> MemberResult:
    """Return the result of a member that is pruned after some evaluations."""
    pack = pack_of([member])
    pack.step(ticks)
    pack.stop(member.label, StopReason.PRUNED)
    return pack.results[0]


def test_a_pruned_member_has_the_best_weights_so_far(problem: NonlocalStrain) -> None:
    member = members_of(problem, "fused")[0]
    late = pruned(member, 80)
    assert late.stop_reason is StopReason.PRUNED and late.counts["kept_at"] == 30 < late.counts["iterations_done"]
    early = pruned(replace(member, train=replace(member.train, epochs=60)), 20)
    assert early.counts["kept_at"] == early.counts["epochs_done"] == 20


def test_a_member_that_diverges_fails_with_its_last_weights(problem: NonlocalStrain) -> None:
    member = members_of(problem, "fused")[0]
    pack = pack_of([member])
    pack.step(40)
    pack.progress[0].first_loss = 1e-12
    pack.step(10)
    (result,) = pack.results
    assert result.stop_reason is StopReason.DIVERGED and result.failure
    assert result.counts["kept_at"] == result.counts["iterations_done"] and not result.metrics


def test_scipy_keeps_its_best_weights_too(problem: NonlocalStrain) -> None:
    member = Member(replace(OVER_FITTED, second_stage="scipy"), problem, seed=2)
    result = finish(pack_of([member]))[0]
    assert result.stop_reason is StopReason.HELD_OUT_STALLED
    assert result.counts["iterations_done"] == result.counts["kept_at"] + 50


def test_without_points_to_hold_out_it_is_refused(coarse: FieldData) -> None:
    point = Points(**{name: values[:1] for name, values in coarse.gauss.columns.items()})
    alone = NonlocalStrain().with_tables(replace(coarse, gauss=point))
    rule = "final_weights: needs points to hold out, which nonlocal_strain does not have here"
    with pytest.raises(SettingError, match=rule) as error:
        Pack([Member(OVER_FITTED, alone)], device="cpu")
    assert error.value.way_out == "Use final_weights: last, or give it a condition (when)."


def test_the_advice_says_how_to_go_on() -> None:
    assert "final_weights: last" in StopReason.HELD_OUT_STALLED.advice
