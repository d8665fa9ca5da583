"""Ten thousand trivial trials: the memory and time that the sweep itself costs."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from sweeps.search import PastTrial, search_of
from sweeps.study.loading import load_spec
from tests.cluster.waiting import WAIT_S
from tests.processes import started

from ..clusters import command, named
from ..small import write_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(3600)]
TRIALS = 10_000
EARLY = 1_000
GROWTH_MB = 100  # of driver and owner together, from trial EARLY to TRIALS
OWNER_S = 0.05  # a trial, by the whole run's clock: the owner's share can only be less
STATUS_S = 1.0
ASK_S = 0.5  # of TPE, after TRIALS of them


def study_file(folder: Path, sampler: str, trials: int) -> Path:
    """Write a study whose trials train a network of one or two units for one epoch."""
    file = write_study(folder, sampler=sampler, trials=trials, epochs=1, iterations=0, thin=64, pack=16)
    text = file.read_text().replace("width: {choice: [3, 5, 6]}", "width: {choice: [1, 2]}")
    file.write_text(text + "results: {fields: none, weights: none}\n")
    return file


def memory_mb(pids: list[int]) -> float:
    """Return the resident memory of processes in MB, shared memory counted in each."""
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def finished(study_dir: Path) -> int:
    """Return the number of complete trials, as `pinnsweep status` says."""
    words = command("status", study_dir, "--json")
    status = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return int(json.loads(status.stdout)["counts"]["COMPLETE"]) if status.returncode == 0 else 0


def test_ten_thousand_trials(tmp_path: Path) -> None:
    file = study_file(tmp_path / "data", "qmc", TRIALS)
    study_dir = tmp_path / "small"
    begun = time.monotonic()
    log = tmp_path / "run.log"
    words = command("run", file, "--root", tmp_path, "--plain")
    early = late = 0.0
    with open(log, "w") as output, started(words, stdout=output, stderr=output) as driver:
        while driver.poll() is None:
            time.sleep(2)
            done = finished(study_dir) if (study_dir / "study.yaml").is_file() else 0
            pids = [driver.pid, *named([driver.pid], "OwnerActor")]
            try:
                now = memory_mb(pids)
            except OSError:
                continue
            early = early or (now if done >= EARLY else 0.0)
            late = now if early and len(pids) == 2 else late
    seconds = time.monotonic() - begun
    assert driver.returncode == 0, log.read_text()[-2000:]
    assert finished(study_dir) == TRIALS
    print(f"{seconds:.0f} s, {1000 * seconds / TRIALS:.1f} ms a trial; {early:.0f} MB, then {late:.0f} MB")
    assert late - early < GROWTH_MB
    assert seconds / TRIALS < OWNER_S
    durations = []
    for _ in range(5):
        begun = time.monotonic()
        finished(study_dir)
        durations.append(time.monotonic() - begun)
    print(f"status: {sorted(durations)[2]:.2f} s")
    assert sorted(durations)[2] < STATUS_S


def test_a_proposal_of_tpe(tmp_path: Path) -> None:
    """TPE looks at all results for each trial: the time of one proposal."""
    points = search_of(load_spec(study_file(tmp_path / "qmc", "qmc", TRIALS)))
    learning = load_spec(study_file(tmp_path / "tpe", "tpe", 2 * TRIALS))
    for count in (EARLY, TRIALS):
        past = [PastTrial(i, points.propose(i).params, "COMPLETE", (abs(i * 0.618 % 1 - 0.5),)) for i in range(count)]
        search = search_of(learning, past)
        begun = time.process_time()
        for index in range(count, count + 5):
            search.propose(index)
        ask_s = (time.process_time() - begun) / 5
        print(f"tpe after {count} trials: {1000 * ask_s:.0f} ms a trial")
        assert ask_s < ASK_S
