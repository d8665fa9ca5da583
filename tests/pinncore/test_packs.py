"""Packs: members together are the members alone; stopped and resumed they are the uninterrupted ones."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pinncore
from pinncore import (
    CheckpointError,
    DataError,
    Member,
    MemberResult,
    NonlocalStrain,
    Pack,
    SettingError,
    StopReason,
    TrainSettings,
    WeightsError,
    pack_key,
    read_checkpoint,
    write_checkpoint,
)

from .helpers import assert_close

SHORT = TrainSettings(
    width=6,
    depth=2,
    epochs=10,
    adam_lr=1e-2,
    iterations=20,
    lbfgs_history=5,
    record_every=4,
    keep_epochs=(0, 5),
)


@pytest.fixture(scope="module")
def problem(coarse_npz: Path) -> NonlocalStrain:
    return NonlocalStrain(data={"npz": str(coarse_npz)})


@pytest.fixture(scope="module", params=["fused", "torch"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def members_of(problem: NonlocalStrain, engine: str = "auto") -> list[Member]:
    """Seven members, no two alike: in Adam, in L-BFGS and finished at different ticks; every form of its memory."""
    different = [
        Member(SHORT, problem, seed=1, label=10),
        Member(replace(SHORT, width=9, epochs=4, lbfgs_history=3, first_step=0.01), problem, seed=2, label=11),
        Member(replace(SHORT, width=4, epochs=25, adam_convention="tf1", iterations=0), problem, seed=3, label=7),
        Member(
            replace(SHORT, width=2, epochs=0, iterations=12, init="keras"),
            replace(problem, boundary_weight=0.1, loss="mean_square", scale_factor=2.0),
            seed=4,
            label=12,
        ),
        Member(replace(SHORT, first_stage="rmsprop", second_stage="ssbroyden", iterations=8), problem, label=13),
        Member(replace(SHORT, lbfgs_memory="compact", lbfgs_curvature="relative"), problem, seed=6, label=14),
        Member(replace(SHORT, lbfgs_memory="dense", lbfgs_history=20), problem, seed=7, label=15),
    ]
    return [replace(member, train=replace(member.train, engine=engine)) for member in different]


def ticking() -> Iterator[float]:
    """A clock that advances a second a look."""
    return map(float, range(10**9).__iter__())


def pack_of(members: Sequence[Member], **settings: Any) -> Pack:
    seconds = ticking()
    return Pack(members, device="cpu", clock=lambda: next(seconds), **settings)


def finish(pack: Pack) -> dict[int, MemberResult]:
    while pack.active:
        pack.step(50)
    return {result.label: result for result in pack.results}


def killed_and_resumed(members: Sequence[Member], folder: Path, ticks: int, more: int) -> dict[int, MemberResult]:
    """Results of a pack that is stopped after `ticks` and resumed from its checkpoint.

    Going on for `more` ticks must not change what was written, nor what was handed out.
    """
    pack = pack_of(members)
    padded = pack.engine.layout.padded
    pack.step(ticks)
    done = {result.label: result for result in pack.results}
    write_checkpoint(folder / "checkpoint", pack.state(), values={"tick": ticks})
    pack.step(more)
    states, values = read_checkpoint(folder / "checkpoint")
    assert values == {"tick": ticks}
    assert {state.label for state in states} == {member.label for member in members} - set(done)
    resumed = pack_of([member for member in members if member.label not in done], padded=padded)
    resumed.restore(states)
    return {**done, **finish(resumed)}


def assert_same(found: MemberResult, expected: MemberResult) -> None:
    """Bit for bit, but for the times."""
    for name in (
        "label",
        "layers",
        "stop_reason",
        "failure",
        "loss",
        "terms",
        "grad_norm",
        "metrics",
        "counts",
        "engine",
        "device",
        "data_sha256",
    ):
        assert getattr(found, name) == getattr(expected, name), name
    assert np.array_equal(found.parameters, expected.parameters)
    assert list(found.curves) == list(expected.curves)
    for name in set(found.curves) - {"time_s"}:
        assert np.array_equal(found.curves[name], expected.curves[name]), name
    assert list(found.weights) == list(expected.weights)
    for epoch, flat in expected.weights.items():
        assert np.array_equal(found.weights[epoch], flat), f"weights kept at {epoch}"
    for name, column in expected.field.items():
        assert np.array_equal(found.field[name], column), name


@pytest.fixture(scope="module")
def uninterrupted(problem: NonlocalStrain, engine: str) -> dict[int, MemberResult]:
    return finish(pack_of(members_of(problem, engine)))


def test_members_of_a_pack_are_the_members_alone(
    problem: NonlocalStrain, engine: str, uninterrupted: dict[int, MemberResult]
) -> None:
    """Padding and company change the rounding only, which 20 iterations of L-BFGS make 1e-8 at most."""
    for member in members_of(problem, engine):
        single, packed = finish(pack_of([member]))[member.label], uninterrupted[member.label]
        assert packed.layers == single.layers == member.layers
        assert packed.stop_reason is single.stop_reason
        assert packed.counts == single.counts
        assert_close(packed.parameters, single.parameters, 1e-8, f"member {member.label}")  # 2e-12 seen
        assert_close(packed.curves["loss"], single.curves["loss"], 1e-8, f"losses of member {member.label}")


def test_padded_entries_stay_zero(problem: NonlocalStrain) -> None:
    """Exactly, at every tick: in the point, in Adam's moments, in every vector of L-BFGS."""
    pack = pack_of(members_of(problem, "torch")[:2], padded=(2, 12, 10, 1))
    while pack.active:
        pack.step(1)
        for row in range(pack.active):
            layout = pack.engine.layout
            outside = np.setdiff1d(np.arange(layout.size), layout.positions(row))
            assert len(outside) > 40
            vectors = {
                "x": pack.x,
                "m": pack.first.m,
                "v": pack.first.v,
                "point": pack.second.x,
                "gradient": pack.second.gradient,
                "direction": pack.second.direction,
            }
            for name, vector in vectors.items():
                assert not vector[row, outside].any(), f"{name} of member {row}"


