"""What a study's workers need is compiled before they start."""

from __future__ import annotations

import json

import pytest
import torch
from numba.core.dispatcher import Dispatcher

import pinncore
from pinncore.engines import fused_kernels
from pinncore.optim import rows
from pinncore.optim.memory import pairs, symmetric
from sweeps.compiling import compile_ahead
from sweeps.plan import first_members
from sweeps.spec import parse_spec
from tests.sweeps.study_files import ELSEWHERE

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")


def signatures() -> dict[str, int]:
    modules = (fused_kernels, rows, pairs, symmetric)
    return {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
    }


def test_training_a_study_compiles_nothing_more() -> None:
    content = {
        "study": "s",
        "search": {"sampler": "grid"},
        "space": {
            "dtype": {"choice": ["float32", "float64"]},
            "second_stage": {"choice": ["lbfgs", "ssbroyden", "scipy"]},
            "lbfgs_history": {"choice": [2, 20]},
        },
        "train": {"width": 3, "depth": 1, "activation": "sin", "adam_epochs": 2, "lbfgs_iterations": 6},
    }
    spec = parse_spec(json.dumps(content), base=ELSEWHERE)
    compile_ahead(spec)
    before = signatures()
    assert before["pinncore.engines.fused_kernels.evaluate"] >= 2
    for member in first_members(spec, 12):
        pack = pinncore.Pack([member], device="cpu")
        pack.step(50)
        assert not pack.active
    assert signatures() == before
