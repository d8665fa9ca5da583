"""Kernels that Numba compiles, once on each machine: which ones a member needs, and whether they are compiled."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from .engines.fused_compiled import Kind, compiled_coupled, compiled_pass, compiled_sums, mark_of
from .equations.channels import Channels
from .kernels.residuals import compiled_source, residual_source
from .member import Member, engine_of
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


@dataclass(frozen=True)
class Kernels:
    """What is compiled for a member on a CPU.

    `settings` are those of a very small network whose training needs the same kernels of an optimiser; `passes` and
    `residuals` are those of engine fused: kinds of channels, and texts. `is_coupled`: the loss couples its points.
    """

    settings: TrainSettings
    passes: tuple[Kind, ...] = ()
    residuals: tuple[str, ...] = ()
    is_coupled: bool = False


def kernels_of(member: Member) -> Kernels:
    """Return what a member needs. Raises `SettingError`, `ProblemError` where no engine can evaluate its problem."""
    train, form = member.train, memory_form(member, "cpu")
    settings = TrainSettings(
        width=4,
        activation=train.activation,
        dtype=train.dtype,
        engine="reference",
        epochs=1,
        second_stage=train.second_stage,
        iterations=min(train.iterations, 3),
        lbfgs_memory=form if form is not None and train.second_stage == "lbfgs" else "auto",
        keep_epochs=(),
    )
    if not ENGINE_TRAITS[engine_of(member, "cpu")[0]].has_kernels:
        return Kernels(settings)
    groups = member.problem.groups
    kinds = dict.fromkeys([Channels().kind, *(group.channels.kind for group in groups)])
    if groups[0].is_coupled:
        return Kernels(settings, tuple(kinds), is_coupled=True)
    return Kernels(settings, tuple(kinds), tuple(dict.fromkeys(map(residual_source, groups))))


def is_compiled(kernels: Kernels) -> bool:
    """Return whether kernels are compiled on this machine."""
    return _mark(kernels).exists()


def compile_kernels(kernels: Kernels) -> None:
    """Compile kernels, unless another process has done so; Numba keeps them."""
    with _alone():
        if is_compiled(kernels):
            return
        pack = Pack([Member(kernels.settings, NonlocalStrain())], device="cpu")
        while pack.active:
            pack.step(1)
        dtype = kernels.settings.dtype
        for kind in kernels.passes:
            compiled_pass(kind, kernels.settings.activation, dtype)
        for source in kernels.residuals:
            compiled_source(source, dtype)
        if kernels.is_coupled:
            compiled_coupled(kernels.settings.activation, dtype)
        if kernels.passes:
            compiled_sums(dtype)
        with contextlib.suppress(OSError):
            _mark(kernels).touch()


def _mark(kernels: Kernels) -> Path:
    """Return the path of the empty file that marks kernels as compiled."""
    return mark_of(source_digest("pinncore"), torch.__version__, kernels)


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
