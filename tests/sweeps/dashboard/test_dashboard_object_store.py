"""The dashboard on a study whose results are in an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.study.home import local
from sweeps.study.loading import load_spec

from ..object_store import root as root
from ..object_store import s3 as s3
from ..object_store import store as store
from ..small import prepare, train_all, write_study

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (pip install 'pinnsweep[dashboard]')")


@pytest.mark.slow
def test_its_trials_and_pictures_are_shown(root: str, tmp_path: Path) -> None:
    from sweeps.dashboard.pictures import trial_picture
    from sweeps.dashboard.storage import StudyStorage

    spec = load_spec(write_study(tmp_path, trials=2, epochs=4, iterations=2), [f"state={tmp_path / 'state'}"])
    train_all(prepare(Path(root), spec)[0], spec=spec).close()
    storage = StudyStorage(local(Path(f"{root}/small")))
    trials = storage.get_all_trials(1)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert all(trial.values == [trial.user_attrs["rel_l2"]] for trial in trials)
    assert trial_picture(storage.tables, "error", 1, 0).startswith(b"\x89PNG")
