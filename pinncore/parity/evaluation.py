"""Loss, gradient and channels of one network with one thing or another changed, on purpose or by rounding.

What only changes numbers (points, weights, directions of derivatives) is evaluated by engine `fused` where it can be,
what changes the structure of an equation, or the passes through the network, by batched products in PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from ..activations import Activation, Slopes, activation_of
from ..engines import Evaluation, FusedEngine, TorchEngine
from ..engines.torch_engine import Saved, activation_reverse
from ..equations.channels import Channels, Form, Group
from ..errors import SettingError
from ..networks import Layers
from ..problems import PointSet, Problem
from ..problems.columns import Array
from ..problems.nonlocal_strain import NonlocalStrain
from ..training import DTYPES

Backward = Literal["whole", "value", "channels", "both"]

EPSILON: Final = {"float32": 2.0**-23, "float64": 2.0**-52}
FUNCTION_UNITS: Final = 8.0  # in the last place, that fast vector functions may be off (XLA's tanh: 6.5)
_DEVICE: Final = torch.device("cpu")
_SCALINGS: Final[Mapping[str, Callable[[int], float]]] = {  # factors of a loss term with so many points
    "": lambda points: 1.0,
    "sum": lambda points: float(points),
    "half mean": lambda points: 0.5,
    "half sum": lambda points: points / 2,
    "root": lambda points: points**-0.5,
}


@dataclass(frozen=True)
class Changes:
    """What differs from the evaluation of a problem; the defaults change nothing.

    `factors` multiply columns of points by symbol; `exchanged` names two loss terms whose points are swapped; `zeroed`
    are names of derivatives of loss terms (`lrb/u_x`) that count as zero, `directions` take those to a coordinate
    (`lrb/x`) to another input of the network, by index; `form` and `scaling` change the loss terms, `weights` only
    their weights in the loss;
    `backward` leaves the activation's derivative out of the passed-back error (`value`: of the values; `channels`: also
    of the derivatives; `both`: of the derivatives to the inputs too).
    """

    problem: Mapping[str, Any] = field(default_factory=dict)  # settings
    factors: Mapping[str, float] = field(default_factory=dict)
    exchanged: tuple[str, ...] = ()
    zeroed: tuple[str, ...] = ()
    directions: Mapping[str, int] = field(default_factory=dict)
    form: str = ""  # mean_square or norm
    scaling: str = ""  # of every loss term, of _SCALINGS
    weights: Mapping[str, float] = field(default_factory=dict)
    backward: Backward = "whole"
    activation: str = ""
    dtype: str = ""

    @property
    def key(self) -> str:
        """Return a text that is equal for equal changes."""
        return repr(self)

    def joined(self, other: Changes) -> Changes:
        """Return both together; `other` wins where both change one thing."""
        values: dict[str, Any] = {}
        for part in dataclasses.fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            if isinstance(mine, Mapping):
                values[part.name] = {**mine, **theirs}
            elif part.name in ("exchanged", "zeroed"):
                values[part.name] = mine + tuple(name for name in theirs if name not in mine)
            else:
                values[part.name] = mine if theirs == part.default else theirs
        return Changes(**values)


class ChangedProblem:
    """A problem as engines see it, with other groups, points, weights or directions."""

    def __init__(self, base: Problem, changes: Changes) -> None:
        self.unchanged = base
        self.name = base.name
        sets = [_scaled(base, points, changes.factors) for points in base.point_sets]
        self.groups = tuple(_changed_group(base, group, changes) for group in base.groups)
        self.terms = base.terms
        firsts = [group.terms[0] for group in base.groups]
        if changes.exchanged:
            one, two = (firsts.index(term) for term in changes.exchanged)
            sets[one], sets[two] = sets[two], sets[one]
        self.point_sets = tuple(sets)
        self.loss_form = changes.form or base.loss_form
        counts = [len(points) for points, group in zip(sets, base.groups, strict=True) for _ in group.terms]
        self.term_factors = np.array([_SCALINGS[changes.scaling](count) for count in counts])
        given = np.array(base.weights, dtype=np.float64)
        given = given * np.array([changes.weights.get(term, 1.0) for term in base.terms])
        self.weights = tuple(given * self.term_factors)
        self.seeds = np.array([base.scales[column.symbol][1] for column in base.input_columns])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unchanged, name)


def _scaled(base: Problem, points: PointSet, factors: Mapping[str, float]) -> PointSet:
    if not factors:
        return points
    values = {symbol: array * factors.get(symbol, 1.0) for symbol, array in points.values.items()}
    return base.at(points.name, values)


def _changed_group(base: Problem, group: Group, changes: Changes) -> Group:
    """Return a group with derivatives that are zero or to other inputs."""
    zeroed = [name for term, _, name in (each.partition("/") for each in changes.zeroed) if term in group.terms]
    turned = {
        each.partition("/")[2]: to for each, to in changes.directions.items() if each.partition("/")[0] in group.terms
    }
    channels, residuals = group.channels, group.residuals
    names = channel_names(base, group)
    if turned:
        firsts = list(channels.firsts)
        for place, coordinate in enumerate(channels.firsts):
            letter = base.coordinates[coordinate].symbol
            firsts[place] = turned.get(letter, coordinate)
        channels = dataclasses.replace(channels, firsts=tuple(firsts))
    if zeroed:
        gone = {
            symbol: 0
            for names_of, symbols in zip(names, group.channel_symbols, strict=True)
            for name, symbol in zip(names_of, symbols, strict=True)
            if name in zeroed
        }
        residuals = tuple(_without(residual, gone) for residual in residuals)
        partial = [name for name in zeroed if name not in {n for each in names for n in each}]
        if partial:
            whole = [name in zeroed for name in names[0][1 + len(channels.firsts) :]]
            channels = _without_parts(base, group.channels.firsts, channels, partial, whole)
    return dataclasses.replace(group, channels=channels, residuals=residuals)


def _without(residual: Any, gone: Mapping[Any, int]) -> Any:
    """Return a residual without some channels; these stay in it, times zero, so that it has a gradient."""
    nothing = [sp.Mul(0, symbol, evaluate=False) for symbol in gone]
    return sp.Add(residual.subs(gone), *nothing, evaluate=False)


def _without_parts(
    base: Problem, firsts: tuple[int, ...], channels: Channels, gone: list[str], whole: list[bool]
) -> Channels:
    """Return channels whose forms lack the second derivatives named `gone`, such as u_xx; `whole` are zero anyway."""
    letters = [base.coordinates[coordinate].symbol for coordinate in firsts]
    forms = []
    for form, is_gone in zip(channels.forms, whole, strict=True):
        kept = tuple(
            part for part in form if not any(name.endswith(f"_{letters[part[0]]}{letters[part[1]]}") for name in gone)
        )
        if not kept and not is_gone:
            raise SettingError("derivatives", gone, "leave nothing of an operator", "The whole operator is tried too.")
        forms.append(form if is_gone else kept)
    return dataclasses.replace(channels, forms=tuple(forms))


def channel_names(problem: Problem, group: Group) -> list[list[str]]:
    """Return the names of the channels of each output of a group: u, u_x, u_xx or laplacian."""
    letters = [problem.coordinates[coordinate].symbol for coordinate in group.channels.firsts]
    named = []
    for output in problem.outputs:
        names = [output.symbol, *(f"{output.symbol}_{letter}" for letter in letters)]
        for number, form in enumerate(group.channels.forms):
            parts = [(letters[p] + letters[q], column) for p, q, column in form]
            if len(parts) == 1 and parts[0][1] is None:
                names.append(f"{output.symbol}_{parts[0][0]}")
            elif all(column is None and pair[: len(pair) // 2] * 2 == pair for pair, column in parts):
                names.append("laplacian" if len(problem.outputs) == 1 else f"{output.symbol}_laplacian")
            else:
                names.append(f"{output.symbol}_form{number}")
        named.append(names)
    return named


class Noise:
    """Signs drawn at random, for changes of one unit in the last place."""

    def __init__(self, seed: int, dtype: str) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._epsilon = EPSILON[dtype]

    def shaken(self, values: Tensor, units: float = 1.0) -> Tensor:
        """Return values, each changed by one unit in the last place, or so many."""
        signs = torch.randint(0, 2, values.shape, generator=self._generator, dtype=torch.int8).mul_(2).sub_(1)
        return values * (1 + units * self._epsilon * signs.to(values.dtype))

    def signs(self, shape: tuple[int, ...]) -> Array:
        """Return +1 and -1 at random."""
        return np.asarray(torch.randint(0, 2, shape, generator=self._generator).numpy()) * 2.0 - 1.0

    def summed(self, sums: Any, terms: int) -> Array:
        """Return sums of so many terms, as if each partial sum were off by one unit: by the root of their number."""
        return np.asarray(sums) * (1 + self._epsilon * terms**0.5 * self.signs(np.shape(sums)))

    def shaken_array(self, values: Array) -> Array:
        """Return an array, likewise."""
        return np.asarray(self.shaken(torch.as_tensor(np.array(values))).numpy())


def _position(names: list[list[str]], name: str) -> tuple[int, int | None]:
    """Return the output and the place of a channel; no place where it is none of the group's."""
    for output, own in enumerate(names):
        if name in own:
            return output, own.index(name)
    output = next((i for i, own in enumerate(names) if own[0] == name.partition("_")[0]), 0)
    return output, None


