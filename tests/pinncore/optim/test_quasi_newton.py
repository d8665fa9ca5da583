"""BFGS and the self-scaled Broyden family: as printed, as in SciPy, and to the minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

from pinncore.optim import LBFGSSettings, PackedLBFGS, StopReason
from pinncore.optim.memory import BatchedMemory, CompiledMemory, Curvature
from pinncore.optim.memory.broyden import METHODS, broyden_parameters

from .test_lbfgs import packed_paths, rosenbrock, rosenbrock_starts
from .test_memory import EXACT, Kinds, Pairs, alone, difference, quadratic_pairs, spec

Array = NDArray[np.float64]
CURVATURES: tuple[Curvature, Curvature] = ("torch", "relative")


def ssbroyden_as_printed(ys: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
    """tau_k and phi_k of Urban, Stefanou and Pons (2025), eq. 13-23, symbol for symbol."""
    b_k = sbs / ys
    h_k = yhy / ys
    a_k = h_k * b_k - 1
    c_k = np.sqrt(a_k / (a_k + 1))
    rho_minus = min(1, h_k * (1 - c_k))
    theta_minus = (rho_minus - 1) / a_k
    theta_plus = 1 / rho_minus
    theta_k = max(theta_minus, min(theta_plus, (1 - b_k) / b_k))
    sigma_k = 1 + theta_k * a_k
    rho_k = min(1, 1 / b_k)
    power = sigma_k ** (1 / (1 - n))
    tau_k = min(rho_k * power, sigma_k) if theta_k <= 0 else rho_k * min(power, 1 / theta_k)
    return tau_k, (1 - theta_k) / sigma_k


def family_by_hand(method: str, pairs: Pairs) -> list[Tensor]:
    """Directions by eq. 10 of the same paper on a full matrix."""
    size = pairs.steps.shape[1]
    h, found, first = np.eye(size), [], True
    for step, change, gradient, bend in pairs:
        s, y = step.numpy(), change.numpy()
        if s @ y > 1e-10:
            if method == "bfgs" and first:
                h = h * (s @ y) / (y @ y)  # Nocedal and Wright eq. 6.20
            first = False
            hy = h @ y
            tau, phi = 1.0, 1.0
            if method == "ssbfgs":
                tau = min(1, (s @ y) / bend)  # eq. 11
            if method == "ssbroyden":
                tau, phi = ssbroyden_as_printed(s @ y, y @ hy, bend, size)
            v = np.sqrt(y @ hy) * (s / (y @ s) - hy / (y @ hy))
            h = (h - np.outer(hy, hy) / (y @ hy) + phi * np.outer(v, v)) / tau + np.outer(s, s) / (y @ s)
        found.append(torch.as_tensor(-h @ gradient.numpy()))
    return found


@pytest.mark.parametrize("kind", [CompiledMemory, BatchedMemory])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "count"), [(3, 3), (17, 40), (45, 40)])
def test_the_family_as_printed(kind: Kinds, method: str, size: int, count: int) -> None:
    """Few pairs in few dimensions: once H is exact, b h - 1 and with it theta are rounding."""
    drawn = quadratic_pairs(size, count, seed=size)
    pairs = Pairs(drawn.steps, drawn.changes, drawn.gradients, true_bends(method, drawn))
    assert difference(alone(kind, spec("dense", 1, method), pairs), family_by_hand(method, pairs)) < EXACT


def true_bends(method: str, pairs: Pairs) -> list[float]:
    """s'Bs of the matrix itself, H inverted: what the steps of a line search along -H g have."""
    bends: list[float] = []
    for k, (step, _, _, _) in enumerate(pairs):
        before = Pairs(pairs.steps[:k], pairs.changes[:k], pairs.gradients[:k], bends)
        s = step.numpy()
        bends.append(float(s @ np.linalg.solve(matrix_by_hand(method, before), s)))
    return bends


def matrix_by_hand(method: str, pairs: Pairs) -> Array:
    """H after some pairs, read by unit gradients beside pairs that change nothing."""
    size = pairs.steps.shape[1]
    reading = torch.eye(size, dtype=torch.float64)
    blank = torch.zeros_like(reading)
    read = Pairs(
        torch.cat([pairs.steps, blank]),
        torch.cat([pairs.changes, blank]),
        torch.cat([pairs.gradients, reading]),
        [*pairs.bends, *[1.0] * size],
    )
    return -torch.stack(family_by_hand(method, read)[len(pairs.bends) :]).numpy()


def test_bfgs_is_the_update_of_scipy() -> None:
    pairs = quadratic_pairs(12, 30)
    reference = scipy.optimize.BFGS(exception_strategy="skip_update", min_curvature=1e-14, init_scale="auto")
    reference.initialize(12, "inv_hess")
    found = alone(CompiledMemory, spec("dense", 1, "bfgs"), pairs)
    for direction, (s, y, g, _) in zip(found, pairs, strict=True):
        if s @ y > 1e-10:
            reference.update(s.numpy(), y.numpy())
        assert difference([direction], [torch.as_tensor(-reference.get_matrix() @ g.numpy())]) < EXACT


