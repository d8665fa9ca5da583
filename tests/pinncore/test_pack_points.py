"""Packs whose points change: mini-batches and points drawn anew, exact over interruptions and company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import sympy as sp
import torch

from pinncore import (
    Member,
    NonlocalStrain,
    Problem,
    StopReason,
    TrainSettings,
    pack_key,
    read_checkpoint,
    write_checkpoint,
)
from pinncore.batches import picks
from pinncore.equations.conditions import Condition
from pinncore.geometry import Box

from .helpers import assert_close
from .test_packs import assert_same, finish, pack_of

TRAIN = TrainSettings(width=5, depth=2, epochs=12, adam_lr=1e-2, iterations=8, record_every=3, keep_epochs=(0, 6))


class Decay(Problem):
    """Two outputs: u_t = rate u_xx and its flux, on points that are few."""

    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "K", "q": "K/m"}
    rate: float = 0.1
    start: Literal["sine", "none"] = "sine"
    domain = Box(x=(0, 1), t=(0, 1))

    def equations(self, u: Any, q: Any, x: Any, t: Any) -> dict[str, Any]:
        return {"heat": u.diff(t) - self.rate * q.diff(x), "flux": q - u.diff(x)}

    def conditions(self, u: Any, x: Any) -> list[Condition]:
        conditions = [Condition("walls", u, on=self.domain.faces("x"))]
        if self.start == "sine":
            conditions.append(Condition("start", u - sp.sin(sp.pi * x), on=self.domain.face(t=0), weight=3.0))
        return conditions

    def reference(self, x: Any, t: Any) -> dict[str, Any]:
        u = sp.sin(sp.pi * x) * sp.exp(-self.rate * sp.pi**2 * t)
        return {"u": u, "q": u.diff(x)}


PROBLEM = Decay(points=90, condition_points=30, batch=20, resample_every=5)


@pytest.fixture(scope="module", params=["fused", "torch"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def members_of(engine: str, problem: Decay = PROBLEM) -> list[Member]:
    """At different epochs at every tick, in the first and in the second stage."""
    members = [
        Member(TRAIN, problem, seed=1, label=10),
        Member(replace(TRAIN, epochs=3, width=7), replace(problem, rate=0.3), seed=2, label=11),
        Member(replace(TRAIN, epochs=0), problem, seed=3, label=12),
        Member(replace(TRAIN, epochs=20, iterations=0), problem, seed=4, label=13),
    ]
    return [replace(member, train=replace(member.train, engine=engine)) for member in members]


def test_members_of_a_pack_are_the_members_alone(engine: str) -> None:
    together = finish(pack_of(members_of(engine)))
    for member in members_of(engine):
        alone = finish(pack_of([member]))[member.label]
        if engine == "fused":
            assert_same(together[member.label], alone)
        assert_close(together[member.label].parameters, alone.parameters, 1e-8, f"member {member.label}")
        assert together[member.label].counts == alone.counts


# before the first, within a pass, where points were just drawn anew, in both stages, after members have left
@pytest.mark.parametrize("ticks", [0, 1, 5, 7, 11, 14])
def test_resumed_is_uninterrupted(engine: str, tmp_path: Path, ticks: int) -> None:
    expected = finish(pack_of(members_of(engine)))
    pack = pack_of(members_of(engine))
    padded = pack.engine.layout.padded
    pack.step(ticks)
    done = {result.label: result for result in pack.results}
    write_checkpoint(tmp_path / "checkpoint", pack.state())
    states, _ = read_checkpoint(tmp_path / "checkpoint")
    resumed = pack_of([member for member in members_of(engine) if member.label not in done], padded=padded)
    resumed.restore(states)
    for label, result in {**done, **finish(resumed)}.items():
        assert_same(result, expected[label])


@pytest.mark.parametrize("ticks", [4, 5, 6])
def test_a_stopped_member_is_judged_on_the_points_of_its_epoch(tmp_path: Path, ticks: int) -> None:
    """Whether it was interrupted before or not."""
    results = []
    for interrupted in (False, True):
        pack = pack_of(members_of("torch")[:1])
        pack.step(ticks)
        if interrupted:
            state = pack.state()
            pack = pack_of(members_of("torch")[:1])
            pack.restore(state)
        pack.stop(10, StopReason.PRUNED)
        results += pack.results
    assert_same(*results)


def test_members_that_join_have_their_own_rounds(engine: str) -> None:
    """Also where the member before them leaves just as they get to its round."""
    first, late = members_of(engine)[0], members_of(engine)[3]
    pack = pack_of([first])
    pack.step(3)
    pack = pack.joined([late])
    pack.step(5)
    pack.stop(first.label, StopReason.PRUNED)
    found, expected = finish(pack)[late.label], finish(pack_of([late]))[late.label]
    assert_close(found.parameters, expected.parameters, 1e-8)


def test_first_stages_see_batches_and_second_stages_all_points(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = pack_of(members_of(engine)[:2])
    seen: list[tuple[Any, Any]] = []
    kind, evaluate = type(pack.engine), type(pack.engine).evaluate

    def watched(self: Any, points: torch.Tensor, rows: Any = None, chosen: Any = None) -> Any:
        seen.append((rows, chosen))
        return evaluate(self, points, rows, chosen)

    monkeypatch.setattr(kind, "evaluate", watched)
    pack.step(3)
    for epoch, (rows, chosen) in enumerate(seen):
        assert list(rows) == [0, 1]
        for row, seed in enumerate((1, 2)):
            expected = picks([90, 30, 30], 20, seed=seed, epoch=epoch)
            assert all(np.array_equal(a, b) for a, b in zip(chosen[row], expected, strict=True))
    seen.clear()
    pack.step(1)  # member 11 is in its second stage
    assert [list(rows) for rows, _ in seen] == [[0], [1]]
    assert [len(seen[0][1][0][0]), seen[1][1]] == [20, None]
    seen.clear()
    finish(pack)
    both = [rows for rows, chosen in seen[-3:] if chosen is None]
    assert both and all(rows is None for rows in both)


def test_curves_hold_the_loss_of_the_batch_and_results_that_of_all_points() -> None:
    train = replace(TRAIN, epochs=4, iterations=0, record_every=1, engine="torch")
    result = finish(pack_of([Member(train, PROBLEM, seed=1)]))[0]
    every = finish(pack_of([Member(train, replace(PROBLEM, batch=None, resample_every=None), seed=1)]))[0]
    assert result.curves["loss"][0] != pytest.approx(every.curves["loss"][0], rel=1e-6)
    assert result.curves["rel_l2"][0] == every.curves["rel_l2"][0], "errors are those of the field"
    alone = Member(replace(train, epochs=0, init="torch"), PROBLEM, seed=1)
    first = finish(pack_of([alone]))[0]
    assert first.loss == pytest.approx(every.curves["loss"][0], rel=1e-12), "without an epoch all points count"
    assert list(result.terms) == ["heat", "flux", "walls", "start"]
    weighted = result.terms["heat"] + result.terms["flux"] + result.terms["walls"] + 3 * result.terms["start"]
    assert result.loss == pytest.approx(weighted, rel=1e-12)


def test_points_are_drawn_anew_every_so_many_epochs_and_then_stay(engine: str) -> None:
    pack = pack_of(members_of(engine, replace(PROBLEM, batch=None))[:1])
    drawn = []
    while pack.active:
        drawn.append(pack.engine.problems[0].point_sets[0].inputs)
        pack.step(1)
    rounds = [next(i for i, other in enumerate(drawn) if np.array_equal(other, each)) for each in drawn]
    assert rounds[:14] == [0] * 6 + [6] * 5 + [11] * 3, "seen after the tick of epochs 0, 5 and 10"
    assert set(rounds[14:]) == {11}


@pytest.mark.parametrize("second_stage", ["lbfgs", "scipy", "ssbroyden"])
def test_second_stages_do_not_know_of_batches(second_stage: Literal["lbfgs", "scipy", "ssbroyden"]) -> None:
    train = replace(TRAIN, epochs=0, second_stage=second_stage, engine="torch")
    batched, full = (
        finish(pack_of([Member(train, replace(PROBLEM, batch=batch, resample_every=every), seed=2)]))[0]
        for batch, every in ((20, 5), (None, None))
    )
    assert_same(batched, full)


def test_members_with_and_without_batches_share_a_pack(engine: str, coarse_npz: Path) -> None:
    """Their points differ in number, so they are evaluated apart; each is as alone."""
    train = replace(TRAIN, engine=engine)
    problem = NonlocalStrain(data={"npz": str(coarse_npz)})
    batches = (40, None, 40, 30)
    members = [Member(train, replace(problem, batch=batch), seed=i, label=i) for i, batch in enumerate(batches)]
    together = finish(pack_of(members))
    for member in members:
        alone = finish(pack_of([member]))[member.label]
        if engine == "fused":
            assert_same(together[member.label], alone)
        assert_close(together[member.label].parameters, alone.parameters, 1e-8)


def test_floats_that_may_change_a_grid_are_the_same_in_a_pack() -> None:
    for sampler, share in (("sobol", True), ("grid", False), ("gauss", False)):
        problem = replace(PROBLEM, points_sampler=sampler, resample_every=None)
        keys = {pack_key(Member(TRAIN, replace(problem, rate=rate))) for rate in (0.1, 0.2)}
        assert (len(keys) == 1) == share


def test_several_outputs_have_a_field_and_an_error_each() -> None:
    result = finish(pack_of([Member(replace(TRAIN, engine="torch"), PROBLEM, seed=1)]))[0]
    assert set(result.field) == {"x", "t", "predicted_u", "reference_u", "predicted_q", "reference_q"}
    errors = [result.metrics[f"rel_l2_{name}"] for name in "uq"]
    assert result.metrics["rel_l2"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-12)
    assert result.curves["rel_l2"][-1] == pytest.approx(result.metrics["rel_l2"], rel=1e-9)
    for name, error in zip("uq", errors, strict=True):
        reference = result.field[f"reference_{name}"]
        distance = np.linalg.norm(result.field[f"predicted_{name}"] - reference) / np.linalg.norm(reference)
        assert distance == pytest.approx(error, rel=1e-9)


def test_terms_may_differ_between_structures_but_not_in_a_pack() -> None:
    other = replace(PROBLEM, start="none")
    result = finish(pack_of([Member(replace(TRAIN, engine="torch", epochs=2, iterations=0), other)]))[0]
    assert list(result.terms) == ["heat", "flux", "walls"]
    assert "loss_start" not in result.curves
    with pytest.raises(ValueError, match="share"):
        pack_of([Member(TRAIN, PROBLEM), Member(TRAIN, other)])
