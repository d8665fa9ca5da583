"""The rounding of float32 matrix products: full precision unless TF32 is allowed, whatever the process has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def matrix_products(dtype: torch.dtype, device: torch.device, *, allow_tf32: bool) -> Iterator[None]:
    """Set the rounding of matrix products and restore the previous setting afterwards."""
    if dtype != torch.float32:  # only float32 is ever rounded
        yield
        return
    cuda, mkldnn = _by_device()
    before: str | tuple[str, str]
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set per device, and torch cannot report one value
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
    """Return torch's settings for CUDA and the CPU; they have `fp32_precision` from torch 2.9 on."""
    backends: Any = torch.backends
    return backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None)