# In Adam, at the first value of L-BFGS, walking out and zooming in within a line search (member 11's begin at 0.01),
# with pairs evicted, after members have left: `test_the_ticks_cover_what_they_should` looks.
TICKS = (0, 4, 5, 7, 9, 13, 17, 45)


@pytest.mark.parametrize("ticks", TICKS)
def test_resumed_is_uninterrupted(
    problem: NonlocalStrain, engine: str, uninterrupted: dict[int, MemberResult], tmp_path: Path, ticks: int
) -> None:
    for label, result in killed_and_resumed(members_of(problem, engine), tmp_path, ticks, 5).items():
        assert_same(result, uninterrupted[label])


def test_the_ticks_cover_what_they_should(problem: NonlocalStrain) -> None:
    pack = pack_of(members_of(problem))
    seen = set()
    for tick in range(max(TICKS) + 1):
        if tick in TICKS:
            seen |= {progress.phase for progress in pack.progress}
            for row, search in enumerate(pack.second.searches):
                seen |= {"bracketing"} if search and search.evaluations and not search.zooming else set()
                seen |= {"zooming"} if search and search.zooming else set()
                pairs = len(pack.second.state(row)[1].get("own/inverse", ()))
                seen |= {"evicting"} if pairs < pack.second.iterations[row] - 1 else set()
            seen |= {"finished"} if pack.results else set()
        pack.step(1)
    assert seen == {"first", "second", "bracketing", "zooming", "evicting", "finished"}


@pytest.mark.parametrize("ticks", [9, 22])
def test_a_state_is_a_snapshot(problem: NonlocalStrain, ticks: int) -> None:
    """Kept in memory, it neither follows the pack that goes on nor wears out when it is restored from."""
    members = members_of(problem)
    pack = pack_of(members)
    padded = pack.engine.layout.padded
    pack.step(ticks)
    going = list(pack.members)
    states = pack.state()
    copies = copy.deepcopy(states)
    expected = finish(pack)
    for _ in range(2):
        again = pack_of(going, padded=padded)
        again.restore(states)
        for label, result in finish(again).items():
            assert_same(result, expected[label])
        for state, before in zip(states, copies, strict=True):
            assert repr(state.values) == repr(before.values)  # of equal numbers, a NaN among them
            for name, tensor in before.tensors.items():
                assert torch.equal(state.tensors[name], tensor), name


