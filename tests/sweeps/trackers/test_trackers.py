"""One contract, every tracker: what a study has, its tracker has, each run once, whatever happened before."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.spec.sections import TrackSettings
from sweeps.storage.tables import StudyTables
from sweeps.trackers.member_runs import finished_keys, member_runs
from sweeps.trackers.opening import tracker_of
from sweeps.trackers.tracker import Tracker

from ..trained_studies import EXPLODING, PLAIN, REPEATED, every_end
from .reading import Read, of_mlflow, of_tensorboard, of_wandb

Reader = Callable[[], dict[str, Read]]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_end(tmp_path_factory)


@pytest.fixture
def study_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of the study, beside which a tracker may write."""
    return Path(shutil.copytree(trained, tmp_path / "root" / "small"))


@pytest.fixture(params=["tensorboard", "mlflow folder", "mlflow", "wandb"])
def opened(request: pytest.FixtureRequest, study_dir: Path) -> Iterator[tuple[Callable[[], Tracker], Reader]]:
    """A tracker in its form without a network, opened anew by each call, and what reads it back."""
    name, _, form = request.param.partition(" ")
    folder = study_dir.parent / "mlruns"
    given: dict[str, Any] = {"mlflow": {"uri": folder.as_uri()} if form else {}, "wandb": {"mode": "offline"}}
    settings = TrackSettings.model_validate({name: given.get(name, {})}).chosen[name]
    uri = folder.as_uri() if form else f"sqlite:///{study_dir.parent}/mlflow.db"
    readers: dict[str, Reader] = {
        "tensorboard": lambda: of_tensorboard(study_dir / "tensorboard"),
        "mlflow": lambda: of_mlflow(uri, "small"),
        "wandb": lambda: of_wandb(study_dir / "wandb"),
    }
    trackers: list[Tracker] = []

    def open_one() -> Tracker:
        trackers.append(tracker_of(settings, study_dir, "small"))
        return trackers[-1]

    yield open_one, readers[name]
    for tracker in trackers:
        tracker.close()


def test_a_tracker_has_every_run_once_however_often_it_is_sent(
    opened: tuple[Callable[[], Tracker], Reader], study_dir: Path
) -> None:
    open_one, read = opened
    tables = StudyTables(study_dir)
    keys = finished_keys(tables)
    runs = list(member_runs(tables, "small", keys, numbered=False))
    tracker = open_one()
    assert str(study_dir.parent) in tracker.place
    for run in runs:
        tracker.log(run)
    for run in runs[:2]:  # as a process does that was killed before it noted them
        open_one().log(run)
    found = read()
    assert sorted(found) == [f"small/{trial}" for trial, _ in keys]
    for run in runs:
        seen = found[run.name]
        assert seen.state == run.state
        assert seen.settings["width"] in (str(run.settings["width"]), str(float(run.settings["width"])))
        assert seen.settings.keys() == run.settings.keys()
        assert seen.metrics == pytest.approx(dict(run.metrics), rel=1e-6)  # TensorBoard has float32
        assert seen.curves.keys() == {f"curves/{name}" for name in run.curves}
        for name, curve in run.curves.items():
            expected = dict(zip(curve.evaluations, curve.values, strict=True))
            assert seen.curves[f"curves/{name}"] == pytest.approx(expected, rel=1e-6)


def test_a_run_is_what_the_tables_say(study_dir: Path) -> None:
    tables = StudyTables(study_dir)
    runs = {run.name: run for run in member_runs(tables, "small", finished_keys(tables), numbered=False)}
    rows = {row["trial"]: row for row in tables.read("trials").to_pylist()}
    plain, failed, copied = (runs[f"small/{trial}"] for trial in (PLAIN, EXPLODING, REPEATED))
    row = rows[PLAIN]
    assert (plain.metrics["rel_l2"], plain.metrics["seconds"]) == (row["rel_l2"], row["seconds"])
    assert (plain.settings["adam_lr"], plain.settings["inputs"], plain.settings["problem"]) == (
        0.01,
        '["x", "y"]',
        "nonlocal_strain",
    )
    assert plain.words["stop_reason"] == row["stop_reason"] and plain.words["seed"] == str(row["seed"])
    assert not {"trial", "seed", "pack", "attempt"} & plain.metrics.keys()
    assert plain.curves["rel_l2"].evaluations[0] == 1 and len(plain.curves["loss"].values) > 3
    assert plain.settings.keys() & plain.metrics.keys() == set()
    assert (failed.state, failed.failure) == ("FAIL", rows[EXPLODING]["failure"]) and failed.failure
    assert all(map(math.isfinite, failed.metrics.values()))
    assert copied.words["duplicate_of"] == str(PLAIN) and copied.curves == {}
    assert len({run.key for run in runs.values()}) == len(runs)


def test_replicates_have_names_of_their_own(study_dir: Path) -> None:
    tables = StudyTables(study_dir)
    (run,) = member_runs(tables, "small", [(PLAIN, 0)], numbered=True)
    assert run.name == f"small/{PLAIN}.0" and run.key.endswith(f"-{PLAIN}-0")


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(**settings: Any) -> str:
        (chosen,) = TrackSettings.model_validate(settings).chosen.values()
        return tracker_of(chosen, tmp_path / "s", "s").place

    assert place(tensorboard={"folder": "/logs"}) == "/logs"
    assert place(wandb={"project": "p", "entity": "e"}) == "e/p"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert place(wandb={}) == f"pinnsweep, offline in {tmp_path}/s/wandb"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    assert place(mlflow={}) == "http://me:***@host:5000, experiment s"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert place(mlflow={"experiment": "e"}) == f"sqlite:///{tmp_path}/mlflow.db, experiment e"
