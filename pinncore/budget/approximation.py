"""The approximation error: how close the same network comes to the reference where it is fitted to it directly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import sympy as sp

from ..equations.analysis import group
from ..equations.channels import Group
from ..equations.evaluation import symbol
from ..equations.writing import Written
from ..member import Member
from ..problems import PointSet, Predictor, Problem
from ..problems.columns import rms
from ..settings import TrainSettings
from ..trained import TrainedNetwork
from ..training import Pack
from ..weight_files import write_network

EPOCHS: Final = 500
LEARNING_RATE: Final = 5e-3  # falls to zero
ITERATIONS: Final = 1000
DENSE_PARAMETERS: Final = 2500  # up to which SSBroyden is used: it keeps their square, and fits better
TICKS_BETWEEN_LOOKS: Final = 50

Look = Callable[[Pack], None]


@dataclass(frozen=True)
class Approximation:
    """The relative L2 error of the fitted network, and what the better of two fits began with."""

    rel_l2: float
    start: str
    points: int


def best_fit(network: TrainedNetwork, look: Look | None = None) -> Approximation:
    """Fit the network to the reference of its problem, which must exist, from new weights and from its own.

    Layers, activation, precision, scales and hard conditions are the network's; the loss is the sum over the outputs
    of the mean square error relative to the mean square. `look` is called with the pack from time to time.
    """
    problem = fitted_problem(network.problem)
    again = TrainSettings(
        width=network.train.width,
        depth=network.train.depth,
        activation=network.train.activation,
        dtype=network.train.dtype,
        epochs=EPOCHS,
        adam_lr=LEARNING_RATE,
        lr_schedule="cosine",
        second_stage="ssbroyden" if len(network.parameters) <= DENSE_PARAMETERS else "lbfgs",
        iterations=ITERATIONS,
        lbfgs_curvature="relative",
        tolerance_grad=0.0,
        keep_epochs=(),
    )
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder, "start.npz")
        write_network(network, start)
        members = [Member(again, problem, 0, 0), Member(replace(again, init=f"file:{start}", epochs=0), problem, 0, 1)]
        pack = Pack(members, device="cpu")
    while pack.active:
        pack.step(TICKS_BETWEEN_LOOKS)
        if look is not None and pack.active:
            look(pack)
    errors = {result.label: result.metrics.get("rel_l2") for result in pack.results}
    best = min((error, label) for label, error in errors.items() if error is not None)
    return Approximation(best[0], ("new weights", "the weights of the trial")[best[1]], len(problem.field_points))


class _Fitted(Problem):
    """A problem with another loss: the misfit to the reference at the field points, by the same network."""

    @cached_property
    def written(self) -> Written:
        before = super().written
        pairs = zip(before.outputs.values(), self._names, strict=True)
        terms = {name: (output - _known(name)) * symbol(f"factor_{name}") for output, name in pairs}
        points = (*before.point_symbols, *map(_known, terms))
        return replace(before, terms=terms, equations=tuple(terms), point_symbols=points)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(_term(column.symbol) for column in self.outputs)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return (group(self.written, self._names, {}),)

    @property
    def weights(self) -> tuple[float, ...]:
        return (1.0,) * len(self.outputs)

    @property
    def loss_form(self) -> str:
        return "mean_square"

    def symbol_values(self) -> dict[str, float]:
        expected = self.point_sets[0].values
        sizes = {f"factor_{name}": 1 / rms(expected[str(_known(name))]) for name in self._names}
        return {**super().symbol_values(), **sizes}

    def evaluate(self, predict: Predictor) -> dict[str, float | None]:
        return {"rel_l2": self.error(predict.value(self.field_points.inputs))}


def _term(output: str) -> str:
    return f"misfit_{output}"


def _known(term: str) -> Any:
    """Return the symbol of the reference values of a term."""
    return sp.Symbol(f"{term}_reference", real=True)


def fitted_problem(problem: Problem) -> Problem:
    """Return the problem of fitting a network to the reference of another problem, which must exist."""
    points, solution = problem.field_points, problem.solution
    assert solution is not None
    own = {"name": f"{problem.name}_fit", "__module__": type(problem).__module__}
    kind: Any = type("Fitted", (_Fitted, type(problem)), own)
    fitted = object.__new__(kind)
    values = {str(_known(_term(c.symbol))): each for c, each in zip(problem.outputs, solution, strict=True)}
    fitted_points = PointSet("fit", points.inputs, {**points.values, **values})
    vars(fitted).update(vars(problem) | {"point_sets": (fitted_points,), "held_out": (), "batch": None})
    return fitted
