"""The real command on a real Ray, with trackers that work and fail, and a program that is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..clusters import command
from ..small import write_study
from .reading import of_tensorboard

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]
TOLD = "import os, sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=240, check=False)


def test_a_run_sends_and_tells_whatever_fails_of_it(tmp_path: Path) -> None:
    """One tracker works, one cannot be reached; the webhook cannot be reached, the program is told."""
    file, told = write_study(tmp_path / "data", trials=3), tmp_path / "told"
    changes = [
        "track.tensorboard={}",
        "track.mlflow.uri=http://127.0.0.1:1",
        f"notify.command={json.dumps([sys.executable, '-c', TOLD, str(told)])}",
        "notify.webhook=http://127.0.0.1:1/s3cret",
        "budget.target=1000",
        "search.trials=3",
    ]
    words = [word for change in changes for word in ("--set", change)]
    done = run("run", file, "--root", tmp_path, "--plain", *words)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    study_dir = tmp_path / "small"
    runs = of_tensorboard(study_dir / "tensorboard")
    assert f"tensorboard: {len(runs)} runs sent to {study_dir}/tensorboard" in output and runs, output
    assert "mlflow: not every trial was sent" in output and f" track {study_dir}\n" in output
    assert output.count("warning: mlflow: ") <= 1
    assert "the webhook cannot be reached (Connection refused)" in output and "s3cret" not in output
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [event["event"] for event in events] == ["target", "end"]
    assert events[-1]["best"]["value"] < 1000 and events[-1]["place"] == str(study_dir)

    again = run("track", study_dir, "--to", "tensorboard")
    assert again.stdout.startswith("tensorboard: 0 runs sent") and f"{len(runs)} were sent before" in again.stdout
