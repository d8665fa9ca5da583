"""Time from Enter to the first network that trains, compared with the start of Ray and PyTorch alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow.dataset import dataset

from ..clusters import command
from ..small import write_study

ROUNDS = 5
MOST = 1.6  # times the bare start
BARE = """
import ray
ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=40)
@ray.remote
class Actor:
    def answer(self): return 1
actor = Actor.remote()
ray.get(actor.answer.remote())
import torch
"""


def bare_s(folder: Path) -> float:
    """Return the seconds of `ray.init()`, one actor and `import torch`, without the end of Ray."""
    done = folder / "bare"
    begun = time.time()
    code = f"{BARE}\nimport pathlib, time\npathlib.Path({str(done)!r}).write_text(str(time.time()))"
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=200, check=True, capture_output=True)
    return float(done.read_text()) - begun


def ours_s(folder: Path, study: str) -> float:
    """Return the seconds until the first member of a study begins to train, with compiled kernels."""
    file = write_study(folder / "data", trials=2)
    file.write_text(file.read_text().replace("study: small", f"study: {study}"))
    begun = time.time()
    words = command("run", file, "--root", folder, "--plain")
    subprocess.run(words, timeout=200, check=True, capture_output=True)
    first = min(dataset(folder / study / "trials").to_table(columns=["started_at"])["started_at"].to_pylist())
    return float(first.timestamp()) - begun


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(900)
def test_a_study_starts_little_later_than_ray_and_pytorch(tmp_path: Path) -> None:
    ours_s(tmp_path, "first")  # compiles
    bare, ours = [], []
    for number in range(ROUNDS):
        bare.append(bare_s(tmp_path))
        ours.append(ours_s(tmp_path, f"study{number}"))
    medians = statistics.median(bare), statistics.median(ours)
    print(f"bare {medians[0]:.1f} s, a study {medians[1]:.1f} s, {medians[1] / medians[0]:.2f} times")
    assert medians[1] <= MOST * medians[0], (bare, ours)
