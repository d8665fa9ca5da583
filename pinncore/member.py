"""Members: networks to train, and which of them can share a pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .cuda.limits import reason_against
from .errors import SettingError
from .networks import Layers, layer_sizes
from .problems import Problem
from .settings import ENGINE_TRAITS, TrainSettings, hints


@dataclass(frozen=True)
class Member:
    """A network to train: its settings, its problem, the seed of its initial weights, a label."""

    train: TrainSettings
    problem: Problem
    seed: int = 0
    label: int = 0

    @property
    def layers(self) -> Layers:
        """Return the layer sizes of the network."""
        inputs, outputs = len(self.problem.input_columns), len(self.problem.outputs)
        return layer_sizes(inputs, width=self.train.width, depth=self.train.depth, outputs=outputs)

    @property
    def curvature(self) -> Literal["torch", "relative"]:
        """Return the test that curvature pairs of the second stage have to pass."""
        if self.train.lbfgs_curvature != "auto":
            return self.train.lbfgs_curvature
        return "relative" if self.problem.loss_form == "energy" else "torch"


def pack_key(member: Member) -> tuple[str, ...]:
    """Return the key of a member; members with equal keys can share a pack."""
    train, problem = member.train, member.problem
    names = _structure(problem) if problem.pack_settings is None else problem.pack_settings
    equation = json.dumps({name: getattr(problem, name) for name in names}, sort_keys=True)
    shape = (str(train.depth), train.activation, train.dtype, train.engine)
    return (problem.name, equation, *shape, str(train.allow_tf32), str(train.second_stage == "scipy"))


def check_held_out(train: TrainSettings, problem: Problem) -> None:
    """Raise `SettingError` where the best held-out weights are to be kept, but the problem has nothing to hold out.

    Raises `DataError` where the problem's data cannot be read.
    """
    if train.final_weights == "best_heldout" and not any(len(points) for _, points in problem.held_out):
        raise SettingError(
            "final_weights",
            train.final_weights,
            f"needs points to hold out, which {problem.name} does not have here",
            "Use final_weights: last, or give it a condition (when).",
        )


def _structure(problem: Problem) -> Iterator[str]:
    """Yield the settings that members of a pack have in common: not the floats, unless they change a grid of points."""
    is_grid = getattr(problem, "points_sampler", None) in ("grid", "gauss")
    floats = () if is_grid else problem.float_settings()
    yield from (name for name in hints(type(problem)) if name not in floats)


def engine_of(member: Member, device: str) -> tuple[str, str | None]:
    """Return the engine of a member on a kind of device, and why `auto` is not `fused` there (None: it is).

    Raises `SettingError` where the engine that is asked for cannot evaluate the problem, `ProblemError` where the
    problem is wrong.
    """
    name = member.train.engine
    if name not in ("auto", "fused"):
        return name, None
    reason, way_out = _against_fused(member), "write the residual as a SymPy expression"
    if reason is None and device == "cuda":
        reason, way_out = _against_kernel(member), "train a smaller network"
    if reason is None:
        return "fused", None
    if name == "fused":
        raise SettingError("engine", "fused", f"cannot be used: {reason}", f"Use engine: torch, or auto, or {way_out}.")
    return "torch", f"engine torch: {reason}"


def _against_fused(member: Member) -> str | None:
    """Return why no kernel is compiled from a problem, None where one is."""
    terms = [term for group in member.problem.groups for term in group.torch_terms]
    if not terms:
        return None
    return f"the residual of {', '.join(terms)} is a torch function, which no kernel is compiled from"


def _against_kernel(member: Member) -> str | None:
    """Return why the GPU kernel does not take a network, None where it does."""
    train, layers = member.train, member.layers
    channels = max(group.channels.count for group in member.problem.groups)
    return reason_against(train.width, train.depth, (layers[0], layers[-1], channels), train.dtype, train.activation)


def is_padded(member: Member, device: str) -> bool:
    """Return whether a member costs as much as the widest in its pack, and its last digits depend on the pack."""
    return ENGINE_TRAITS[engine_of(member, device)[0]].pads
