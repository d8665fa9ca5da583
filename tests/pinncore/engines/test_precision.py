"""Matrix products round as they are asked to, and what the process had set comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pinncore import FieldData
from pinncore.engines import TorchEngine
from pinncore.engines.precision import matrix_products

from ..helpers import CPU, build

CUDA = torch.device("cuda")  # only named: no device is needed


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
@pytest.mark.parametrize(
    ("dtype", "device", "allow_tf32", "inside"),
    [
        (torch.float32, CPU, False, "highest"),
        (torch.float32, CPU, True, "highest"),
        (torch.float32, CUDA, False, "highest"),
        (torch.float32, CUDA, True, "high"),
        (torch.float64, CUDA, True, None),
    ],
)
def test_what_holds_inside_and_after(
    before: str, dtype: torch.dtype, device: torch.device, allow_tf32: bool, inside: str | None
) -> None:
    torch.set_float32_matmul_precision(before)
    with matrix_products(dtype, device, allow_tf32=allow_tf32):
        assert torch.get_float32_matmul_precision() == (inside or before)
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), matrix_products(dtype, device, allow_tf32=allow_tf32):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


def test_what_was_set_device_by_device_comes_back() -> None:
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        pytest.skip("torch before 2.9 has one setting for all devices")
    backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision = "tf32", "bf16"
    with matrix_products(torch.float32, CPU, allow_tf32=False):
        assert (backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision) == ("ieee", "ieee")
    assert (backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision) == ("tf32", "bf16")


def test_an_evaluation_is_as_precise_as_it_is_asked_to_be(coarse: FieldData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process has set: seen from inside the products of an evaluation."""
    seen: list[str] = []
    products = torch.bmm

    def watched(a: Tensor, b: Tensor) -> Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return products(a, b)

    engine, x = build([(2, 4, 1)], coarse)
    single = TorchEngine(engine.problems, engine.layout, dtype=torch.float32, device=CPU)
    torch.set_float32_matmul_precision("medium")
    monkeypatch.setattr(torch, "bmm", watched)
    single.evaluate(x.float())
    single.residuals(x[0].float(), 0, 0, engine.problems[0].point_sets[0])
    assert set(seen) == {"highest"}
    assert torch.get_float32_matmul_precision() == "medium"