def test_members_packed_again_differently(
    problem: NonlocalStrain, engine: str, uninterrupted: dict[int, MemberResult]
) -> None:
    """States are unpadded: a member goes on alone, or beside one that starts anew; equal but for rounding."""
    members = members_of(problem, engine)
    pack = pack_of(members)
    pack.step(12)
    states = {state.label: state for state in pack.state()}
    alone = pack_of(members[:1])
    alone.restore([states[10]])
    beside = pack_of([members[3], members[1]])
    beside.restore([states[11]])
    assert beside.fraction(0) == 0 < beside.fraction(1)
    for label, result in {**finish(alone), **finish(beside)}.items():
        assert_close(result.parameters, uninterrupted[label].parameters, 1e-8, f"member {label}")
        assert result.counts == uninterrupted[label].counts


def test_a_state_of_another_network_is_refused(problem: NonlocalStrain) -> None:
    members = members_of(problem)
    states = pack_of(members).state()
    wider = [replace(members[0], train=replace(SHORT, width=7))]
    with pytest.raises(CheckpointError, match="member 10 belongs to another network or pack"):
        pack_of(wider).restore(states[:1])
    with pytest.raises(CheckpointError, match="member 11 belongs to another network or pack"):
        pack_of(members[:1]).restore(states[1:2])


def test_a_member_without_numbers_fails_alone(
    problem: NonlocalStrain, engine: str, tmp_path: Path, uninterrupted: dict[int, MemberResult]
) -> None:
    """One explodes in Adam, one starts beyond the numbers there are; the others end as they end without them."""
    shapes = {"W1": (2, 9), "b1": (9,), "W2": (9, 9), "b2": (9,), "W3": (9, 1), "b3": (1,)}
    np.savez(tmp_path / "huge.npz", **{name: np.full(shape, 1e200) for name, shape in shapes.items()})
    members = members_of(problem, engine)
    explodes = Member(replace(SHORT, width=9, adam_lr=1e300, engine=engine), problem, label=20)
    huge = replace(SHORT, width=9, epochs=0, init=f"file:{tmp_path / 'huge.npz'}", engine=engine)
    starts_beyond = Member(huge, problem, label=21)
    results = finish(pack_of([members[0], explodes, members[1], starts_beyond, *members[2:]]))
    assert len(results) == 9
    for label in (20, 21):
        failed = results[label]
        assert failed.stop_reason is StopReason.NOT_FINITE
        assert failed.failure == StopReason.NOT_FINITE.advice
        assert failed.metrics == failed.field == {}
        assert math.isnan(failed.loss) or math.isinf(failed.loss)
    assert results[20].counts["epochs_done"] == 1
    assert results[20].counts["evaluations"] == 2
    assert results[21].counts["evaluations"] == 1
    for label, expected in uninterrupted.items():
        assert_same(results[label], expected)


def test_schedules_end_with_their_own_reasons(problem: NonlocalStrain) -> None:
    members = [
        Member(replace(SHORT, epochs=3, iterations=0), problem, label=0),
        Member(replace(SHORT, epochs=0, iterations=2), problem, label=1),
        Member(replace(SHORT, epochs=0, iterations=0), problem, label=2),
        Member(replace(SHORT, epochs=2, max_evaluations=5), problem, label=3),
        Member(replace(SHORT, epochs=0, tolerance_grad=1e9), problem, label=4),
        Member(replace(SHORT, epochs=1, tolerance_change=1e9), problem, label=5),
    ]
    results = finish(pack_of(members))
    assert [results[label].stop_reason for label in range(6)] == [
        StopReason.EPOCHS_DONE,
        StopReason.ITERATIONS_DONE,
        StopReason.ITERATIONS_DONE,
        StopReason.EVALUATIONS_DONE,
        StopReason.GRADIENT_TOLERANCE,
        StopReason.NO_DESCENT,
    ]
    done = [
        (
            r.counts["epochs_done"],
            r.counts["first_evaluations"],
            r.counts["iterations_done"],
            r.counts["second_evaluations"],
        )
        for r in (results[label] for label in range(6))
    ]
    assert done[0] == (3, 3, 0, 0)
    assert done[1][:3] == (0, 0, 2)
    assert done[2] == (0, 0, 0, 1)
    assert done[3][:2] == (2, 2)
    assert done[3][3] == 5
    assert done[4] == done[2]
    assert done[5] == (1, 1, 0, 1)
    start = members[2]
    first = pinncore.initialisation.initial_parameters("torch", start.layers, seed=start.seed)
    assert np.array_equal(results[2].parameters, first)


