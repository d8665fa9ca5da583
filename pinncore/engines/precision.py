"""How float32 matrix products round: plainly, unless TF32 is asked for, whatever the process has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def matrix_products(dtype: torch.dtype, device: torch.device, *, allow_tf32: bool) -> Iterator[None]:
    """Set the rounding of matrix products, and leave what was set before."""
    if dtype != torch.float32:  # no other is ever rounded
        yield
        return
    cuda, mkldnn = _by_device()
    before: str | tuple[str, str]
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set device by device, and torch refuses the question
        before = (cuda.fp32_precision, mkldnn.fp32_precision)
    torch.set_float32_matmul_precision("high" if allow_tf32 and device.type == "cuda" else "highest")
    try:
        yield
    finally:
        if isinstance(before, str):
            torch.set_float32_matmul_precision(before)
        else:
            cuda.fp32_precision, mkldnn.fp32_precision = before


def _by_device() -> tuple[Any, Any]:
    """Torch's settings for either device; `fp32_precision` of them is there from torch 2.9 on."""
    backends: Any = torch.backends
    return backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None)
