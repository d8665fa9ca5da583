"""A study of very many trials, published through the store itself: opened, ranked and queried quickly.

`python -m tests.sweeps.query.test_large_study STUDY` runs in a process of its own, so that its memory can be measured.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.storage.compaction import compact
from sweeps.storage.schema import TABLES
from sweeps.storage.tables import StudyTables

from .. import synthetic

PER_FLUSH = 64
MEMORY_MB = 2000
OPEN_S, TOP_S, GROUP_S = 1.0, 1.0, 3.0
OF_CURVES = "SELECT phase, count(*) AS n, avg(rel_l2) AS error FROM curves GROUP BY phase ORDER BY phase"
OF_TRIALS = "SELECT width, count(*) AS n, median(rel_l2) AS error FROM trials GROUP BY width ORDER BY width"


def make(study_dir: Path, trials: int, rows: int) -> StudyTables:
    """Publish `trials` trials, each with `rows` rows of curves, and compact them."""
    tables = synthetic.make_study(study_dir, trials=0, failed=0)
    step = np.arange(rows, dtype=np.int32)
    phase = ["first"] * (rows // 2) + ["second"] * (rows - rows // 2)
    draw = np.random.default_rng(0)
    for first in range(0, trials, PER_FLUSH):
        numbers = range(first, min(first + PER_FLUSH, trials))
        tables.publish(
            f"trials-{first:06d}",
            trials=[synthetic.trial_row(number) for number in numbers],
            curves=[course(number, step, phase, draw.random(rows)) for number in numbers],
        )
    compact(tables)
    return tables


def course(number: int, step: np.ndarray, phase: list[str], noise: np.ndarray) -> dict[str, Any]:
    """Return the curve of a trial."""
    loss = noise * np.exp(-step / 300.0)
    return {
        "trial": number,
        "replicate": 0,
        "phase": phase,
        "step": step,
        "evaluations": 2 * step.astype(np.int64),
        "loss": loss,
        "loss_residual": 0.7 * loss,
        "loss_lrb": 0.2 * loss,
        "loss_btb": 0.1 * loss,
        "grad_norm": 3 * loss,
        "rel_l2": 0.5 * loss,
        "time_s": 0.01 * step,
    }


def ask(study: Path) -> None:
    """Open, rank and query; print the results, the times and the memory."""
    from typer.testing import CliRunner

    import sweeps
    from sweeps.cli.app import app

    def timed(*words: str) -> tuple[float, Any]:
        begun = time.perf_counter()
        result = CliRunner().invoke(app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        return time.perf_counter() - begun, json.loads(result.stdout)

    CliRunner().invoke(app, ["query", str(study), "SELECT 1"])  # imports do not count
    begun = time.perf_counter()
    count = len(sweeps.open(study).trials())
    opened = time.perf_counter() - begun
    top_s, best = timed("top", str(study))
    trials_s, by_width = timed("query", str(study), OF_TRIALS)
    curves_s, by_phase = timed("query", str(study), OF_CURVES)
    # not ru_maxrss, which a process inherits from its parent
    peak_mb = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]
    figures = {"open_s": opened, "top_s": top_s, "trials_s": trials_s, "curves_s": curves_s, "peak_mb": peak_mb}
    print(json.dumps({"count": count, "best": best, "by_width": by_width, "by_phase": by_phase, "figures": figures}))


@pytest.mark.slow  # the times need a machine without other work
@pytest.mark.parametrize(("trials", "rows"), [(4_000, 250), (100_000, 1000)], ids=["1e6", "1e8"])
@pytest.mark.timeout(3600)
def test_a_large_study_answers_at_once(tmp_path: Path, trials: int, rows: int) -> None:
    tables = make(tmp_path / "large", trials, rows)
    files = sum(len(tables.files(name)) for name in TABLES)
    command = [sys.executable, "-m", "tests.sweeps.query.test_large_study", str(tables.study_dir)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert process.returncode == 0, process.stderr
    answer = json.loads(process.stdout)
    print(files, "files;", {name: round(value, 2) for name, value in answer["figures"].items()})
    assert answer["count"] == trials == sum(group["n"] for group in answer["by_width"])
    assert [group["n"] for group in answer["by_phase"]] == [trials * rows // 2] * 2
    errors = [synthetic.error_of(number) for number in range(trials)]
    assert answer["best"][0]["trial"] == int(np.argmin(errors))
    assert files < 300
    idle = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # a loaded machine is slower
    figures = answer["figures"]
    assert figures["peak_mb"] < MEMORY_MB
    assert figures["open_s"] < OPEN_S * idle and figures["top_s"] < TOP_S * idle
    assert figures["trials_s"] < GROUP_S * idle and figures["curves_s"] < GROUP_S * idle


if __name__ == "__main__":
    ask(Path(sys.argv[1]))
