"""Problems of every kind that engines evaluate, and the comparison of two engines on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from pinncore import Box, Condition, Problem, TorchCall
from pinncore.engines import Engine, Evaluation, Picks
from pinncore.initialisation import initial_parameters
from pinncore.networks import layer_sizes

from ..helpers import CPU

FEW = {"points": 90, "condition_points": 20}


class Burgers(Problem):
    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "m/s"}
    viscosity: float = 0.01 / math.pi
    domain = Box(x=(-1, 1), t=(0, 1))

    def equations(self, u: Any, x: Any, t: Any) -> Any:
        return {"momentum": u.diff(t) + u * u.diff(x) - self.viscosity * u.diff(x, 2)}

    def conditions(self, u: Any, x: Any, t: Any) -> Any:
        return [
            Condition("walls", u, on=self.domain.faces("x"), weight=3.0),
            Condition("start", u + sp.sin(sp.pi * x), on=self.domain.face(t=0)),
        ]


class HardBurgers(Burgers):
    def transform(self, u: Any, x: Any, t: Any) -> Any:
        return -sp.sin(sp.pi * x) + t * (1 - x**2) * u

    def conditions(self, u: Any, x: Any, t: Any) -> Any:
        return []


class Helmholtz(Problem):
    coordinates = {"x": "m", "y": "m"}
    outputs = {"u": "1"}
    wave_number: float = 1.0
    domain = Box(x=(-1, 1), y=(-1, 1))

    def equations(self, u: Any, x: Any, y: Any) -> Any:
        exact = sp.sin(sp.pi * x) * sp.sin(4 * sp.pi * y)
        source = (self.wave_number**2 - 17 * sp.pi**2) * exact
        return {"helmholtz": u.diff(x, 2) + u.diff(y, 2) + self.wave_number**2 * u - source}

    def conditions(self, u: Any, x: Any, y: Any) -> Any:
        return [Condition("walls", u, on=self.domain.boundary)]


class VariableWave(Problem):
    """Different coefficients of two second derivatives, one of which varies: a form with a column."""

    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "1"}
    speed: float = 2.0
    domain = Box(x=(0, 3), t=(0, 1))

    def equations(self, u: Any, x: Any, t: Any) -> Any:
        return {"wave": u.diff(t, 2) - self.speed**2 * (1 + x**2 / 4) * u.diff(x, 2)}

    def conditions(self, u: Any, x: Any, t: Any) -> Any:
        start = self.domain.face(t=0)
        return [Condition("start", u - sp.sin(sp.pi * x), on=start), Condition("rest", u.diff(t), on=start)]


class Kovasznay(Problem):
    coordinates = {"x": "m", "y": "m"}
    outputs = {"u": "m/s", "v": "m/s", "p": "Pa"}
    reynolds: float = 20.0
    domain = Box(x=(-0.5, 1), y=(-0.5, 1.5))

    def equations(self, u: Any, v: Any, p: Any, x: Any, y: Any) -> Any:
        def laplacian(w: Any) -> Any:
            return w.diff(x, 2) + w.diff(y, 2)

        return {
            "momentum_x": u * u.diff(x) + v * u.diff(y) + p.diff(x) - laplacian(u) / self.reynolds,
            "momentum_y": u * v.diff(x) + v * v.diff(y) + p.diff(y) - laplacian(v) / self.reynolds,
            "continuity": u.diff(x) + v.diff(y),
        }

    def conditions(self, u: Any, v: Any, p: Any, x: Any, y: Any) -> Any:
        return [
            Condition("inflow", u - sp.exp(-x) * sp.cos(2 * sp.pi * y), on=self.domain.face(x=-0.5), weight=2.0),
            Condition("outflow", p, on=self.domain.face(x=1)),
        ]


class Mixed(Problem):
    """Mixed second derivatives, nonlinear in them, with functions that have kinks."""

    coordinates = {"x": "m", "y": "m"}
    outputs = {"u": "1"}
    slope: float = 0.5
    domain = Box(x=(0, 2), y=(-1, 0))

    def equations(self, u: Any, x: Any, y: Any) -> Any:
        monge_ampere = u.diff(x, 2) * u.diff(y, 2) - u.diff(x, y) ** 2
        kinks = sp.Max(u, self.slope * x) + sp.Piecewise((u**3, x > 1), (sp.Abs(u.diff(y)), True))
        return {"monge_ampere": monge_ampere + kinks - sp.sqrt(1 + u**2) / (2 + x)}


class FourInputs(Problem):
    coordinates = {"x": "m", "y": "m", "z": "m", "t": "s"}
    outputs = {"u": "K"}
    domain = Box(x=(0, 1), y=(0, 2), z=(-1, 1), t=(0, 5))

    def equations(self, u: Any, x: Any, y: Any, z: Any, t: Any) -> Any:
        flux = (1 + x * y) * u.diff(x, 2) + u.diff(y, 2) + sp.cos(z) * u.diff(z, 2) + u.diff(x, z)
        return {"heat": u.diff(t) - flux, "slope": u.diff(y) - u.diff(z) * z}


class OneInput(Problem):
    coordinates = {"x": "m"}
    outputs = {"u": "m", "w": "m"}
    domain = Box(x=(0, 1))

    def equations(self, u: Any, w: Any, x: Any) -> Any:
        return {"beam": u.diff(x, 2) - w, "load": w.diff(x, 2) - sp.exp(x)}

    def conditions(self, u: Any, w: Any, x: Any) -> Any:
        return [Condition("ends", u, on=self.domain.boundary)]


def clipped(u: Tensor, slope: Tensor, limit: Tensor) -> Tensor:
    return torch.clamp(slope, -1.0, 1.0) + torch.nn.functional.softplus(u) - limit


class Clipped(Problem):
    """A residual that SymPy cannot say."""

    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "1"}
    limit: float = 0.3
    domain = Box(x=(0, 1), t=(0, 1))

    def equations(self, u: Any, x: Any, t: Any) -> Any:
        return {"clipped": TorchCall(clipped, (u, u.diff(x, 2) - u.diff(t), self.limit)), "plain": u.diff(t) * x}


def variants(kind: type[Problem], **common: Any) -> list[Problem]:
    """Three problems of a class that differ in scale and in their own float settings."""
    own = {Burgers: "viscosity", HardBurgers: "viscosity", Helmholtz: "wave_number", VariableWave: "speed"}
    own |= {Kovasznay: "reynolds", Mixed: "slope", Clipped: "limit"}
    more: list[dict[str, Any]] = [{own[kind]: 0.2 + 0.5 * i} if kind in own else {} for i in range(3)]
    return [kind(**FEW, **common, scale_factor=1.0 + 0.4 * i, **each) for i, each in enumerate(more)]


ALL: Sequence[type[Problem]] = (
    Burgers, HardBurgers, Helmholtz, VariableWave, Kovasznay, Mixed, FourInputs, OneInput, Clipped
)  # fmt: skip


def build_engine(
    kind: type[Engine],
    problems: Sequence[Problem],
    *,
    widths: Sequence[int] = (5, 8, 3),
    depth: int = 2,
    activation: str = "tanh",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Engine, Tensor]:
    """An engine for one network per problem, and start weights with biases that are not zero."""
    layers = [
        layer_sizes(len(p.input_columns), width=width, depth=depth, outputs=len(p.outputs))
        for p, width in zip(problems, widths, strict=False)
    ]
    layout = kind.arrange(layers)
    flats = [initial_parameters("torch", each, seed=seed + i) for i, each in enumerate(layers)]
    engine = kind(problems, layout, dtype=dtype, device=CPU, activation=activation)
    return engine, layout.pack(flats, dtype=dtype, device=CPU)


def assert_same(found: Tensor, expected: Tensor, tolerance: float, name: str, scale: Tensor | None = None) -> None:
    """Differences against the sum of absolute parts where it is given, else against the largest value."""
    assert found.shape == expected.shape, name
    size = expected.abs().max() if scale is None else scale
    off = float(((found - expected).abs() / torch.where(size > 0, size, torch.ones_like(size))).max())
    assert off <= tolerance, f"{name}: {off:.2e}"


def assert_engines_agree(
    kind: type[Engine],
    other: type[Engine],
    problems: Sequence[Problem],
    tolerance: float,
    *,
    rows: Sequence[int] | None = None,
    picks: Picks | None = None,
    **options: Any,
) -> None:
    """Loss, terms, gradient, outputs, channels and residuals of two engines, member by member."""
    engine, x = build_engine(kind, problems, **options)
    reference, y = build_engine(other, problems, **options)
    chosen = list(range(len(problems))) if rows is None else list(rows)
    found, expected = engine.evaluate(x[chosen], rows, picks), reference.evaluate(y[chosen], rows, picks)
    compare(engine, found, reference, expected, chosen, tolerance)
    assert_same(engine.outputs(x[chosen], chosen), reference.outputs(y[chosen], chosen), tolerance, "outputs")
    for row in chosen:
        for index, (group, points) in enumerate(zip(problems[row].groups, problems[row].point_sets, strict=True)):
            columns = problems[row].group_columns(index, points)
            channels = [
                e.channels(p[row], row, group.channels, points, columns) for e, p in ((engine, x), (reference, y))
            ]
            assert_same(*channels, tolerance, f"channels of {group.terms}", expected_scale(channels[1]))
            residuals = [e.residuals(p[row], row, index, points) for e, p in ((engine, x), (reference, y))]
            assert_same(*residuals, tolerance, f"residuals of {group.terms}")


def expected_scale(channels: Tensor) -> Tensor:
    """Return the largest value of each channel, at least a small share of the largest of all."""
    largest = channels.abs().amax(dim=2, keepdim=True)
    return largest.clamp(min=1e-3 * float(largest.max()))


def compare(
    engine: Engine, found: Evaluation, reference: Engine, expected: Evaluation, rows: Sequence[int], tolerance: float
) -> None:
    """Evaluations of two engines; a padded parameter has no gradient."""
    assert_same(found.loss, expected.loss, tolerance, "loss")
    assert_same(found.terms, expected.terms, tolerance, "terms")
    for position, row in enumerate(rows):
        ours, theirs = (
            torch.from_numpy(e.layout.unpack(g[position], row))
            for e, g in ((engine, found.gradient), (reference, expected.gradient))
        )
        assert_same(ours, theirs, tolerance, f"gradient of member {row}")
        outside = np.setdiff1d(np.arange(engine.layout.size), engine.layout.positions(row))
        assert not found.gradient[position, outside].any(), "a padded parameter has a gradient"
