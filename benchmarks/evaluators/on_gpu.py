"""What contenders with PyTorch need on a GPU."""

from __future__ import annotations

import torch


def wait_for(device: str) -> None:
    """Return when everything that was started on a device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
