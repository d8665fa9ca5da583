"""Setup of every worker process of a test with GPUs that only Ray counts; packs train on the CPU instead."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def pretend() -> None:
    """Write which GPU each pack was given into the folder of PRETENDED_GPUS, one file for each pack."""
    import torch

    import pinncore

    torch.cuda.is_available = lambda: True

    class OnCpu(pinncore.Pack):
        def __init__(self, *arguments: Any, device: str, **options: Any) -> None:
            super().__init__(*arguments, device="cpu", **options)
            import ray

            note = {
                "node": ray.get_runtime_context().get_node_id(),
                "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
                "device": device,
                "pid": os.getpid(),
            }
            file = Path(os.environ["PRETENDED_GPUS"]) / f"{time.time_ns()}-{os.getpid()}.json"
            file.write_text(json.dumps(note))

    pinncore.Pack = OnCpu  # type: ignore[misc]
