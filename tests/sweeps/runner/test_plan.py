"""Plans of studies: counts, times from timings, the text, and no files left behind."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pinncore import TrainSettings
from sweeps.runner import plan as planning
from sweeps.runner.plan import PROCESS_MB, Plan, plan, render
from sweeps.spec.study_spec import StudySpec
from sweeps.study.loading import load_text
from tests.cluster.waiting import WAIT_S
from tests.sweeps.spec.study_files import ELSEWHERE

TRAIN = {"epochs": 100, "iterations": 80, "lbfgs_history": 10}


def study(
    *,
    search: dict[str, Any] | None = None,
    space: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    **sections: dict[str, Any],
) -> StudySpec:
    content = {
        "study": "s",
        "search": search or {"sampler": "grid"},
        "space": space or {"width": {"choice": [4, 8]}},
        "train": train or TRAIN,
        **sections,
    }
    return load_text(json.dumps(content), base=ELSEWHERE)


def counted(spec: StudySpec, cpus: int = 2) -> Plan:
    return plan(spec, cpus, calibrate=False)


def ticking(seconds: float) -> Callable[[], float]:
    """Return a clock that advances by `seconds` each time it is read."""
    readings = itertools.count()
    return lambda: seconds * next(readings)


def test_evaluations_are_epochs_and_a_quarter_more_than_iterations() -> None:
    assert counted(study()).evaluations == 2 * (100 + 1.25 * 80)
    assert counted(study(train={**TRAIN, "first_step": 0.001})).evaluations == 2 * (100 + 3.7 * 80)
    assert counted(study(train={**TRAIN, "max_evaluations": 20})).evaluations == 2 * 120
    assert counted(study(space={"epochs": {"choice": [10, 30]}}, train={"iterations": 0})).evaluations == 40


def test_trials_are_put_into_packs_as_the_study_does() -> None:
    space = {"width": {"choice": [4, 8]}, "depth": {"choice": [1, 2]}, "epochs": {"choice": [1, 2, 3, 4, 5]}}
    spec = study(space=space, train={"iterations": 0})
    estimate = counted(spec)
    assert (estimate.trials, estimate.members_per_pack, estimate.packs_at_once) == (20, 4, 2)
    assert estimate.packs == 6  # ten trials of each depth, four to a pack
    fixed = counted(dataclasses.replace(spec, resources=spec.resources.model_copy(update={"pack": 7})))
    assert (fixed.members_per_pack, fixed.packs) == (7, 4)
    wide = counted(dataclasses.replace(spec, resources=spec.resources.model_copy(update={"cpus_per_pack": 2})))
    assert wide.packs_at_once == 1


def test_memory_grows_with_the_network_and_the_pairs() -> None:
    def memory(**train: Any) -> float:
        return counted(study(train={**TRAIN, **train}, space={"adam_lr": {"choice": [1e-3, 1e-2]}})).memory_mb_per_pack

    assert memory(width=8) < memory(width=32) < memory(width=32, depth=8)
    # 2-16-16-1 has 337 parameters; one trial a pack; a pair is two vectors of float64
    many, few = (memory(lbfgs_history=history, iterations=2000) for history in (1000, 50))
    assert many - few == pytest.approx(337 * 8 * 2 * 950 / 1e6)
    dense = memory(lbfgs_history=5000, iterations=2000)
    assert dense - few == pytest.approx((2 * 337 * 337 - 337 * 2 * 50) * 8 / 1e6)
    assert memory(engine="reference") > memory()


def test_memory_is_what_a_worker_takes() -> None:
    """Compare with a process that holds what a worker holds, within a quarter; Ray itself adds some 40 MB."""
    train = {**TRAIN, "width": 32, "depth": 3, "epochs": 2, "iterations": 60, "lbfgs_history": 2000}
    spec = study(train=train, space={"adam_lr": {"choice": [1e-3, 2e-3, 5e-3, 1e-2]}}, resources={"pack": 4})
    script = (
        "import json, re, sys, ray.tune, sweeps.runner.tune, pinncore\n"
        "train = pinncore.TrainSettings(**json.loads(sys.argv[1]))\n"
        "settings = pinncore.NonlocalStrain()\n"
        "pack = pinncore.Pack([pinncore.Member(train, settings, seed, seed) for seed in range(4)], device='cpu')\n"
        "pack.step(200)\n"
        "assert not pack.active\n"
        "print(int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1]) * 1024 / 1e6)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(train)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert counted(spec).memory_mb_per_pack == pytest.approx(float(finished.stdout) + 40, rel=0.25)


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a machine whose kernels are compiled."""
    monkeypatch.setattr(planning, "missing_kernels", lambda spec: [])