def test_what_a_result_holds(problem: NonlocalStrain) -> None:
    member = Member(SHORT, problem, seed=5, label=3)
    result = finish(pack_of([member]))[3]
    size = 2 * 6 + 6 + 6 * 6 + 6 + 6 + 1
    assert (result.label, result.layers, result.engine, result.device) == (3, (2, 6, 6, 1), "fused", "cpu")
    assert result.parameters.shape == (size,)
    assert result.stop_reason is StopReason.ITERATIONS_DONE
    assert result.failure is None
    assert list(result.terms) == ["residual", "lrb", "btb"]
    assert result.loss == pytest.approx(sum(result.terms.values()), rel=1e-15)
    assert list(result.metrics) == [
        "rel_l2",
        "max_error",
        "paper_metric",
        "process_zone_error",
        "rel_l2_nodal",
        "process_zone_error_nodal",
        "distance_to_local",
        "mean_abs_du_de",
        "heldout_residual",
        "trained_residual",
        "spread",
        "over_constant",
        "effective_g_mm2",
        "equation_error",
    ]
    assert list(result.weights) == [0, 5, 30], "kept epochs of Adam, and the last: 10 epochs and 20 iterations"
    assert all(flat.shape == (size,) for flat in result.weights.values())
    assert np.array_equal(result.weights[30], result.parameters)
    assert list(result.curves) == [
        "phase",
        "step",
        "evaluations",
        "loss",
        "loss_residual",
        "loss_lrb",
        "loss_btb",
        "grad_norm",
        "rel_l2",
        "time_s",
    ]
    assert result.curves["phase"].tolist() == ["first"] * 3 + ["second"] * 6
    assert result.curves["step"].tolist() == [0, 4, 8, 0, 4, 8, 12, 16, 20]
    assert result.curves["evaluations"][:4].tolist() == [1, 5, 9, 11]
    assert result.curves["evaluations"][-1] == result.counts["evaluations"]
    assert result.curves["loss"][-1] == pytest.approx(result.loss, rel=1e-13)
    assert result.curves["rel_l2"][-1] == pytest.approx(result.metrics["rel_l2"], rel=1e-10)
    assert result.curves["grad_norm"][-1] == pytest.approx(result.grad_norm, rel=1e-9)
    for term, value in result.terms.items():
        assert result.curves[f"loss_{term}"][-1] == pytest.approx(value, rel=1e-9)
    assert (np.diff(result.curves["time_s"]) > 0).all()
    assert {name: len(column) for name, column in result.field.items()} == dict.fromkeys(
        ("x_mm", "y_mm", "predicted", "reference", "local"), 157
    )
    counts = result.counts
    assert list(counts) == [
        "epochs_done",
        "iterations_done",
        "kept_at",
        "first_evaluations",
        "second_evaluations",
        "evaluations",
    ]
    assert (counts["epochs_done"], counts["first_evaluations"], counts["iterations_done"]) == (10, 10, 20)
    assert counts["evaluations"] == counts["first_evaluations"] + counts["second_evaluations"]
    assert result.seconds["seconds"] == result.seconds["first_seconds"] + result.seconds["second_seconds"]
    assert result.seconds["first_seconds"] == 10, "a second an evaluation, by the clock that was handed in"
    predicted, reference = result.field["predicted"], result.field["reference"]
    assert result.metrics["rel_l2"] == pytest.approx(
        np.linalg.norm(predicted - reference) / np.linalg.norm(reference), rel=1e-12
    )


def test_seconds_of_a_pack_are_shared(problem: NonlocalStrain) -> None:
    """Two members at a second a tick: half a second each, so the sum over members is what the pack took."""
    train = replace(SHORT, epochs=8, iterations=0)
    results = finish(pack_of([Member(train, problem, label=0), Member(train, problem, seed=1, label=1)]))
    assert [results[label].seconds["seconds"] for label in (0, 1)] == [4.0, 4.0]


def test_the_last_epoch_of_adam_can_be_kept(problem: NonlocalStrain) -> None:
    """Where L-BFGS goes on from: the weights after all epochs."""
    train = replace(SHORT, keep_epochs=(10,))
    found = finish(pack_of([Member(train, problem)]))[0]
    adam = finish(pack_of([Member(replace(train, iterations=0), problem)]))[0]
    assert np.array_equal(found.weights[10], adam.parameters)


