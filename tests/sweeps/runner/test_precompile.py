"""Compilation of the kernels of a study before its workers train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from numba.core.dispatcher import Dispatcher

import pinncore
from pinncore import compilation
from pinncore.engines import fused_kernels
from pinncore.optim import rows
from pinncore.optim.memory import pairs, symmetric
from sweeps.errors import StudyError
from sweeps.runner import precompile
from sweeps.runner.precompile import first_members
from sweeps.study.loading import load_text
from tests.sweeps.spec.study_files import ELSEWHERE

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")


def signatures() -> dict[str, int]:
    modules = (fused_kernels, rows, pairs, symmetric)
    return {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
    }


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what says that kernels are compiled, as on a new machine."""
    monkeypatch.setattr(
        compilation, "_mark", lambda kernels: tmp_path / kernels.settings.dtype / kernels.settings.second_stage
    )
    return tmp_path


def test_training_a_study_compiles_nothing_more(marks: Path) -> None:
    content = {
        "study": "s",
        "search": {"sampler": "grid"},
        "space": {
            "dtype": {"choice": ["float32", "float64"]},
            "second_stage": {"choice": ["lbfgs", "ssbroyden", "scipy"]},
            "lbfgs_history": {"choice": [2, 20]},
        },
        "train": {"width": 3, "depth": 1, "activation": "sin", "epochs": 2, "iterations": 6},
    }
    spec = load_text(json.dumps(content), base=ELSEWHERE)
    messages: list[str] = []
    precompile.prepare(spec, "cpu", messages.append)
    assert len(messages) == 1 and "compiling" in messages[0]
    before = signatures()
    assert before["pinncore.engines.fused_kernels.evaluate"] >= 2
    for member in first_members(spec, 12):
        pack = pinncore.Pack([member], device="cpu")
        pack.step(50)
        assert not pack.active
    assert signatures() == before


def test_what_is_compiled_is_neither_loaded_nor_compiled_again(marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_text('{"study": "s", "search": {"trials": 2}, "train": {"width": 3, "depth": 1}}', base=ELSEWHERE)
    (kernels,) = precompile.missing_kernels(spec)
    mark = compilation._mark(kernels)
    mark.parent.mkdir()
    compiled: list[object] = []
    monkeypatch.setattr(compilation, "Pack", lambda members, **options: Finished(compiled.append(members)))
    for _ in range(2):
        precompile.prepare(spec, "cpu")
    assert len(compiled) == 1 and mark.exists() and not precompile.missing_kernels(spec)


class Finished:
    """A pack without members left to train."""

    active = 0

    def __init__(self, trained: object) -> None:
        self.trained = trained


def test_a_gpu_that_pytorch_cannot_use_is_one_sentence() -> None:
    spec = load_text('{"study": "s", "search": {"trials": 2}}', base=ELSEWHERE)
    with pytest.raises(StudyError, match=r"has no GPU that its PyTorch can use.*resources\.device: cpu"):
        precompile.prepare(spec, "cuda")


def test_a_gpu_beyond_those_that_are_shown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_text('{"study": "s", "search": {"trials": 2}}', base=ELSEWHERE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(precompile, "gpus", lambda: [None, None])
    with pytest.raises(StudyError, match=r"device: cuda:2, but the GPUs that machine .* shows are 2, counted from"):
        precompile.prepare(spec, "cuda:2")


def test_a_gpu_without_the_kernel_says_what_to_install_or_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompile, "check_gpu", lambda device: None)
    monkeypatch.setattr(precompile, "gpu_of", lambda device: object())
    monkeypatch.setattr(precompile, "kernel_obstacle", lambda gpu: "the package cuda-bindings is missing")
    monkeypatch.setattr(precompile, "largest_pack", lambda *arguments, **options: 16)
    content: dict[str, Any] = {"study": "s", "search": {"trials": 2}, "space": {"width": {"choice": [8]}}}
    with pytest.raises(StudyError, match=r"fused cannot run on its GPU: the package .*Or set train\.engine: torch"):
        precompile.prepare(load_text(json.dumps(content), base=ELSEWHERE), "cuda")
    by_torch = {**content, "train": {"engine": "torch"}}
    assert precompile.prepare(load_text(json.dumps(by_torch), base=ELSEWHERE), "cuda") == 16


def test_the_size_of_packs_is_measured_on_a_gpu_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def largest_pack(members: list[pinncore.Member], device: str, **options: Any) -> int:
        asked.append((len(members), device, options["wanted"], options["measure"]))
        return 256

    monkeypatch.setattr(precompile, "largest_pack", largest_pack)
    monkeypatch.setattr(precompile, "check_gpu", lambda device: None)
    content = {"study": "s", "search": {"trials": 100, "replicates": 3}}
    assert precompile.prepare(load_text(json.dumps(content), base=ELSEWHERE), "cuda:1") == 256
    assert asked == [(64, "cuda:1", 300, True)]
    set_by_user = load_text(json.dumps({**content, "resources": {"pack": 8}}), base=ELSEWHERE)
    assert precompile.prepare(set_by_user, "cuda") is None and len(asked) == 1
