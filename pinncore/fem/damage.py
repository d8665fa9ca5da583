"""Damage analyses: a specimen is loaded in steps, and both fields are solved for together by Newton's method.

The tangent is exact, so the iteration is quadratic. It starts where the straight line through the last two load steps
leads, which is why undamaged increments need one iteration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from scipy.sparse.linalg import splu

from ..errors import DataError
from .assembly import CoupledSystem, GaussState
from .quads import Array, Quads
from .specimens import Specimen

TOLERANCE: Final = 1e-12  # of the largest terms; rounding leaves some 1e-14
MOST_ITERATIONS: Final = 12  # StrB100 needs 1 to 4 with whole steps
MOST_HALVINGS: Final = 8
_RUN_AWAY: Final = 1e6  # times the largest terms


@dataclass(frozen=True)
class LoadStep:
    """A converged load step, a whole increment or a part of one."""

    load_factor: float
    iterations: int
    unknowns: Array
    state: GaussState


@dataclass(frozen=True)
class Increment:
    """A converged increment: unknowns [nodes, 3] (two displacements in mm, and u), and the Gauss points."""

    number: int
    steps: tuple[LoadStep, ...]  # one, or more where Newton's method did not converge with the whole increment

    @property
    def load_factor(self) -> float:
        """Return the load factor at its end."""
        return self.steps[-1].load_factor

    @property
    def unknowns(self) -> Array:
        """Return the unknowns at its end."""
        return self.steps[-1].unknowns

    @property
    def state(self) -> GaussState:
        """Return the state at its end."""
        return self.steps[-1].state

    @property
    def iterations(self) -> int:
        """Return the Newton iterations of all its steps."""
        return sum(step.iterations for step in self.steps)

    @property
    def note(self) -> str | None:
        """Return a sentence where the load step was halved, None where it is whole."""
        if len(self.steps) == 1:
            return None
        factors = ", ".join(f"{step.load_factor:g}" for step in self.steps)
        return (
            f"increment {self.number}: Newton's method did not converge with the whole load step, so it was halved; "
            f"solved at the load factors {factors}"
        )


@dataclass(frozen=True)
class DamageAnalysis:
    """The analysis of a specimen on a mesh of `elements` x `elements`.

    Newton's method converges where no residual exceeds `TOLERANCE` times the largest term of its equation; after
    `most_iterations` it has failed, and the load step is halved.
    """

    specimen: Specimen
    elements: int
    most_iterations: int = MOST_ITERATIONS

    @cached_property
    def quads(self) -> Quads:
        """Return the mesh. Raises `DataError` where the specimen cannot have it."""
        return self.specimen.mesh(self.elements)

    @cached_property
    def system(self) -> CoupledSystem:
        """Return the equations."""
        nodes = self.quads.nodes
        held = self.specimen.supports(nodes) | self.specimen.pulled(nodes)
        fixed = np.concatenate([held, np.zeros((len(nodes), 1), bool)], axis=1)
        return CoupledSystem(self.quads, self.specimen.material, fixed)

    def increments(self) -> Iterator[Increment]:
        """Yield one increment after the other, without end.

        Raises `DataError` where Newton's method does not converge however small the load step.
        """
        unknowns, no_history = np.zeros((len(self.quads.nodes), 3)), np.zeros(self.quads.gauss.shape)
        step = before = LoadStep(0.0, 0, unknowns, self.system.state(unknowns, no_history))
        number = 0
        while True:
            number += 1
            steps: list[LoadStep] = []
            targets = [number * self.specimen.load_step]
            while targets:
                following = self._solve(before, step, targets[-1])
                if following is None:
                    targets.append(self._halved(number, step.load_factor, targets[-1]))
                    continue
                targets.pop()
                steps.append(following)
                before, step = step, following
            yield Increment(number, tuple(steps))

    def _solve(self, before: LoadStep, last: LoadStep, load_factor: float) -> LoadStep | None:
        """Return the next load step, None where Newton's method does not converge. It starts on a straight line."""
        system, history = self.system, last.state.history
        passed = last.load_factor - before.load_factor
        ahead = (load_factor - last.load_factor) / passed if passed else 0.0
        unknowns = last.unknowns + ahead * (last.unknowns - before.unknowns)
        unknowns[:, :2][self.specimen.pulled(self.quads.nodes)] = self.specimen.pull_mm * load_factor
        for iteration in range(self.most_iterations + 1):
            state = system.state(unknowns, history)
            residual, largest = system.residual(unknowns, state)
            beside = (np.abs(np.where(system.fixed, 0.0, residual)) / largest).max()
            if iteration and beside <= TOLERANCE:
                return LoadStep(load_factor, iteration, unknowns, state)
            if iteration == self.most_iterations or not beside < _RUN_AWAY:
                break
            try:
                factors = splu(
                    system.tangent(state),
                    permc_spec="NATURAL",  # the unknowns are in a good order
                    diag_pivot_thresh=0.0,  # which pivoting would destroy; the diagonal is large enough
                    options={"SymmetricMode": True},
                )
            except RuntimeError:  # it is singular
                break
            unknowns.ravel()[system.free] -= factors.solve(residual.ravel()[system.free])
        return None

    def _halved(self, number: int, from_factor: float, to_factor: float) -> float:
        """Return the load factor in the middle. Raises `DataError` where the step is too small to be halved again."""
        step = (to_factor - from_factor) / 2
        if step < self.specimen.load_step / 2**MOST_HALVINGS * (1 - 1e-9):
            raise DataError(
                f"increment: the analysis of {self.specimen.name} with {self.elements} x {self.elements} elements "
                f"does not reach {number}: from load factor {from_factor:g} Newton's method does not converge, not "
                f"even with a step of {2 * step:.3g}. The last increment is {number - 1}"
            )
        return from_factor + step
