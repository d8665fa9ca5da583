"""Comparison with a report, fewer points, an engine of some members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pinncore import FieldData, NonlocalStrain
from pinncore.data.points import Points
from pinncore.engines import Engine, TorchEngine
from pinncore.initialisation import initial_parameters
from pinncore.networks import Layers

CPU = torch.device("cpu")


def difference(actual: ArrayLike, reference: ArrayLike) -> float:
    """Largest difference over the largest reference value; infinite where shapes differ or a value is not finite."""
    found, expected = np.asarray(actual, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    largest = np.abs(expected).max()
    return float(np.abs(found - expected).max() / (largest if largest > 0 else 1.0))


def assert_close(actual: ArrayLike, reference: ArrayLike, tolerance: float, name: str = "array") -> None:
    """Fail with the place and size of the largest difference."""
    measured = difference(actual, reference)
    if measured <= tolerance:
        return
    found, expected = np.asarray(actual, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if found.shape != expected.shape:
        raise AssertionError(f"{name}: shape {found.shape} instead of {expected.shape}")
    place = np.unravel_index(np.nanargmax(np.abs(found - expected)), found.shape)
    raise AssertionError(
        f"{name}: differs by {measured:.2e} of the largest value, allowed {tolerance:.0e}; worst at "
        f"{tuple(map(int, place))}: {found[place]!r} instead of {expected[place]!r}"
    )


def every(data: FieldData, *, gauss: int, nodes: int) -> FieldData:
    """Some of the points."""
    return replace(data, gauss=_take(data.gauss, gauss), lrb=_take(data.lrb, nodes), btb=_take(data.btb, nodes))


def _take(points: Points, step: int) -> Points:
    return Points(**{name: array[::step] for name, array in points.columns.items()})


def build(
    members: Sequence[Layers],
    data: FieldData,
    settings: Sequence[NonlocalStrain] | None = None,
    *,
    engine: type[Engine] = TorchEngine,
    padded: Layers = (),
    init: str = "torch",
    seed: int = 0,
    activation: str = "tanh",
) -> tuple[Engine, Tensor]:
    """An engine for members of these layers in float64, and start weights [members, size], seeds from `seed` on."""
    settings = settings or [NonlocalStrain()] * len(members)
    layout = engine.arrange(members, padded)
    problems = [each.with_tables(data) for each in settings]
    flats = [initial_parameters(init, layers, seed=seed + i) for i, layers in enumerate(members)]
    return (
        engine(problems, layout, dtype=torch.float64, device=CPU, activation=activation),
        layout.pack(flats, dtype=torch.float64, device=CPU),
    )


def alone(engine: Engine, x: Tensor, member: int, *, kind: type[Engine] | None = None) -> tuple[Engine, Tensor]:
    """One member out of a pack in an engine of its own, at its true shape, with its parameters [1, parameters]."""
    kind = kind or type(engine)
    layout = kind.arrange([engine.layout.members[member]])
    single = kind(
        [engine.problems[member]], layout, dtype=engine.dtype, device=engine.device, activation=engine.activation
    )
    return single, layout.pack([engine.layout.unpack(x[member], member)], dtype=engine.dtype, device=engine.device)


def unpacked(engine: Engine, padded: Tensor) -> list[NDArray[np.float64]]:
    """Each member's own vector out of [members, size]."""
    return [engine.layout.unpack(row, member) for member, row in enumerate(padded)]