class _Shaken(Activation):
    """An activation whose values and derivatives are off by one unit in the last place."""

    name = "shaken"

    def __init__(self, base: Activation, noise: Noise) -> None:
        self._base, self._noise = base, noise

    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        shaken = self._noise.shaken(self._base.value(z.clone()), FUNCTION_UNITS)
        return shaken if out is None else out.copy_(shaken)

    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        first, second, kept = self._base.slopes(z, a)
        return Slopes(self._noise.shaken(first), self._noise.shaken(second), kept)

    def third(self, slopes: Slopes) -> Tensor:
        return self._base.third(slopes)


class _Straight(Activation):
    """An activation whose derivative is taken to be one."""

    name = "straight"

    def __init__(self, base: Activation) -> None:
        self._base = base

    def value(self, z: Tensor, *, out: Tensor | None = None) -> Tensor:
        return self._base.value(z, out=out)

    def slopes(self, z: Tensor, a: Tensor) -> Slopes:
        return Slopes(torch.ones_like(z), torch.zeros_like(z), ())

    def third(self, slopes: Slopes) -> Tensor:
        return torch.zeros_like(slopes.first)


class InstrumentedEngine(TorchEngine):
    """Batched products with a changed activation or passed-back error."""

    _backward: Backward = "whole"

    def instrument(self, *, noise: Noise | None = None, backward: Backward = "whole") -> None:
        """Shake the activations, or change how errors are passed back."""
        if noise is not None:
            self._sigma = _Shaken(self._sigma, noise)
        if backward == "both":
            self._sigma = _Straight(self._sigma)
        self._backward = backward

    def _reverse(self, channels: Channels, columns: Tensor, saved: Saved, cotangent: Tensor) -> Tensor:
        if self._backward == "channels":
            return cotangent.clone()
        following = activation_reverse(self._sigma, channels, columns, saved, cotangent)
        if self._backward == "value":
            following[:, :, 0] += (1 - saved.slopes.first) * cotangent[:, :, 0]
        return following


