"""Engines by name, and the choice of one."""

from __future__ import annotations

from .base import Engine as Engine
from .base import Evaluation as Evaluation
from .reference import ReferenceEngine as ReferenceEngine
from .torch_engine import TorchEngine as TorchEngine

ENGINES: dict[str, type[Engine]] = {"torch": TorchEngine, "reference": ReferenceEngine}


def choose_engine(name: str) -> type[Engine]:
    """The engine of that name; `auto` takes the fastest there is."""
    return TorchEngine if name == "auto" else ENGINES[name]
