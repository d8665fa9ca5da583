"""Kernels compiled before workers start: once, and with a word about it, instead of by each of them in silence."""

from __future__ import annotations

from collections.abc import Iterator

import torch

import pinncore
from pinncore.engines.compiled_engine import CompiledTorchEngine, check_compiler

from .calibration import form_of
from .machine import device_of
from .plan import first_members
from .search import Search
from .spec import StudySpec

LOOKED_AT = 64  # trials; others differ in numbers, hardly in what must be compiled


def compile_ahead(spec: StudySpec) -> None:
    """Train the smallest networks that need the kernels which the study's trials need; Numba keeps them on disk."""
    if device_of(spec, has_gpu=torch.cuda.is_available()) != "cpu":
        return
    if CompiledTorchEngine.name in spec.values("engine"):
        check_compiler()
    for train in dict.fromkeys(_smallest(spec)):
        pack = pinncore.Pack([pinncore.Member(train, pinncore.NonlocalStrainSettings())], device="cpu")
        while pack.active:
            pack.step(1)


def _smallest(spec: StudySpec) -> Iterator[pinncore.TrainSettings]:
    """What decides on kernels, of each of the first trials; engines of torch compile nothing, or at every size."""
    for member in first_members(spec, min(Search(spec).limit, LOOKED_AT)):
        train, form = member.train, form_of(member, "cpu")
        yield pinncore.TrainSettings(
            width=4,
            activation=train.activation,
            dtype=train.dtype,
            engine=train.engine if train.engine in ("auto", "fused") else "reference",
            adam_epochs=1,
            second_stage=train.second_stage,
            lbfgs_iterations=min(train.lbfgs_iterations, 3),
            lbfgs_memory=form if form is not None and train.second_stage == "lbfgs" else "auto",
            keep_epochs=(),
        )
