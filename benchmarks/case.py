"""The numbers of one comparison in a file: points, data, start weights, and the answer that every contender must give.

Contenders read the file with NumPy only, so none of them needs the libraries of another in its process.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .options import Shape

if TYPE_CHECKING:
    from pinncore import Problem

Array = NDArray[np.float64]
Data = str | dict[str, str]  # argument of `pinncore.load_data`
ALLOWED = {"float64": 1e-10, "float32": 1e-4}  # difference of loss and gradient, relative to the largest value


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Members and the loss and gradient that every contender must find for them. All in float64.

    `layers` [layers + 2]; flat start vectors `starts` [members, parameters]; by the reference engine `losses` [members]
    and `gradients` [members, parameters].
    """

    each: ClassVar[tuple[str, ...]] = ("starts", "losses", "gradients")  # with one row for each member

    layers: NDArray[np.int64]
    starts: Array
    losses: Array
    gradients: Array

    @property
    def members(self) -> int:
        """Return the number of members."""
        return len(self.starts)

    def first(self, members: int) -> Self:
        """Return the same case with its first `members` members only."""
        return replace(self, **{name: getattr(self, name)[:members] for name in self.each})

    def weights(self, member: int) -> list[tuple[Array, Array]]:
        """Return a member's start weights as [(W [in, out], b [out]), ...]."""
        return unflatten(self.starts[member], self.layers)

    def difference(self, losses: Array, gradients: Array) -> float:
        """Return the largest difference of losses and gradients to the reference, relative to the largest value."""
        if losses.shape != self.losses.shape or gradients.shape != self.gradients.shape:
            return float("inf")
        loss_errors = np.abs(losses - self.losses) / np.abs(self.losses)
        gradient_errors = np.abs(gradients - self.gradients).max(axis=1) / np.abs(self.gradients).max(axis=1)
        worst = float(max(loss_errors.max(), gradient_errors.max()))
        return worst if np.isfinite(worst) else float("inf")

    def save(self, path: Path) -> None:
        """Write the case as an `.npz`."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a case that `save` wrote."""
        with np.load(path) as archive:
            return cls(**{field.name: archive[field.name] for field in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Case(Answers):
    """The non-local strain problem in network units.

    `interior`, `lrb`, `btb`: network inputs [points, 2]; `g`, `elocal` and the true solution `truth` [interior points];
    `boundary_weight` [].
    """

    interior: Array
    lrb: Array
    btb: Array
    g: Array
    elocal: Array
    truth: Array
    boundary_weight: Array


def unflatten(flat: Array, layers: NDArray[np.int64]) -> list[tuple[Array, Array]]:
    """Return a flat vector as [(W [in, out], b [out]), ...]: W before b, layer by layer."""
    weights, start = [], 0
    for before, after in itertools.pairwise(map(int, layers)):
        end = start + before * after
        weights.append((flat[start:end].reshape(before, after), flat[end : end + after]))
        start = end + after
    return weights


def flatten(weights: list[tuple[Array, Array]]) -> Array:
    """Return the flat vector of [(W [in, out], b [out]), ...]."""
    parts = [np.concatenate([w.reshape(-1), b.reshape(-1)]) for w, b in weights]
    return np.concatenate(parts).astype(np.float64)


def build_case(shape: Shape, *, members: int, data: Data = "strb100") -> Case:
    """Build a case on a data set of `pinncore.load_data`, with PyTorch's initial weights of seeds 0, 1, 2, ...

    Loss and gradient come from the reference engine, in float64.
    """
    from pinncore import NonlocalStrain, load_data

    problem = NonlocalStrain().with_tables(load_data(data))
    interior, lrb, btb = problem.point_sets
    true = problem.solution
    assert true is not None, "a benchmark needs data whose solution is known"
    return Case(
        interior=interior.inputs,
        lrb=lrb.inputs,
        btb=btb.inputs,
        g=problem.scales["g"][1] * interior.values["g"],
        elocal=problem.scales["elocal"][1] * interior.values["elocal"],
        truth=true[0] / problem.output_sizes["u"],
        boundary_weight=np.asarray(problem.boundary_weight),
        **reference_answers([problem] * members, shape.layers),
    )


def reference_answers(problems: Sequence[Problem], layers: tuple[int, ...]) -> dict[str, Any]:
    """Return start weights of seeds 0, 1, 2, ... and what the reference engine finds for them, as in `Answers`."""
    import torch

    from pinncore.engines import ReferenceEngine
    from pinncore.initialisation import initial_parameters
    from pinncore.layouts import PackedLayout

    starts = np.stack([initial_parameters("torch", layers, seed=seed) for seed in range(len(problems))])
    layout, cpu = PackedLayout((layers,) * len(problems)), torch.device("cpu")
    engine = ReferenceEngine(problems, layout, dtype=torch.float64, device=cpu)
    found = engine.evaluate(layout.pack(list(starts), dtype=torch.float64, device=cpu))
    answers = {"losses": found.loss.numpy(), "gradients": found.gradient.numpy()}
    return {"layers": np.asarray(layers), "starts": starts, **answers}