def test_bfgs_finds_the_inverse_hessian_of_a_quadratic() -> None:
    """With exact line searches, after as many steps as dimensions: then the direction is Newton's."""
    size = 6
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((size, size)))[0]
    hessian = (axes * np.linspace(1, 20, size)) @ axes.T
    memory = CompiledMemory([spec("dense", 1, "bfgs")], [np.arange(size)], torch.float64)
    x, direction = generator.standard_normal(size), torch.zeros(1, size, dtype=torch.float64)
    gradient = hessian @ x
    direction[0] = torch.as_tensor(-gradient)
    for _ in range(size):
        d = direction[0].numpy()
        step = -(gradient @ d) / (d @ hessian @ d) * d
        x, before, gradient = x + step, gradient, hessian @ (x + step)
        rows = [torch.as_tensor(row)[None] for row in (step, gradient - before, gradient)]
        memory.advance([0], rows[0], rows[1], rows[2], [1.0], direction)
    probe = torch.as_tensor(generator.standard_normal(size))[None]
    memory.advance([0], torch.zeros_like(probe), torch.zeros_like(probe), probe, [1.0], direction)
    assert difference([direction[0]], [torch.as_tensor(-np.linalg.solve(hessian, probe[0].numpy()))]) < 1e-8


@pytest.mark.parametrize("b", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("h", [0.5, 1.0, 7.0])
def test_scaling_and_member_stay_in_their_bounds(b: float, h: float) -> None:
    """tau in (0, 1] and phi below the value from which H would lose its definiteness, also where bh = 1 or below."""
    for method in METHODS.values():
        tau, phi = broyden_parameters(method, 1.0, h, b, 30)
        assert 0 < tau <= 1.0
        assert math.isfinite(phi)
        if b * h > 1:  # v'v of eq. 10 against Hy: positive definite above -1/(bh - 1)
            assert phi > -1 / (b * h - 1)


def test_what_does_not_exist_is_bfgs() -> None:
    ssbfgs, ssbroyden = METHODS["ssbfgs"], METHODS["ssbroyden"]
    assert broyden_parameters(ssbfgs, 1.0, 2.0, math.nan, 5) == (1.0, 1.0)
    assert broyden_parameters(ssbroyden, 1.0, 2.0, -3.0, 5) == (1.0, 1.0)
    assert broyden_parameters(ssbroyden, 1.0, 0.5, 2.0, 5) == (0.5, 1.0), "s and Hy parallel: the scaling alone"
    assert broyden_parameters(ssbroyden, 1.0, 2.0, 2.0, 1) == (0.5, 1.0), "one parameter"


def every_method(**settings: float) -> list[LBFGSSettings]:
    lbfgs = [LBFGSSettings(10_000, 10_000, memory=form, **settings) for form in ("two_loop", "compact", "dense")]  # type: ignore[arg-type]
    return lbfgs + [LBFGSSettings(10_000, method=method, **settings) for method in METHODS]  # type: ignore[arg-type]


def test_every_method_finds_a_minimum_of_rosenbrock() -> None:
    settings = every_method(tolerance_change=0.0)
    starts = rosenbrock_starts()[:1].repeat(len(settings), 1)
    for each, path in zip(settings, packed_paths(rosenbrock, starts, settings), strict=True):
        assert path.stop in (StopReason.GRADIENT_TOLERANCE, StopReason.STEP_TOLERANCE), each
        values, gradients = rosenbrock(torch.as_tensor(path.last)[None])
        assert gradients.abs().max() < 1e-6, "as flat as the values can tell"
        assert values[0] < 1e-12 or abs(values[0] - 3.98) < 0.02, "the minimum, or the one there is near x_1 = -1"
        assert len(path.points) < 300, each


def pairs_kept(settings: Sequence[LBFGSSettings], shrink: float) -> tuple[list[int], list[float]]:
    """Pairs held after 60 evaluations of a tiny loss, and how far each member got, over the shrinking."""
    starts = rosenbrock_starts()[:1].repeat(len(settings), 1)
    optimiser, rows = PackedLBFGS(settings, starts), list(range(len(settings)))
    for _ in range(60):
        rows = [row for row in rows if optimiser.stopped[row] is None]
        values, gradients = rosenbrock(optimiser.points(rows))
        optimiser.tell(rows, (shrink * values).tolist(), shrink * gradients)
    held = [len(optimiser.state(row)[1]["own/inverse"]) for row in range(len(settings))]
    return held, [loss / shrink for loss in optimiser.losses]


def test_a_relative_curvature_test_serves_small_losses() -> None:
    """At a loss of 1e-12 torch's absolute test drops every pair: steepest descent. The relative one knows no scale."""
    settings = [
        LBFGSSettings(tolerance_grad=0.0, tolerance_change=0.0, memory="two_loop", curvature=curvature)
        for curvature in CURVATURES
    ]
    held, reached = pairs_kept(settings, 2.0**-47)
    assert held[0] == 0
    assert held[1] >= 30
    assert reached[1] < 0.1 * reached[0]
