"""Preparation of a worker before it trains: kernels, compiled once on each machine while other workers wait."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch

import pinncore
from pinncore.compilation import Kernels, compile_kernels, is_compiled, kernels_of
from pinncore.cuda.devices import gpu_of, gpus, kernel_obstacle, why_no_gpu
from pinncore.engines import choose_engine
from pinncore.member import engine_of

from ..errors import StudyError
from ..machine import index_of, kind_of
from ..search import search_of
from ..spec.study_spec import StudySpec, build_settings
from .calibration import largest_pack

LOOKED_AT: Final = 64  # trials; the others differ in numbers and rarely in their kernels


def prepare(spec: StudySpec, device: str, tell: Callable[[str], object] = lambda text: None) -> int | None:
    """Prepare this machine for training on `device`; `tell` is called with a description of what takes long.

    Return the number of members of the largest pack that is worth it on a GPU, None on a CPU and where it is not known.
    Raises `StudyError` where this machine cannot train on `device`.
    """
    if kind_of(device) == "cuda":
        check_gpu(device)
        _check_kernel(spec, device)
        return measured_size(spec, device, tell=tell)
    for name in spec.values("engine"):
        choose_engine(name, torch.device(device)).check_machine()
    missing = missing_kernels(spec)
    if missing:
        tell("compiling kernels, once on each machine")
    for kernels in missing:
        compile_kernels(kernels)
    return None


def check_gpu(device: str) -> None:
    """Raise `StudyError` where this process cannot use a GPU such as cuda or cuda:1."""
    host, index = socket.gethostname(), index_of(device)
    if not torch.cuda.is_available():
        raise StudyError(
            f"machine {host} has no GPU that its PyTorch can use ({why_no_gpu()}): install a PyTorch built for its "
            "GPU, or set resources.device: cpu"
        )
    if index is not None and gpu_of(device) is None:
        raise StudyError(
            f"resources.device: {device}, but the GPUs that machine {host} shows are {len(gpus())}, counted from "
            "cuda:0 (CUDA_VISIBLE_DEVICES decides which). Use a smaller index, or device: cuda"
        )


def _check_kernel(spec: StudySpec, device: str) -> None:
    """Raise `StudyError` where a trial needs the GPU kernel, which cannot run here."""
    gpu = gpu_of(device)
    obstacle = None if gpu is None else kernel_obstacle(gpu)
    if obstacle is None:
        return
    if any(engine_of(member, "cuda")[0] == "fused" for member in looked_at(spec)):
        host = socket.gethostname()
        raise StudyError(f"machine {host}: engine fused cannot run on its GPU: {obstacle}. Or set train.engine: torch")


def measured_size(
    spec: StudySpec, device: str, *, measure: bool = True, tell: Callable[[str], object] = lambda text: None
) -> int | None:
    """Return the number of members of the largest pack of a study that is worth it on a GPU.

    Without `measure` it is what was measured before. Return None on a CPU, where the study sets it, or not known.
    """
    if kind_of(device) == "cpu" or spec.resources.pack != "auto":
        return None
    wanted = search_of(spec).limit * spec.search.replicates
    return largest_pack(looked_at(spec), device, wanted=wanted, measure=measure, tell=tell)


def other_engines(members: Sequence[pinncore.Member], device: str) -> Iterable[str]:
    """Return why members that leave the choice of the engine to us do not get the usual one."""
    reasons = (engine_of(member, kind_of(device))[1] for member in members if member.train.engine == "auto")
    return dict.fromkeys(reason for reason in reasons if reason is not None)


def missing_kernels(spec: StudySpec) -> list[Kernels]:
    """Return what the first trials need and is not compiled on this machine."""
    return [kernels for kernels in dict.fromkeys(map(kernels_of, looked_at(spec))) if not is_compiled(kernels)]


def looked_at(spec: StudySpec) -> list[pinncore.Member]:
    """Return the members of the first trials, which stand for all."""
    return first_members(spec, min(search_of(spec).limit, LOOKED_AT))


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