def test_adam_and_lbfgs_of_a_pack_are_torch_one_after_the_other(problem: NonlocalStrain) -> None:
    """The whole schedule against torch's two optimisers on the pack's own gradient."""
    pack = pack_of([Member(replace(SHORT, lr_schedule="cosine", iterations=12), problem)])
    engine, parameter = pack.engine, torch.nn.Parameter(pack.x[0].clone())

    def closure() -> torch.Tensor:
        loss, _, gradient = engine.evaluate(parameter.detach()[None])
        parameter.grad = gradient[0].clone()
        return loss[0]

    adam = torch.optim.Adam([parameter], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=10)
    for _ in range(10):
        closure()
        adam.step()
        schedule.step()
    torch.optim.LBFGS(
        [parameter],
        max_iter=12,
        max_eval=10**6,
        history_size=5,
        line_search_fn="strong_wolfe",
        tolerance_change=SHORT.tolerance_change,
    ).step(closure)
    trained = engine.layout.unpack(parameter.detach(), 0)
    assert_close(finish(pack)[0].parameters, trained, 1e-8)  # 1e-12 seen


def test_float32_trains_in_float32(problem: NonlocalStrain) -> None:
    pack = pack_of([Member(replace(SHORT, dtype="float32"), problem)])
    assert pack.x.dtype == pack.first.m.dtype == pack.second.direction.dtype == torch.float32
    single = finish(pack)[0]
    double = finish(pack_of([Member(SHORT, problem)]))[0]
    assert 0 < abs(single.curves["loss"][2] - double.curves["loss"][2]) < 1e-4 * double.curves["loss"][2]


def test_the_reference_engine_trains_to_the_same_weights(problem: NonlocalStrain) -> None:
    member = Member(SHORT, problem)
    reference = Member(replace(SHORT, engine="reference"), problem)
    found, expected = finish(pack_of([member]))[0], finish(pack_of([reference]))[0]
    assert expected.engine == "reference"
    assert_close(found.parameters, expected.parameters, 1e-8)  # 1e-12 seen


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 3},
        {"dtype": "float32"},
        {"engine": "reference"},
        {"inputs": ("x", "y", "g", "elocal")},
        {"data": "strb100"},
    ],
)
def test_members_that_cannot_share_a_pack(problem: NonlocalStrain, change: dict[str, Any]) -> None:
    train = {field.name for field in dataclasses.fields(TrainSettings)}
    first = Member(SHORT, problem)
    other = (
        replace(first, train=replace(SHORT, **change))
        if set(change) <= train
        else replace(first, problem=replace(problem, **change))
    )
    assert pack_key(first) != pack_key(other)
    with pytest.raises(SettingError, match="share problem, data, inputs, depth, activation, dtype and engine"):
        pack_of([first, other])


def test_members_that_can_share_a_pack(problem: NonlocalStrain) -> None:
    assert len({pack_key(member) for member in members_of(problem)}) == 1


def test_what_cannot_be_trained_is_refused_before_it_starts(problem: NonlocalStrain, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="at least one"):
        pack_of([])
    with pytest.raises(DataError, match="does not exist"):
        pack_of([Member(SHORT, replace(problem, data={"npz": str(tmp_path / "no.npz")}))])
    with pytest.raises(WeightsError, match="does not exist"):
        pack_of([Member(replace(SHORT, init=f"file:{tmp_path / 'no.npz'}"), problem)])
    if not torch.cuda.is_available():
        with pytest.raises(SettingError, match="device"):
            Pack([Member(SHORT, problem)], device="cuda")


def test_train_alone_on_the_bundled_data() -> None:
    """The call of the package's first lines, with a budget of seconds: the error falls."""
    settings = TrainSettings(width=8, depth=1, epochs=15, adam_lr=2e-2, iterations=15, record_every=15)
    result = pinncore.train(settings=settings, seed=1, device="cpu")
    assert len(result.field["predicted"]) == 6400
    assert result.data_sha256 == pinncore.load_data().sha256
    errors = result.curves["rel_l2"]
    assert errors[-1] < 0.6 < errors[0]
    assert result.metrics["rel_l2"] == pytest.approx(errors[-1], rel=1e-9)


