"""Engine `fused` of a GPU whose kernels run on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from pinncore import Problem
from pinncore.cuda.machine import HostMachine
from pinncore.engines import FusedCudaEngine
from pinncore.initialisation import initial_parameters
from pinncore.layouts import Layout
from pinncore.networks import layer_sizes

from ..helpers import CPU

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
MACHINE = HostMachine()


class HostEngine(FusedCudaEngine):
    def __init__(self, problems: Sequence[Problem], layout: Layout, **options: Any) -> None:
        super().__init__(problems, layout, **{"machine": MACHINE, **options})


def build(
    problems: Sequence[Problem],
    shapes: Sequence[tuple[int, int]],
    *,
    dtype: torch.dtype = torch.float64,
    activation: str = "tanh",
    machine: HostMachine = MACHINE,
) -> tuple[HostEngine, torch.Tensor]:
    """An engine of networks depth x width, one for each problem, and their initial parameters."""
    inputs, outputs = len(problems[0].input_columns), len(problems[0].outputs)
    layers = [layer_sizes(inputs, width=width, depth=depth, outputs=outputs) for depth, width in shapes]
    layout = FusedCudaEngine.arrange(layers)
    options: dict[str, Any] = {"dtype": dtype, "device": CPU, "activation": activation, "machine": machine}
    flats = [initial_parameters("torch", each, seed=seed) for seed, each in enumerate(layers)]
    return HostEngine(problems, layout, **options), layout.pack(flats, dtype=dtype, device=CPU)
