"""Kernels that Numba compiles, once on each machine: which ones a member needs, and whether they are compiled."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import llvmlite
import llvmlite.binding
import numba
import torch

from .engines import fused_kernels
from .member import Member, engine_name
from .networks import parameter_count
from .optim.memory import Form, checked_form
from .problems.nonlocal_strain import NonlocalStrain
from .settings import ENGINE_TRAITS, TrainSettings
from .sources import source_digest
from .training import DTYPES, Pack


def memory_form(member: Member, device: str) -> Form | None:
    """Return the form in which the member's second stage keeps its pairs, None for the stage of SciPy."""
    train = member.train
    if train.second_stage == "scipy":
        return None
    size, dtype = parameter_count(member.layers), DTYPES[train.dtype]
    return checked_form(
        train.lbfgs_memory, train.lbfgs_history, train.iterations, size, dtype, device, train.second_stage
    )


def kernel_settings(member: Member) -> TrainSettings:
    """Return the settings of a very small network that needs the same kernels on a CPU.

    Engines of torch compile nothing, or anew at every size; the reference engine stands in for them.
    """
    train, form = member.train, memory_form(member, "cpu")
    return TrainSettings(
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


def is_compiled(settings: TrainSettings) -> bool:
    """Return whether the kernels of `kernel_settings` are compiled on this machine."""
    return _mark(settings).exists()


def compile_kernels(settings: TrainSettings) -> None:
    """Train a network with `kernel_settings`, unless another process has done so; Numba keeps the kernels."""
    with _alone():
        if is_compiled(settings):
            return
        pack = Pack([Member(settings, NonlocalStrain())], device="cpu")
        while pack.active:
            pack.step(1)
        with contextlib.suppress(OSError):
            _mark(settings).touch()


def _mark(settings: TrainSettings) -> Path:
    """Return the path of the empty file, beside Numba's own, that marks these kernels as compiled.

    Looking for it is faster than loading the kernels.
    """
    digest = hashlib.sha256(repr((_versions(), settings)).encode()).hexdigest()[:32]
    return Path(str(fused_kernels.evaluate.stats.cache_path)) / f"compiled-{digest}"


@functools.cache
def _versions() -> tuple[str, ...]:
    processor = llvmlite.binding.get_host_cpu_name()
    return (source_digest("pinncore"), numba.__version__, llvmlite.__version__, torch.__version__, processor)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock that lets one process of this user on this machine compile at a time.

    The lock ends with its process.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without the lock several may compile the same kernels
            path = Path(tempfile.gettempdir()) / f"pinncore-compile-{os.getuid()}.lock"
            file = stack.enter_context(open(path, "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
