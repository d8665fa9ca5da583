"""The dashboard on a study whose database is a PostgreSQL server that holds others too."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..invoking import made_study
from ..storage.test_postgres import pytestmark as pytestmark
from ..storage.test_postgres import server as server
from ..storage.test_postgres import url as url

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (pip install 'pinnsweep[dashboard]')")


def test_it_shows_its_own_study_alone(url: str, tmp_path: Path) -> None:
    from sweeps.dashboard.storage import StudyStorage

    made_study(tmp_path, "first", lines=f"state: {url}\n")
    states = ("COMPLETE", "RUNNING", "WAITING")
    storage = StudyStorage(made_study(tmp_path, "second", states, lines=f"state: {url}\n"))
    (study,) = storage.get_all_studies()
    assert study.study_name == "second" and storage.get_study_id_from_name("second") == study._study_id
    trials = storage.get_all_trials(study._study_id)
    assert [(trial.number, trial.state.name) for trial in trials] == list(enumerate(states)), "it may run elsewhere"
    assert trials[0].values == [10.0] and trials[0].datetime_complete is not None
    with pytest.raises(KeyError):
        storage.get_all_trials(study._study_id - 1)
