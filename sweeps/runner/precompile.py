"""Preparation of a worker before it trains: kernels, compiled once on each machine while other workers wait."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from typing import Final

import torch

import pinncore
from pinncore.compilation import Kernels, compile_kernels, is_compiled, kernels_of
from pinncore.engines import choose_engine

from ..errors import StudyError
from ..search import search_of
from ..spec.study_spec import StudySpec, build_settings

LOOKED_AT: Final = 64  # trials; the others differ in numbers and rarely in their kernels


def prepare(spec: StudySpec, device: str, tell: Callable[[str], object] = lambda text: None) -> None:
    """Prepare this machine for training on `device`; `tell` is called with a description of what takes long.

    Raises `StudyError` where this machine cannot train on `device`.
    """
    if device == "cuda":
        if not torch.cuda.is_available():
            raise StudyError(
                f"machine {socket.gethostname()} has a GPU that its PyTorch cannot use: install a PyTorch built for "
                "it, or set resources.device: cpu"
            )
        return
    for name in spec.values("engine"):
        choose_engine(name, torch.device(device)).check_machine()
    missing = missing_kernels(spec)
    if missing:
        tell("compiling kernels, once on each machine")
    for kernels in missing:
        compile_kernels(kernels)


def missing_kernels(spec: StudySpec) -> list[Kernels]:
    """Return what the first trials need and is not compiled on this machine."""
    members = first_members(spec, min(search_of(spec).limit, LOOKED_AT))
    return [kernels for kernels in dict.fromkeys(map(kernels_of, members)) if not is_compiled(kernels)]


def first_members(spec: StudySpec, count: int) -> list[pinncore.Member]:
    """Return the first `count` configurations of a study as members of `pinncore`.

    For a sampler that learns from results they are random configurations instead.
    """
    if spec.search.traits.learns:
        random = spec.search.model_copy(update={"sampler": "random", "deterministic": False, "warm_start": []})
        spec = dataclasses.replace(spec, search=random)
    search = search_of(spec)
    configs = (spec.config(search.propose(index).params) for index in range(count))
    return [pinncore.Member(*build_settings(config, spec.source)) for config in configs]
