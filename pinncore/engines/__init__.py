"""Engines by name, and the choice of one."""

from __future__ import annotations

import torch

from .base import Engine as Engine
from .base import Evaluation as Evaluation
from .compiled_engine import CompiledTorchEngine as CompiledTorchEngine
from .fused import FusedEngine as FusedEngine
from .reference import ReferenceEngine as ReferenceEngine
from .torch_engine import TorchEngine as TorchEngine

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (FusedEngine, TorchEngine, CompiledTorchEngine, ReferenceEngine)
}


def choose_engine(name: str, device: torch.device) -> type[Engine]:
    """The engine of that name; `auto` takes the fastest there is: `fused` on a CPU, `torch` elsewhere."""
    if name == "auto":
        return FusedEngine if device.type == "cpu" else TorchEngine
    return ENGINES[name]
