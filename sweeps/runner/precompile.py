"""Preparation of a worker before it trains: kernels, compiled once on each machine while other workers wait."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import llvmlite
import llvmlite.binding
import numba
import torch

import pinncore
from pinncore.engines import choose_engine, fused_kernels
from pinncore.member import engine_name
from pinncore.settings import ENGINE_TRAITS

from ..errors import StudyError
from ..search import search_of
from ..spec.study_spec import StudySpec
from ..study.provenance import source_digest
from .calibration import first_members, form_of

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
    missing = _missing(spec)
    if not missing:
        return
    tell("compiling kernels, once on each machine")
    with _alone():
        for train in missing:
            if not mark(train).exists():  # another worker may have compiled it meanwhile
                _compile(train)
                with contextlib.suppress(OSError):
                    mark(train).touch()


def is_compiled(spec: StudySpec) -> bool:
    """Return whether a study's kernels are compiled on this machine."""
    return not _missing(spec)


def _missing(spec: StudySpec) -> list[pinncore.TrainSettings]:
    return [train for train in dict.fromkeys(_smallest(spec)) if not mark(train).exists()]


def _compile(train: pinncore.TrainSettings) -> None:
    """Train a very small network that needs the same kernels as the study's trials; Numba keeps them."""
    pack = pinncore.Pack([pinncore.Member(train, pinncore.NonlocalStrain())], device="cpu")
    while pack.active:
        pack.step(1)


def mark(train: pinncore.TrainSettings) -> Path:
    """Return the path of the empty file, beside Numba's own, that marks these kernels as compiled.

    Looking for it is faster than loading the kernels.
    """
    sources = (source_digest(), numba.__version__, llvmlite.__version__, llvmlite.binding.get_host_cpu_name(), train)
    digest = hashlib.sha256(repr(sources).encode()).hexdigest()[:32]
    return Path(str(fused_kernels.evaluate.stats.cache_path)) / f"compiled-{digest}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock that lets one process of this user on this machine compile at a time.

    The lock ends with its process.
    """
    path = Path(tempfile.gettempdir()) / f"pinnsweep-compile-{os.getuid()}.lock"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without the lock several may compile the same kernels
            file = stack.enter_context(open(path, "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _smallest(spec: StudySpec) -> Iterator[pinncore.TrainSettings]:
    """Yield, for each of the first trials, the settings of a small network that needs the same kernels.

    Engines of torch compile nothing, or anew at every size; the reference engine stands in for them.
    """
    for member in first_members(spec, min(search_of(spec).limit, LOOKED_AT)):
        train, form = member.train, form_of(member, "cpu")
        yield pinncore.TrainSettings(
            width=4,
            activation=train.activation,
            dtype=train.dtype,
            engine=train.engine if ENGINE_TRAITS[engine_name(train.engine, "cpu")].has_kernels else "reference",
            epochs=1,
            second_stage=train.second_stage,
            iterations=min(train.iterations, 3),
            lbfgs_memory=form if form is not None and train.second_stage == "lbfgs" else "auto",
            keep_epochs=(),
        )
