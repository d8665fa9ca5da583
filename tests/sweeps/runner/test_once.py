"""From the study file to the first lease, each thing is done once: the file parsed, the data read, trials set up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinncore.data import loading as loading_data
from sweeps.owner import packing, proposer
from sweeps.owner.capacity import ClusterCapacity
from sweeps.owner.owner import StudyOwner
from sweeps.runner import driver
from sweeps.runner.pack_run import PackRun
from sweeps.spec import study_spec
from sweeps.study import loading
from sweeps.study.folder import open_folder

from ..small import MACHINES, kill, run_all, write_study


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the costly steps were taken."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    count(loading, "parse_spec")
    count(loading_data, "_read_files")
    count(proposer, "config_sha256")
    count(packing, "build_settings")
    count(study_spec, "_sha256")
    loading_data._read.cache_clear()
    return counted


def until_first_lease(target: Path, root: Path) -> StudyOwner:
    """Do what `pinnsweep run` does until a worker has built its first pack, in one process."""
    spec, root = driver._study(target, root, [])
    study_dir, _ = open_folder(root, spec)
    owner = StudyOwner(study_dir, ClusterCapacity(MACHINES.places, MACHINES.device), spec, offered=1)
    task = owner.lease(1)
    assert task.members
    PackRun(task, study_dir)
    return owner


def test_a_new_study(tmp_path: Path, counts: Counter[str]) -> None:
    owner = until_first_lease(write_study(tmp_path / "data", trials=8), tmp_path / "runs")
    kill(owner)
    entered = owner.snapshot().counts["WAITING"] + owner.snapshot().counts["RUNNING"]
    assert entered == 8
    assert counts == {
        "parse_spec": 1,
        "_read_files": 1,
        "config_sha256": entered,
        "build_settings": entered,
        "_sha256": entered + 1,  # and that of the study file
    }


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_study_that_goes_on(tmp_path: Path, counts: Counter[str], by: str) -> None:
    file, root = write_study(tmp_path / "data", trials=8), tmp_path / "runs"
    kill(until_first_lease(file, root))
    counts.clear()
    loading_data._read.cache_clear()
    kill(until_first_lease(file if by == "file" else root / "small", root))
    assert counts["parse_spec"] == 1 and counts["_read_files"] == 1
    assert counts["config_sha256"] == 0, "it is in the database"
    run_all(root / "small")