class Evaluator:
    """One network on a problem with changes, evaluated one point of its parameters at a time."""

    def __init__(self, problem: Problem, layers: Layers, dtype: str, activation: str, changes: Changes) -> None:
        self.dtype = changes.dtype or dtype
        base = _with_settings(problem, changes.problem)
        self.problem = ChangedProblem(base, changes)
        self.layers, self.activation = layers, changes.activation or activation
        self._changes, self.key = changes, changes.key
        # what may be tried once only is not worth a kernel
        is_plain = not changes.zeroed and changes.backward == "whole" and not changes.activation
        is_plain &= not any(group.needs_torch or group.is_coupled for group in base.groups)
        self._fast = self._engine(FusedEngine) if is_plain else None

    def _engine(self, kind: type[Any], problem: Any = None) -> Any:
        return kind(
            [problem or self.problem],
            kind.arrange([self.layers]),
            dtype=DTYPES[self.dtype],
            device=_DEVICE,
            activation=activation_of(self.activation).name,
        )

    @property
    def points(self) -> int:
        """Return the largest number of points of a loss term."""
        return max(map(len, self.problem.point_sets))

    @property
    def engine(self) -> Any:
        """Return the engine that evaluates without noise."""
        return self._slow_engine if self._fast is None else self._fast

    @cached_property
    def _slow_engine(self) -> InstrumentedEngine:
        engine: InstrumentedEngine = self._engine(InstrumentedEngine)
        engine.instrument(backward=self._changes.backward)
        return engine

    def shaken(self, noise: Noise) -> InstrumentedEngine:
        """Return an engine whose points and activations are off by one unit in the last place."""
        problem = ShakenProblem(self.problem, noise)
        engine: InstrumentedEngine = self._engine(InstrumentedEngine, problem)
        engine.instrument(noise=noise, backward=self._changes.backward)
        return engine

    def evaluate(self, flat: Array, engine: Any = None) -> tuple[float, Array, Array]:
        """Return loss, terms [terms] as a program records them, gradient [parameters]."""
        engine = engine or self.engine
        x = engine.layout.pack([flat], dtype=engine.dtype, device=_DEVICE)
        found: Evaluation = engine.evaluate(x)
        terms = found.terms[0].double().numpy() * self.problem.term_factors
        return float(found.loss[0]), terms, engine.layout.unpack(found.gradient[0], 0)

    def named(self, flat: Array, group: int, name: str, engine: Any = None) -> Array:
        """Return an output or a derivative [points] at the points of a group, to coordinates: u, u_x, u_xy, laplacian.

        What counts as zero is zero.
        """
        base = self.problem.unchanged.groups[group]
        if any(f"{term}/{name}" in self._changes.zeroed for term in base.terms):
            return np.zeros(len(self.problem.point_sets[group]))
        engine = engine or self.engine
        problem = engine.problems[0]
        record, points = problem.groups[group], problem.point_sets[group]
        output, place = _position(channel_names(self.problem.unchanged, base), name)
        channels, columns = record.channels, problem.group_columns(group, points)
        if place is None:
            channels, columns, place = self._single(base, record, name), columns[:0], -1
            if not isinstance(engine, InstrumentedEngine):  # no kernel is compiled for a single look
                engine = self._slow_engine
        x = engine.layout.pack([flat], dtype=engine.dtype, device=_DEVICE)
        found = engine.channels(x[0], 0, channels, points, columns)
        return np.array(found[output, place].double().numpy())

    def _single(self, base: Group, group: Group, name: str) -> Channels:
        """Return the channels of one derivative, whose last one it is."""
        problem = self.problem.unchanged
        letters = [column.symbol for column in problem.coordinates]
        wanted = name.partition("_")[2]
        if name == "laplacian":
            pairs = [(letter, letter) for letter in letters]
        else:
            pairs = [(wanted[0], wanted[-1])] if len(wanted) > 1 else []
        used = tuple(dict.fromkeys(letter for pair in pairs for letter in pair)) or tuple(wanted)
        turned = dict(zip(base.channels.firsts, group.channels.firsts, strict=True))
        firsts = tuple(turned.get(letters.index(letter), letters.index(letter)) for letter in used)
        form: Form = tuple((used.index(p), used.index(q), None) for p, q in pairs)
        return Channels(firsts, (form,) if form else ())


class ShakenProblem(ChangedProblem):
    """A problem whose points and data are off by one unit in the last place."""

    def __init__(self, base: ChangedProblem, noise: Noise) -> None:
        self.unchanged = base  # type: ignore[assignment]
        self.point_sets = tuple(
            PointSet(
                points.name,
                noise.shaken_array(points.inputs),
                {symbol: noise.shaken_array(values) for symbol, values in points.values.items()},
            )
            for points in base.point_sets
        )


def _with_settings(problem: Problem, settings: Mapping[str, Any]) -> Problem:
    """Return a problem with other settings and the same points. Raises `SettingError`."""
    if not settings:
        return problem
    changed = dataclasses.replace(problem, **settings)
    if isinstance(problem, NonlocalStrain) and isinstance(changed, NonlocalStrain):
        return changed.with_tables(problem.tables)
    points = tuple(changed.at(points.name, points.values) for points in problem.point_sets)
    vars(changed)["point_sets"] = points
    return changed
