"""Training with a trace's gradients or derivatives in place of our own: what is left must come from what follows them.

With its gradients, our optimiser alone is compared; with its derivatives, what the loss makes of them. Injected
derivatives replace the values of ours, and our own network passes errors back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..engines import TorchEngine
from ..equations.channels import Channels, Group
from ..errors import TraceError
from ..layouts import PackedLayout
from ..networks import unflatten
from ..optim import PackedFirstOrder
from ..problems.columns import Array
from ..training import DTYPES
from .evaluation import channel_names
from .reading import training_of
from .replay import Replay, Variant
from .trace import Trace

What = Literal["gradients", "derivatives"]


@dataclass(frozen=True)
class Injected:
    """An array of a step: how far ours is from the trace's, relative to its largest value, without and with it.

    `rows` are those of W1 with the injection, one for each input of the network.
    """

    step: int
    name: str
    without: float
    with_it: float
    rows: tuple[float, ...] = ()


@dataclass(frozen=True)
class Injection:
    """A training with injected arrays: the steps at which they were there, and the arrays compared behind them."""

    what: What
    steps: tuple[int, ...]
    arrays: tuple[Injected, ...]


def inject(trace: Trace, what: What) -> Injection:
    """Train from a trace's start with its gradients or derivatives where it has them, else with ours.

    Gradients must be recorded at consecutive steps: the training ends behind the last of them. Raises `TraceError`
    where there are none.
    """
    train, problem = training_of(trace)
    replay = Replay(trace, trace, train, problem)
    first = replay.first_step
    steps = _steps(trace, replay, what)
    last = max(steps) + 1 if what == "gradients" else replay.last
    own = theirs = torch.as_tensor(replay.start(trace), dtype=DTYPES[train.dtype])[None]
    optimisers = [PackedFirstOrder([replay.optimiser(Variant())], own) for _ in range(2)]
    engine = _Engine(
        [problem],
        PackedLayout((trace.layers,)),
        dtype=DTYPES[train.dtype],
        device=torch.device("cpu"),
        activation=train.activation,
    )
    found: list[Injected] = []
    for step in range(first, last + 1):
        if step > first and "W1" in trace.steps.get(step, {}):
            found += _compared(trace, step, own, theirs)
        if step == last:
            break
        _, gradient = replay.evaluate(np.asarray(own[0].double().numpy()))
        other: Array
        at = np.asarray(theirs[0].double().numpy())
        if step not in steps:
            _, other = replay.evaluate(at)
        elif what == "gradients":
            other = trace.vector(step, "grad_")
        else:
            engine.take(_values(trace, replay, step))
            x = engine.layout.pack([at], dtype=engine.dtype, device=engine.device)
            evaluation = engine.evaluate(x)
            other = engine.layout.unpack(evaluation.gradient[0], 0)
            terms = trace.steps[step].get("loss_terms")
            if terms is not None:
                plain = replay.terms(at)
                named = zip(problem.terms, terms, plain, evaluation.terms[0].tolist(), strict=True)
                found += [
                    Injected(step, term, _apart(np.array(a), np.array(b)), _apart(np.array(a), np.array(c)))
                    for term, a, b, c in named
                ]
        own = optimisers[0].step(own, torch.as_tensor(gradient, dtype=own.dtype)[None], [0])
        theirs = optimisers[1].step(theirs, torch.as_tensor(other, dtype=own.dtype)[None], [0])
    return Injection(what, tuple(steps), tuple(found))


def _steps(trace: Trace, replay: Replay, what: What) -> list[int]:
    """Return the steps at which a trace has what is injected."""
    found = []
    for step in range(replay.first_step, replay.last + 1):
        arrays = trace.steps.get(step, {})
        if what == "gradients":
            if not all(f"grad_{kind}{k}" in arrays for kind in "Wb" for k in range(1, len(trace.layers))):
                break
            found.append(step)
        elif _values(trace, replay, step):
            found.append(step)
    if not found:
        missing = "grad_W1, grad_b1, ..." if what == "gradients" else "u_x, laplacian, lrb/u_x, ..."
        raise TraceError(f"{trace.source}: it has no {what} to inject. Record {missing} at each step from the first on")
    return found


def _values(trace: Trace, replay: Replay, step: int) -> dict[int, dict[tuple[int, int], Array]]:
    """Return recorded derivatives [points] to coordinates by group, output and channel."""
    arrays, found = trace.steps.get(step, {}), dict[int, dict[tuple[int, int], Array]]()
    for number, group in enumerate(replay.problem.groups):
        count = len(replay.problem.point_sets[number])
        for output, names in enumerate(channel_names(replay.problem, group)):
            for place, name in enumerate(names[1:], 1):
                for key in (f"{group.terms[0]}/{name}", *((name,) if number == 0 else ())):
                    if key in arrays and arrays[key].shape == (count,):
                        found.setdefault(number, {})[output, place] = arrays[key] * replay.unit(name)
    return found


def _compared(trace: Trace, step: int, own: torch.Tensor, theirs: torch.Tensor) -> Sequence[Injected]:
    """Return the weights of a step, ours without and with what is injected, against those of the trace."""
    sides = [unflatten(np.asarray(x[0].double().numpy()), trace.layers) for x in (own, theirs)]
    found = []
    for level, (plain, injected) in enumerate(zip(*sides, strict=True), 1):
        for kind, a, b in zip("Wb", plain, injected, strict=True):
            recorded = trace.steps[step].get(f"{kind}{level}")
            if recorded is None:
                continue
            rows: tuple[float, ...] = ()
            if (kind, level) == ("W", 1):
                rows = tuple(_apart(one, two) for one, two in zip(recorded, b, strict=True))
            found.append(Injected(step, f"{kind}{level}", _apart(recorded, a), _apart(recorded, b), rows))
    return found


def _apart(recorded: Array, ours: Array) -> float:
    largest = float(np.abs(recorded).max())
    return float(np.abs(recorded - ours).max()) / (largest or 1.0)


class _Engine(TorchEngine):
    """Batched products whose output channels are given from outside, all points of a group at once."""

    chunk_points = (2**62, 2**62)

    def take(self, values: dict[int, dict[tuple[int, int], Array]]) -> None:
        """Replace channels in the next evaluation: [points] by group, output and channel."""
        self._taken, self._now = values, -1

    def _accumulate(self, weights: Any, gradient: Any, group: Group, points: Any, members: Any) -> Any:
        self._now += 1  # groups come in order
        return super()._accumulate(weights, gradient, group, points, members)

    def _forward(self, weights: Any, channels: Channels, points: Any, seeds: Any) -> Any:
        z, saved, activations = super()._forward(weights, channels, points, seeds)
        for (output, place), values in self._taken.get(self._now, {}).items():
            z[0, output, place] = self.as_tensor(values)
        return z, saved, activations