def test_the_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = study(resources={"pack": 1})
    assert "Start-up     about 8 s of the time" in planning.render(plan(spec, 1, calibrate=False))
    monkeypatch.setattr(planning, "missing_kernels", lambda spec: [TrainSettings()])
    cold = plan(spec, 1, calibrate=False)
    assert cold.start_seconds == planning.START_SECONDS + planning.COMPILE_SECONDS
    assert "kernels are compiled" in planning.render(cold)


def test_time_follows_from_the_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packs of one, an evaluation of 10 ms and 20 ms, 3 ms for the memory of an iteration."""
    timings = (planning.Timing("2-4-4-1", 37, 0.01, 0.01, 0.003), planning.Timing("2-8-8-1", 105, 0.02, 0.02, 0.003))
    monkeypatch.setattr(planning, "timed_extremes", lambda *_, **__: timings)
    pairs = 80 * 0.003
    small, large = 200 * 0.01 + pairs, 200 * 0.02 + pairs
    start = planning.START_SECONDS
    alone = study(resources={"pack": 1})
    assert plan(alone, 1).seconds == pytest.approx(start + small + large)
    assert plan(alone, 2).seconds == pytest.approx(start + large)
    assert plan(study(resources={"pack": 2}), 2).seconds == pytest.approx(start + small + large)
    padded = plan(study(resources={"pack": 2}, train={**TRAIN, "engine": "torch"}), 2)
    assert padded.seconds == pytest.approx(start + 2 * large)
    estimate = plan(alone, 2)
    assert estimate.seconds_least == pytest.approx(start + 100 * 0.02)
    assert estimate.seconds_most is not None and estimate.seconds is not None
    assert estimate.seconds_least < estimate.seconds < estimate.seconds_most


def test_a_calibration_times_the_smallest_and_the_largest_network() -> None:
    threads = torch.get_num_threads()
    space = {"width": {"choice": [2, 3, 6]}, "depth": {"choice": [1, 2]}}
    estimate = plan(study(space=space, train={**TRAIN, "engine": "torch"}), 2, clock=ticking(0.1))
    assert [timing.layers for timing in estimate.timings] == ["2-2-1", "2-6-6-1"]
    assert [timing.parameters for timing in estimate.timings] == [9, 67]
    assert all(timing.adam_s > 0 and timing.lbfgs_s > 0 and timing.memory_s > 0 for timing in estimate.timings)
    assert torch.get_num_threads() == threads


def test_one_network_is_timed_once() -> None:
    estimate = plan(study(space={"adam_lr": {"choice": [1e-3, 1e-2]}}), 1, clock=ticking(0.1))
    assert [timing.layers for timing in estimate.timings] == ["2-16-16-1"]
    assert estimate.seconds is not None and estimate.seconds > planning.START_SECONDS


def test_a_search_that_learns_is_planned_with_random_points_and_says_so() -> None:
    estimate = counted(study(search={"sampler": "tpe", "trials": 30}, space={"width": {"int": [4, 64]}}))
    assert estimate.trials == 30
    assert "tpe will choose other configurations" in estimate.how_sure


def test_a_large_study_is_looked_at_in_part() -> None:
    spec = study(search={"sampler": "random", "trials": 10_000}, space={"adam_lr": {"uniform": [1, 2]}})
    estimate = counted(spec)
    assert estimate.trials == 10_000
    assert estimate.packs == 2500
    assert estimate.evaluations == 10_000 * 200
    assert "only the first 1000 of 10000 trials" in estimate.how_sure


def test_a_budget_that_does_not_suffice_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = planning.Timing("2-8-8-1", 105, 60.0, 60.0, 0.0)
    monkeypatch.setattr(planning, "timed_extremes", lambda *_, **__: (slow, slow))
    notes = plan(study(budget={"hours": 1}), 1).notes
    assert "budget.hours 1 will end the study before its last trial" in notes
    assert not any("budget" in note for note in plan(study(), 1).notes)


def test_the_text_says_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    timings = (planning.Timing("2-4-4-1", 37, 0.01, 0.01, 0.0), planning.Timing("2-8-8-1", 105, 0.02, 0.02, 0.0))
    monkeypatch.setattr(planning, "timed_extremes", lambda *_, **__: timings)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    text = render(plan(study(), 2))
    for line in (
        "Study s",
        "Trials           2 by grid",
        "Packs            2 of one member each, 2 at once on cpu",
        "Evaluations      about 400 of loss and gradient",
        f"Memory           about {PROCESS_MB + 1} MB a pack, {2 * (PROCESS_MB + 1):,} MB at once",
        "Time             about 12 s; 10 s if L-BFGS stops at once, 15 s if its line searches are long",
        "Start-up         about 8 s of the time, until the first network trains: Ray and a worker start",
        "How sure         within a factor of two: L-BFGS may stop early, and its line searches vary; the machine was "
        "timed as it is now, with one pack at a time",
        "Network 2-4-4-1  37 parameters, 10 ms an evaluation in Adam, 10 ms in L-BFGS",
    ):
        assert line in text.splitlines()
    assert "Note: 6400 Gauss points, 82 left/right and 82 bottom/top nodes" in text
    assert "Time         not estimated (no calibration)" in render(counted(study())).splitlines()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_a_study_for_a_gpu_is_counted_where_there_is_none() -> None:
    estimate = plan(study(resources={"device": "cuda"}), 2)
    assert estimate.device == "cuda" and estimate.seconds is None
    assert "this machine has no GPU, so nothing can be timed here" in estimate.notes
    wide = plan(study(space={"width": {"choice": [40]}}, train={"dtype": "float32"}, resources={"device": "cuda"}), 2)
    assert any("engine torch: width 40 is more than 24" in note for note in wide.notes)


def test_the_packs_of_a_gpu_are_of_the_size_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = study(search={"trials": 400}, resources={"device": "cuda"})
    assert counted(spec).members_per_pack == 64
    monkeypatch.setattr(planning, "measured_size", lambda spec, device, measure: 256)
    assert counted(spec).members_per_pack == 256
    small = study(search={"trials": 40}, resources={"device": "cuda"})
    assert counted(small).members_per_pack == 40, "there are no more members"


def test_a_gpu_chosen_by_its_index_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(planning, "gpu_of", lambda device: None)
    monkeypatch.setattr(planning, "measured_size", lambda spec, device, measure: None)
    search, numbered = {"trials": 400}, {"device": "cuda:1"}
    assert counted(study(search=search, resources={"device": "cuda"}), 8).packs_at_once == 4
    assert counted(study(search=search, resources=numbered), 8).packs_at_once == 1
    assert counted(study(search=search, resources={**numbered, "gpus_per_pack": 0.5}), 8).packs_at_once == 2


def test_a_plan_is_plain_values() -> None:
    estimate = counted(study(search={"sampler": "random", "trials": 2, "objective": "loss"}))
    assert json.loads(json.dumps(dataclasses.asdict(estimate)))["study"] == "s"
    assert estimate.seconds is None and estimate.timings == ()
    assert any("does not rank" in warning for warning in estimate.warnings)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2, "3 s"), (89, "89 s"), (90, "2 min"), (700, "12 min"), (5400, "1.5 h"), (90_000, "25.0 h")],
)
def test_durations_are_in_their_usual_units(seconds: float, text: str) -> None:
    assert planning._duration(seconds) == text