def test_train_continues_from_its_own_weights(problem: NonlocalStrain, tmp_path: Path) -> None:
    """A trained network saved as a weights file is the start of the next."""
    first = pinncore.train(problem, SHORT, device="cpu")
    names = [f"{kind}{level}" for level in (1, 2, 3) for kind in "Wb"]
    pairs = [array for pair in pinncore.networks.unflatten(first.parameters, first.layers) for array in pair]
    np.savez(tmp_path / "w.npz", **dict(zip(names, pairs, strict=True)))
    untrained = replace(SHORT, init=f"file:{tmp_path / 'w.npz'}", epochs=0, iterations=0)
    again = pinncore.train(problem, untrained, device="cpu")
    assert np.array_equal(again.parameters, first.parameters)
    assert again.metrics == first.metrics


# ---- members that come, are stopped, diverge ----------------------------------------------------------------------


@pytest.mark.parametrize("ticks", [0, 7, 13, 26])
def test_members_may_join_a_pack_that_is_under_way(
    problem: NonlocalStrain, engine: str, uninterrupted: dict[int, MemberResult], ticks: int
) -> None:
    """Both those that were there and those that join end as they end together from the start."""
    members = members_of(problem, engine)
    begun = pack_of([members[0], members[3], members[4]])
    begun.step(ticks)
    finished = list(begun.results)
    joined = begun.joined([members[1], members[2], *members[5:]])
    assert joined.active == 7 - len(finished) and joined.results == finished
    assert bool(finished) == (ticks == 26)
    assert joined.members[: begun.active] == begun.members, "those that were there come first"
    assert [joined.fraction(row) for row in range(begun.active)] == [begun.fraction(row) for row in range(begun.active)]
    assert [joined.fraction(row) for row in range(begun.active, joined.active)] == [0.0] * 4
    for label, result in finish(joined).items():
        if engine == "fused":
            assert_same(result, uninterrupted[label])
        assert_close(result.parameters, uninterrupted[label].parameters, 1e-8, f"member {label}")


def test_members_that_cannot_join_leave_the_pack_as_it_was(problem: NonlocalStrain) -> None:
    pack, alone = (pack_of(members_of(problem)[:1]) for _ in range(2))
    pack.step(5)
    with pytest.raises(SettingError, match="share problem, data"):
        pack.joined([Member(replace(SHORT, depth=3), problem, label=1)])
    assert_same(finish(pack)[10], finish(alone)[10])


def test_a_stopped_member_is_judged_as_one_whose_plan_ended_there(
    problem: NonlocalStrain, uninterrupted: dict[int, MemberResult], engine: str
) -> None:
    members = members_of(problem, engine)
    pack = pack_of(members)
    pack.step(6)
    pack.stop(10, StopReason.PRUNED)
    pack.stop(99, StopReason.PRUNED)
    (stopped,) = pack.results
    planned = replace(members[0].train, epochs=6, iterations=0)
    expected = finish(pack_of([replace(members[0], train=planned)]))[10]
    assert (stopped.stop_reason, stopped.failure) == (StopReason.PRUNED, None)
    assert stopped.counts == expected.counts and stopped.counts["evaluations"] == 6
    assert stopped.curves["step"].tolist() == expected.curves["step"].tolist() == [0, 4, 6]
    if engine == "fused":
        assert_same(replace(stopped, stop_reason=expected.stop_reason), expected)
        rest = finish(pack)
        assert len(rest) == 7
        for label in set(rest) - {10}:
            assert_same(rest[label], uninterrupted[label])
    assert not StopReason.PRUNED.failed


def test_a_member_can_be_stopped_at_any_tick(problem: NonlocalStrain) -> None:
    """Before its first evaluation, and in the middle of a line search, where it falls back to its last iterate."""
    for ticks in (0, 13, 14, 15):
        pack = pack_of(members_of(problem)[:1])
        pack.step(ticks)
        expected = pack.engine.layout.unpack(pack.x[0], 0)
        pack.stop(10, StopReason.PRUNED)
        (result,) = pack.results
        assert pack.active == 0 and np.array_equal(result.parameters, expected)
        assert result.counts["evaluations"] == ticks and result.metrics["rel_l2"] is not None
        assert result.curves["rel_l2"][-1] == pytest.approx(result.metrics["rel_l2"], rel=1e-10)
        assert result.curves["step"][-1] + 10 * (result.curves["phase"][-1] == "second") == (
            result.counts["epochs_done"] + result.counts["iterations_done"]
        )


