"""The packed L-BFGS-B is SciPy's, bit for bit: iterates, counts, ends, from any checkpoint and beside any company."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

from pinncore import FieldData, SettingError
from pinncore.networks import layer_sizes
from pinncore.optim import StopReason
from pinncore.optim import scipy_lbfgsb as module
from pinncore.optim.scipy_lbfgsb import PackedScipy, ScipySettings

from ..helpers import build
from .test_lbfgs import rosenbrock, rosenbrock_starts

Array = NDArray[np.float64]
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]  # values [rows] and gradients [rows, size]


@dataclass(frozen=True)
class Path:
    """The point after each iteration, the evaluations up to it, and the end."""

    points: list[Array]
    evaluations: list[int]
    total: int
    stop: StopReason | None
    loss: float


def scipy_path(objective: Objective, start: Tensor, settings: ScipySettings, *, own: Array | None = None) -> Path:
    """`scipy.optimize.minimize` on one member in float64; `own` are the positions of its parameters in its row."""
    size, place = start.numel(), np.arange(start.numel()) if own is None else own
    points: list[Array] = []
    counts: list[int] = []
    count = 0

    def function(x: Array) -> tuple[float, Array]:
        nonlocal count
        count += 1
        row = np.zeros(size)
        row[place] = x
        value, gradient = objective(torch.as_tensor(row).to(start.dtype)[None])
        return float(value[0]), gradient[0].double().numpy()[place]

    def follow(x: Array) -> None:
        points.append(x.copy())
        counts.append(count)

    most = settings.max_evaluations
    found = scipy.optimize.minimize(
        function,
        start.double().numpy()[place],
        jac=True,
        method="L-BFGS-B",
        callback=follow,
        options={
            "maxcor": settings.history,
            "ftol": settings.tolerance_change,
            "gtol": settings.tolerance_grad,
            "maxiter": settings.iterations,
            "maxfun": 10**9 if most is None else most,
            "maxls": settings.line_search_steps,
        },
    )
    ends = {
        "CONVERGENCE: NORM": StopReason.GRADIENT_TOLERANCE,
        "CONVERGENCE: RELA": StopReason.LOSS_TOLERANCE,
        "STOP: TOTAL NO. OF I": StopReason.ITERATIONS_DONE,
        "STOP: TOTAL NO. OF F": StopReason.EVALUATIONS_DONE,
        "ABNORMAL": StopReason.NO_DESCENT,
    }
    (stop,) = (reason for words, reason in ends.items() if found.message.startswith(words))
    assert found.nit == len(points) and found.nfev == count
    return Path(points, counts, count, stop, float(found.fun))


def packed_paths(objective: Objective, starts: Tensor, optimiser: PackedScipy) -> list[Path]:
    """All members at once, to their ends."""
    members = len(starts)
    points: list[list[Array]] = [[] for _ in range(members)]
    counts: list[list[int]] = [[] for _ in range(members)]
    while rows := [row for row, reason in enumerate(optimiser.stopped) if reason is None]:
        asked = starts.clone()
        asked[rows] = optimiser.points(rows)
        before = [None if run is None else run.x.copy() for run in optimiser.searches]
        values, gradients = objective(asked)
        for row in optimiser.tell(rows, values[rows].tolist(), gradients[rows]):
            point = before[row]
            assert point is not None
            own = optimiser.x[row].numpy()[optimiser.positions[row]]
            assert np.array_equal(own, point.astype(own.dtype)), "x is where the iteration ended"
            points[row].append(point)
            counts[row].append(optimiser.evaluations[row])
    return [
        Path(points[row], counts[row], optimiser.evaluations[row], optimiser.stopped[row], optimiser.losses[row])
        for row in range(members)
    ]


def assert_same(found: Path, expected: Path, name: str) -> None:
    assert found.stop is expected.stop, name
    assert found.total == expected.total, f"{name}: evaluations"
    assert found.evaluations == expected.evaluations, f"{name}: evaluations up to each iteration"
    for step, (point, reference) in enumerate(zip(found.points, expected.points, strict=True)):
        assert np.array_equal(point, reference), f"{name}: iterate {step + 1}"


def everywhere(starts: Tensor) -> list[NDArray[np.int64]]:
    return [np.arange(starts.shape[1])] * len(starts)


SETTINGS = [
    ScipySettings(tolerance_grad=0.0),
    ScipySettings(history=3, tolerance_grad=1e-5),
    ScipySettings(history=10_000, iterations=40),
    ScipySettings(tolerance_change=1e-4),
    ScipySettings(max_evaluations=30),
]


def test_rosenbrock_to_the_end() -> None:
    """Five starts in one pack, each with settings and an end of its own; room for 10,000 pairs is not needed."""
    starts = rosenbrock_starts()
    found = packed_paths(rosenbrock, starts, PackedScipy(SETTINGS, starts, everywhere(starts)))
    for row, path in enumerate(found):
        assert_same(path, scipy_path(rosenbrock, starts[row], SETTINGS[row]), f"start {row}")
    assert [path.stop for path in found[1:]] == [
        StopReason.GRADIENT_TOLERANCE,
        StopReason.ITERATIONS_DONE,
        StopReason.LOSS_TOLERANCE,
        StopReason.EVALUATIONS_DONE,
    ]
    assert len(found[1].points) > 20, "a history of 3 must evict"
    assert found[4].total > 30, "SciPy ends the line search first"


@pytest.mark.parametrize("limit", [1, 2, 17])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_limits_cut_where_scipy_cuts(limit: int, steps: int) -> None:
    """Inside and between line searches, long and short."""
    starts = rosenbrock_starts()
    each = [
        ScipySettings(max_evaluations=limit, line_search_steps=steps),
        ScipySettings(iterations=limit, line_search_steps=steps),
    ]
    for settings in each:
        optimiser = PackedScipy([settings] * len(starts), starts, everywhere(starts))
        for row, path in enumerate(packed_paths(rosenbrock, starts, optimiser)):
            assert_same(path, scipy_path(rosenbrock, starts[row], settings), f"start {row}")


def test_a_direction_of_no_use_is_the_end() -> None:
    """From the tenth evaluation on the gradient has the wrong sign: two searches fail, the second without a memory."""
    starts = rosenbrock_starts()[:1]

    def turning() -> Objective:
        count = itertools.count(1)

        def objective(x: Tensor) -> tuple[Tensor, Tensor]:
            values, gradients = rosenbrock(x)
            return values, gradients if next(count) < 10 else -gradients

        return objective

    settings = ScipySettings(line_search_steps=4)
    optimiser = PackedScipy([settings], starts, everywhere(starts))
    (path,) = packed_paths(turning(), starts, optimiser)
    assert_same(path, scipy_path(turning(), starts[0], settings), "the only start")
    assert path.stop is StopReason.NO_DESCENT
    assert path.total - path.evaluations[-1] > 4, "more than one search after the last iteration"
    assert np.array_equal(optimiser.x[0].numpy(), path.points[-1])
    assert path.loss == float(rosenbrock(optimiser.x)[0][0])


@pytest.mark.parametrize("padded", [(), (2, 11, 9, 1)])
def test_strb100_at_the_members_own_parameters(strb100: FieldData, padded: tuple[int, ...]) -> None:
    """A network of 8 units, alone and padded: what SciPy does on the flat vector without the zeros."""
    engine, starts = build([layer_sizes(2, width=8, depth=2)], strb100, padded=padded)
    settings, own = ScipySettings(iterations=40), engine.layout.positions(0)

    def objective(x: Tensor) -> tuple[Tensor, Tensor]:
        loss, _, gradient = engine.evaluate(x)
        return loss, gradient

    (found,) = packed_paths(objective, starts, PackedScipy([settings], starts, [own]))
    assert_same(found, scipy_path(objective, starts[0], settings, own=own), "width 8")
    assert found.loss < 0.5 * float(objective(starts)[0])


def test_float32_is_evaluated_in_float32_and_optimised_in_float64() -> None:
    starts = rosenbrock_starts().float()
    settings = ScipySettings(iterations=300)
    optimiser = PackedScipy([settings] * len(starts), starts, everywhere(starts))
    for row, path in enumerate(packed_paths(rosenbrock, starts, optimiser)):
        assert path.points[-1].dtype == np.float64
        assert not np.array_equal(path.points[0], path.points[0].astype(np.float32))
        assert_same(path, scipy_path(rosenbrock, starts[row], settings), f"start {row}")
    assert optimiser.x.dtype == optimiser.gradient.dtype == torch.float32


def steps(optimiser: PackedScipy, rows: Sequence[int], ticks: int) -> None:
    for _ in range(ticks):
        values, gradients = rosenbrock(optimiser.points(rows))
        optimiser.tell(rows, values.tolist(), gradients)


def test_a_state_continues_from_any_evaluation() -> None:
    """Saved at every tick, read back through JSON, then 15 ticks on: every array as without the interruption."""
    starts = rosenbrock_starts()
    members = [replace(ScipySettings(), history=history) for history in (2, 3, 4, 50, 500)]
    rows = list(range(len(members)))
    optimiser = PackedScipy(members, starts, everywhere(starts))
    saved = []
    for _ in range(60):
        saved.append([optimiser.state(row) for row in rows])
        snapshot = [{name: tensor.clone() for name, tensor in tensors.items()} for _, tensors in saved[-1]]
        saved[-1] = [(values, tensors) for (values, _), tensors in zip(saved[-1], snapshot, strict=True)]
        steps(optimiser, rows, 1)
    assert not any(optimiser.stopped)
    for tick in range(45):
        resumed = PackedScipy(members, torch.zeros_like(starts), everywhere(starts))
        for row, (values, tensors) in enumerate(saved[tick]):
            resumed.load(row, json.loads(json.dumps(values)), tensors)
        steps(resumed, rows, 15)
        for row, (values, tensors) in enumerate(saved[tick + 15]):
            found_values, found = resumed.state(row)
            assert json.dumps(found_values) == json.dumps(values), f"member {row}, from tick {tick}"
            assert found.keys() == tensors.keys()
            for name, tensor in tensors.items():
                assert torch.equal(found[name], tensor), f"{name} of member {row}, from tick {tick}"


def test_company_changes_nothing_and_leaves_when_it_is_told() -> None:
    starts = rosenbrock_starts()
    settings = [ScipySettings(history=history) for history in (2, 3, 4, 50, 5)]
    together = PackedScipy(settings, starts, everywhere(starts))
    steps(together, [0, 1, 2, 3, 4], 10)
    steps(together, [1, 3], 5)
    together.keep([3, 1])
    steps(together, [0, 1], 5)
    for place, row in enumerate((3, 1)):
        alone = PackedScipy([settings[row]], starts[row : row + 1], everywhere(starts[:1]))
        steps(alone, [0], 20)
        run, expected = together.searches[place], alone.searches[0]
        assert run is not None and expected is not None
        assert np.array_equal(run.x, expected.x)
        assert torch.equal(together.x[place], alone.x[0])
        assert torch.equal(together.gradient[place], alone.gradient[0])
        assert (together.iterations[place], together.losses[place]) == (alone.iterations[0], alone.losses[0])


def test_what_lies_outside_a_member_is_neither_read_nor_moved() -> None:
    starts = torch.zeros(2, 25, dtype=torch.float64)
    places = [np.arange(20), np.arange(3, 23)]
    for row, place in enumerate(places):
        starts[row, place] = rosenbrock_starts()[row]
    optimiser = PackedScipy([ScipySettings()] * 2, starts, places)
    for _ in range(30):
        points = optimiser.points([0, 1])
        inside = torch.stack([points[row, place] for row, place in enumerate(places)])
        values, gradients = rosenbrock(inside)
        told = torch.full_like(starts, torch.nan)
        for row, place in enumerate(places):
            told[row, place] = gradients[row]
        optimiser.tell([0, 1], values.tolist(), told)
    assert optimiser.stopped == [None, None]
    assert not optimiser.x[0, 20:].any() and not optimiser.x[1, :3].any() and not optimiser.x[1, 23:].any()


def test_members_stop_for_reasons_of_their_own() -> None:
    """At the minimum, without an iteration to do, without a number at once and later."""
    starts = torch.ones(4, 20, dtype=torch.float64)
    starts[1:] = rosenbrock_starts()[:3]
    starts[2, 0] = torch.nan
    settings = [ScipySettings(), ScipySettings(iterations=0), ScipySettings(), ScipySettings()]
    optimiser = PackedScipy(settings, starts, everywhere(starts))
    steps(optimiser, [0, 1, 2, 3], 1)
    assert optimiser.stopped[:3] == [
        StopReason.GRADIENT_TOLERANCE,
        StopReason.ITERATIONS_DONE,
        StopReason.NOT_FINITE,
    ]
    values, gradients = rosenbrock(optimiser.points([3]))
    gradients[0, 7] = torch.inf
    assert optimiser.tell([3], values.tolist(), gradients) == []
    assert optimiser.stopped[3] is StopReason.NOT_FINITE
    assert optimiser.iterations == [0, 0, 0, 0]
    assert torch.equal(optimiser.x[3], starts[3])


def test_terms_and_losses_are_those_of_the_last_iteration() -> None:
    starts = rosenbrock_starts()[:1]
    optimiser = PackedScipy([ScipySettings()], starts, everywhere(starts))
    losses = []
    for tick in range(12):
        values, gradients = rosenbrock(optimiser.points([0]))
        accepted = optimiser.tell([0], values.tolist(), gradients, [(float(tick),)])
        if accepted or tick == 0:
            losses.append(float(values[0]))
            assert optimiser.terms[0] == (float(tick),)
            assert torch.equal(optimiser.gradient[0], gradients[0])
        assert optimiser.losses[0] == losses[-1]
    assert losses == sorted(losses, reverse=True) and len(losses) > 5


def test_another_scipy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the private routine is gone, takes other arguments, or does something else."""

    def older(m: int, x: Array, *others: object) -> None:
        raise TypeError("setulb() takes other arguments")

    def idle(*arguments: object) -> None:
        """Finds nothing."""

    for broken in (None, older, idle):
        module._routine.cache_clear()
        monkeypatch.setattr("scipy.optimize._lbfgsb.setulb", broken)
        with pytest.raises(SettingError, match=r"second_stage: needs the L-BFGS-B routine of SciPy 1\.15") as caught:
            PackedScipy([ScipySettings()], torch.zeros(1, 2), [np.arange(2)])
        assert "second_stage: lbfgs" in caught.value.way_out
    module._routine.cache_clear()
