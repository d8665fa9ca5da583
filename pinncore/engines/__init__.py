"""The engines by name, and the choice among them."""

from __future__ import annotations

import torch

from ..member import Member, engine_of
from .base import Engine as Engine
from .base import Evaluation as Evaluation
from .base import Picks as Picks
from .compiled_engine import CompiledTorchEngine as CompiledTorchEngine
from .fused import FusedEngine as FusedEngine
from .fused_cuda import FusedCudaEngine as FusedCudaEngine
from .reference import ReferenceEngine as ReferenceEngine
from .torch_engine import TorchEngine as TorchEngine

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (FusedEngine, TorchEngine, CompiledTorchEngine, ReferenceEngine)
}


def choose_engine(name: str, device: torch.device) -> type[Engine]:
    """Return the engine that `name` means on a device, whatever the problem; `auto` is the fastest."""
    if name in ("auto", "fused"):
        return FusedEngine if device.type == "cpu" else FusedCudaEngine
    return ENGINES[name]


def engine_for(member: Member, device: torch.device) -> type[Engine]:
    """Return the engine of a member on a device; `auto` is the fastest that can evaluate its problem.

    Raises `SettingError` where the engine that is asked for cannot.
    """
    return choose_engine(engine_of(member, device.type)[0], device)