def test_what_is_recorded_at_a_step_does_not_depend_on_when_it_is_asked_for(problem: NonlocalStrain) -> None:
    """It is the newest curve row up to there; before a member has come so far there is nothing."""
    pack = pack_of(members_of(problem))
    found: dict[tuple[int, int], list[dict[str, float]]] = {}
    plans = {member.label: pack.planned(row) for row, member in enumerate(pack.members)}
    while pack.active:
        for row, member in enumerate(pack.members):
            done = pack.fraction(row) * plans[member.label]
            for step in range(1, plans[member.label]):
                recorded = pack.recorded(row, step)
                assert recorded is None or done > step
                if recorded is not None:
                    found.setdefault((member.label, step), []).append(recorded)
        pack.step(1)
    assert len(found) > 100
    for result in pack.results:
        adam = result.counts["epochs_done"]
        steps = [s + adam * (p == "second") for s, p in zip(result.curves["step"], result.curves["phase"], strict=True)]
        for step in range(1, plans[result.label]):
            newest = max((i for i, at in enumerate(steps) if at <= step), default=0)
            row = {name: float(result.curves[name][newest]) for name in ("loss", "rel_l2")}
            seen = found.get((result.label, step), [])
            assert all(each == row for each in seen), f"member {result.label} at step {step}"


def test_the_course_of_a_member_is_its_curve_so_far(problem: NonlocalStrain) -> None:
    pack = pack_of(members_of(problem)[:1])
    assert pack.course(0, "step") == pack.course(0, "loss") == []
    pack.step(18)
    steps, losses, errors = (pack.course(0, name) for name in ("step", "loss", "rel_l2"))
    result = finish(pack)[10]
    assert steps[:4] == [0, 4, 8, 10], "the steps of both stages together"
    assert losses == result.curves["loss"][: len(steps)].tolist()
    assert errors == result.curves["rel_l2"][: len(steps)].tolist()


@pytest.mark.parametrize("interrupted_after", [None, 0, 1, 2])
def test_a_loss_beyond_divergence_factor_ends_a_member(
    problem: NonlocalStrain, engine: str, uninterrupted: dict[int, MemberResult], interrupted_after: int | None
) -> None:
    """By its first value, which is kept over an interruption; the others do not notice."""
    members = members_of(problem, engine)
    exploding = replace(SHORT, width=9, adam_lr=100.0, divergence_factor=50.0, engine=engine)
    members.insert(1, Member(exploding, problem, label=20))
    padded = pack_of(members).engine.layout.padded
    pack = pack_of(members)
    if interrupted_after is not None:
        pack.step(interrupted_after)
        states = [replace(state, values=json.loads(json.dumps(state.values))) for state in pack.state()]
        pack = pack_of(members, padded=padded)
        pack.restore(states)
    results = finish(pack)
    found = results[20]
    assert found.stop_reason is StopReason.DIVERGED and StopReason.DIVERGED.failed
    assert found.failure == StopReason.DIVERGED.advice and "divergence_factor" in found.failure
    assert found.metrics == found.field == {} and math.isfinite(found.loss)
    assert 2 <= found.counts["evaluations"] <= 4
    for label, expected in uninterrupted.items():
        if engine == "fused":
            assert_same(results[label], expected)


def test_a_line_search_may_look_at_larger_losses(problem: NonlocalStrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where an iteration ends is the loss that of the member."""
    train = replace(SHORT, epochs=0, first_step=100.0, iterations=6)
    expected = finish(pack_of([Member(train, problem)]))[0]
    pack = pack_of([Member(replace(train, divergence_factor=1.001), problem)])
    losses, evaluate = [], pack.engine.evaluate

    def watched(points: torch.Tensor) -> Any:
        evaluation = evaluate(points)
        losses.append(float(evaluation[0][0]))
        return evaluation

    monkeypatch.setattr(pack.engine, "evaluate", watched)
    found = finish(pack)[0]
    assert max(losses) > 1.001 * losses[0], "it did look"
    assert_same(found, expected)


def test_a_divergence_factor_that_stops_everything_is_refused() -> None:
    with pytest.raises(SettingError, match="divergence_factor"):
        replace(SHORT, divergence_factor=1.0)
